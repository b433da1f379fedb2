"""Remember what was measured, and every object that states it."""

import sqlalchemy as sa
from alembic import op

revision = "m0008_results"
down_revision = "m0007_switches_and_routes"

_UID = sa.String(64)


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "measurement",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("series_instance_uid", _UID, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("source_series_uid", _UID, nullable=False),
        sa.Column("study_instance_uid", _UID, nullable=False),
        sa.Column("study_date", sa.Date()),
        sa.Column("patient_key", sa.String(64), nullable=False),
        sa.Column("by_reader", sa.Boolean(), nullable=False),
        sa.Column("measurement", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_measurement"),
    )
    origin = ["series_instance_uid", "revision", "version"]
    op.create_index("ix_measurement_series_instance_uid", "measurement", origin, unique=True)
    op.create_index("ix_measurement_source_series_uid", "measurement", ["source_series_uid"])
    op.create_index("ix_measurement_patient_key", "measurement", ["patient_key"])
    op.create_table(
        "result",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("sop_instance_uid", _UID, nullable=False),
        sa.Column("sop_class_uid", _UID, nullable=False),
        sa.Column("series_instance_uid", _UID, nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("origin_series_uid", _UID, nullable=False),
        sa.Column("origin_revision", sa.Integer(), nullable=False),
        sa.Column("origin_version", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_result"),
    )
    op.create_index("ix_result_sop_instance_uid", "result", ["sop_instance_uid"], unique=True)
    op.create_index("ix_result_origin_series_uid", "result", ["origin_series_uid"])


def downgrade() -> None:
    """Drop both tables."""
    for table in ("result", "measurement"):
        op.drop_table(table)

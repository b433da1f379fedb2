"""Create the tables of the first version."""

import sqlalchemy as sa
from alembic import op

revision = "m0001"
down_revision = None

_UID = sa.String(64)
_AE_TITLE = sa.String(16)
_WORD = sa.String(32)
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create everything."""
    _create_series()
    _create_instance()
    _create_history()
    _create_delivery()


def downgrade() -> None:
    """Drop everything."""
    for table in ("delivery", "history", "instance", "series"):
        op.drop_table(table)


def _create_series() -> None:
    op.create_table(
        "series",
        sa.Column("series_instance_uid", _UID, nullable=False),
        sa.Column("study_instance_uid", _UID, nullable=False),
        sa.Column("state", _WORD, nullable=False),
        sa.Column("reason_code", _WORD),
        sa.Column("reason_message", sa.Text()),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("instance_count", sa.Integer(), nullable=False),
        sa.Column("source_ae_title", _AE_TITLE, nullable=False),
        sa.Column("patient_key", sa.String(64), nullable=False),
        sa.Column("first_received_at", _TIME, nullable=False),
        sa.Column("last_received_at", _TIME, nullable=False),
        sa.Column("revision_started_at", _TIME, nullable=False),
        sa.Column("due_at", _TIME),
        sa.Column("queued_at", _TIME),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("series_instance_uid", name="pk_series"),
    )
    op.create_index("ix_series_state", "series", ["state", "due_at"])
    op.create_index("ix_series_last_received_at", "series", ["last_received_at"])


def _create_instance() -> None:
    op.create_table(
        "instance",
        sa.Column("sop_instance_uid", _UID, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("sop_class_uid", _UID, nullable=False),
        sa.Column("series_instance_uid", _UID, nullable=False),
        sa.Column("study_instance_uid", _UID, nullable=False),
        sa.Column("transfer_syntax_uid", _UID, nullable=False),
        sa.Column("calling_ae_title", _AE_TITLE, nullable=False),
        sa.Column("sender_address", sa.String(64), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("patient_key", sa.String(64), nullable=False),
        sa.Column("received_at", _TIME, nullable=False),
        _of_series("instance"),
        sa.PrimaryKeyConstraint("sop_instance_uid", "sha256", name="pk_instance"),
    )
    op.create_index("ix_instance_series_instance_uid", "instance", ["series_instance_uid"])


def _create_history() -> None:
    op.create_table(
        "history",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("series_instance_uid", _UID, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("event", _WORD, nullable=False),
        sa.Column("state", _WORD, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("reason_code", _WORD),
        sa.Column("reason_message", sa.Text()),
        _of_series("history"),
        sa.PrimaryKeyConstraint("number", name="pk_history"),
    )
    op.create_index("ix_history_series_instance_uid", "history", ["series_instance_uid"])


def _create_delivery() -> None:
    op.create_table(
        "delivery",
        sa.Column("sop_instance_uid", _UID, nullable=False),
        sa.Column("destination", _WORD, nullable=False),
        sa.Column("sop_class_uid", _UID, nullable=False),
        sa.Column("transfer_syntax_uid", _UID, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", _UID, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("state", _WORD, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("queued_at", _TIME, nullable=False),
        sa.Column("next_attempt_at", _TIME, nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("detail", sa.Text(), nullable=False),
        _of_series("delivery"),
        sa.PrimaryKeyConstraint("sop_instance_uid", "destination", name="pk_delivery"),
    )
    op.create_index("ix_delivery_series_instance_uid", "delivery", ["series_instance_uid"])
    op.create_index("ix_delivery_state", "delivery", ["state", "next_attempt_at"])


def _of_series(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["series_instance_uid"],
        ["series.series_instance_uid"],
        name=f"fk_{table}_series_instance_uid",
    )

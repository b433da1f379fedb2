"""Keep the outcome of each series for trends, and when each peer was last verified."""

import sqlalchemy as sa
from alembic import op

revision = "m0005_findings"
down_revision = "m0004_retention"

_WORD = sa.String(32)


def upgrade() -> None:
    """Add both tables, empty: what was measured before is in no trend."""
    op.create_table(
        "finding",
        sa.Column("series_instance_uid", sa.String(64), nullable=False),
        sa.Column("month", sa.String(7), nullable=False),
        sa.Column("source_ae_title", sa.String(16), nullable=False),
        sa.Column("kind", _WORD, nullable=False),
        sa.Column("code", _WORD),
        sa.Column("muscle_cm2", sa.Float()),
        sa.PrimaryKeyConstraint("series_instance_uid", name="pk_finding"),
    )
    op.create_index(
        "ix_finding_month", "finding", ["month", "source_ae_title", "kind", "muscle_cm2"]
    )
    op.create_table(
        "echo",
        sa.Column("peer", _WORD, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("complaint", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("peer", name="pk_echo"),
    )


def downgrade() -> None:
    """Drop both."""
    op.drop_table("echo")
    op.drop_table("finding")

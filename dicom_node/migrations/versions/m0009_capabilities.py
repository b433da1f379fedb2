"""Remember what each PACS said that it accepts."""

import sqlalchemy as sa
from alembic import op

revision = "m0009_capabilities"
down_revision = "m0008_results"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "capability",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("destination", sa.String(32), nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("sop_class_uid", sa.String(64), nullable=False),
        sa.Column("transfer_syntax_uid", sa.String(64), nullable=False),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_capability"),
    )
    op.create_index("ix_capability_destination", "capability", ["destination"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("capability")

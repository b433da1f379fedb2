"""Keep what a PACS says of the completeness of a series."""

import sqlalchemy as sa
from alembic import op

revision = "m0006_proof"
down_revision = "m0005_findings"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "proof",
        sa.Column("series_instance_uid", sa.String(64), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.Column("sentence", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["series_instance_uid"],
            ["series.series_instance_uid"],
            name="fk_proof_series_instance_uid",
        ),
        sa.PrimaryKeyConstraint("series_instance_uid", "revision", name="pk_proof"),
    )


def downgrade() -> None:
    """Drop it again."""
    op.drop_table("proof")

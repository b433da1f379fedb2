"""Keep what was found in a PACS of earlier results of a patient."""

import sqlalchemy as sa
from alembic import op

revision = "m0010_prior_search"
down_revision = "m0009_capabilities"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "prior_search",
        sa.Column("series_instance_uid", sa.String(64), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.Column("sentence", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("found", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["series_instance_uid"],
            ["series.series_instance_uid"],
            name="fk_prior_search_series_instance_uid",
        ),
        sa.PrimaryKeyConstraint("series_instance_uid", "revision", name="pk_prior_search"),
    )


def downgrade() -> None:
    """Drop it again."""
    op.drop_table("prior_search")

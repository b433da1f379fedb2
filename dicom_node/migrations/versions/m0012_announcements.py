"""Keep what peers announce of the images of a series."""

import sqlalchemy as sa
from alembic import op

revision = "m0012_announcements"
down_revision = "m0011_models"


def upgrade() -> None:
    """Create the table: nothing was announced before."""
    op.create_table(
        "announcement",
        sa.Column("series_instance_uid", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("said_by", sa.String(16), nullable=False),
        sa.Column("said_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("image_count", sa.Integer(), nullable=False),
        sa.Column("sop_instance_uids", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("series_instance_uid", name="pk_announcement"),
    )


def downgrade() -> None:
    """Forget them: the quiet period decides again."""
    op.drop_table("announcement")

"""Note when the images of a series were let go."""

import sqlalchemy as sa
from alembic import op

revision = "m0004_retention"
down_revision = "m0003_search_and_pages"


def upgrade() -> None:
    """Add the time; no series of an earlier version was let go."""
    with op.batch_alter_table("series") as series:
        series.add_column(sa.Column("released_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    """Take it away again."""
    # Not in a batch: SQLite would drop and copy a table that others refer to.
    op.drop_column("series", "released_at")

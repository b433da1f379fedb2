"""Let people pause the node and drop series; keep what the rules decided."""

import sqlalchemy as sa
from alembic import op

revision = "m0007_switches_and_routes"
down_revision = "m0006_proof"


def upgrade() -> None:
    """Add the switches, and the routes of series that the rules have seen."""
    op.create_table(
        "switch",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("set_by", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_switch"),
    )
    op.add_column("series", sa.Column("route", sa.Text()))


def downgrade() -> None:
    """Forget them; a dropped series was given up, so it failed."""
    op.execute("UPDATE series SET state = 'failed' WHERE state = 'dropped'")
    op.execute("UPDATE history SET state = 'failed' WHERE state = 'dropped'")
    op.drop_column("series", "route")
    op.drop_table("switch")

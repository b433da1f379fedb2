"""Number the orders, keep commitments and alarms."""

import sqlalchemy as sa
from alembic import op

revision = "m0002_custody"
down_revision = "m0001"

_UID = sa.String(64)
_WORD = sa.String(32)
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add what is new; what was sent before counts as order 0."""
    with op.batch_alter_table("series") as series:
        series.add_column(
            sa.Column("order_number", sa.Integer(), nullable=False, server_default="0")
        )
    with op.batch_alter_table("delivery") as delivery:
        delivery.add_column(sa.Column("transaction_uid", _UID))
    _create_commitment()
    _create_alarm()


def downgrade() -> None:
    """Take it away again; what was sent is queued, what was committed is accepted."""
    delivery = sa.table("delivery", sa.column("state"))
    for before, after in (("sent", "queued"), ("committed", "accepted"), ("refused", "dead")):
        op.execute(sa.update(delivery).where(delivery.c.state == before).values(state=after))
    for name in ("series", "history"):
        table = sa.table(name, sa.column("state"))
        partly = table.c.state == "partly_delivered"
        op.execute(sa.update(table).where(partly).values(state="failed"))
    op.drop_table("alarm")
    op.drop_table("commitment")
    # Not in batches: SQLite would drop and copy a table that others refer to.
    op.drop_column("delivery", "transaction_uid")
    op.drop_column("series", "order_number")


def _create_commitment() -> None:
    op.create_table(
        "commitment",
        sa.Column("transaction_uid", _UID, nullable=False),
        sa.Column("sop_instance_uid", _UID, nullable=False),
        sa.Column("destination", _WORD, nullable=False),
        sa.Column("requested_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("transaction_uid", "sop_instance_uid", name="pk_commitment"),
    )
    op.create_index("ix_commitment_sop_instance_uid", "commitment", ["sop_instance_uid"])


def _create_alarm() -> None:
    op.create_table(
        "alarm",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("code", _WORD, nullable=False),
        sa.Column("subject", _UID, nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("raised_at", _TIME, nullable=False),
        sa.Column("last_at", _TIME, nullable=False),
        sa.Column("occurrences", sa.Integer(), nullable=False),
        sa.Column("cleared_at", _TIME),
        sa.PrimaryKeyConstraint("number", name="pk_alarm"),
    )
    op.create_index("ix_alarm_cleared_at", "alarm", ["cleared_at"])

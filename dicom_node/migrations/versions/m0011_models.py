"""Remember which model is used, which series asks for another one, and what shadows measured."""

import sqlalchemy as sa
from alembic import op

revision = "m0011_models"
down_revision = "m0010_prior_search"


def upgrade() -> None:
    """Create the tables; series of before ask for the active model."""
    op.create_table(
        "model_use",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_by", sa.String(64), nullable=False),
        sa.Column("because", sa.Text(), nullable=False),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True)),
        sa.Column("withdrawn_by", sa.String(64)),
        sa.PrimaryKeyConstraint("number", name="pk_model_use"),
    )
    op.create_table(
        "shadow",
        sa.Column("series_instance_uid", sa.String(64), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("asked_by", sa.String(64), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True)),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("reason_code", sa.String(32)),
        sa.Column("reason_message", sa.Text()),
        sa.Column("measurement", sa.Text()),
        sa.PrimaryKeyConstraint("series_instance_uid", "revision", "model", name="pk_shadow"),
    )
    op.create_index("ix_shadow_state", "shadow", ["state", "asked_at"])
    op.create_index("ix_shadow_model", "shadow", ["model"])
    op.add_column("series", sa.Column("model", sa.String(128)))


def downgrade() -> None:
    """Forget them: the settings of the earlier version name its model."""
    op.drop_column("series", "model")
    op.drop_table("shadow")
    op.drop_table("model_use")

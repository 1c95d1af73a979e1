"""Events of accounts are posted to their webhooks

Revision: 0015, after 0014
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_ID = sa.String(36)


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "webhooks",
        sa.Column("id", _ID, nullable=False),
        sa.Column("account_id", _ID, nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("event_types", sa.BigInteger(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
    )
    op.create_index("ix_webhooks_account_id", "webhooks", ["account_id"])
    op.create_table(
        "deliveries",
        sa.Column(
            "position",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("id", _ID, nullable=False),
        sa.Column("account_id", _ID, nullable=False),
        sa.Column("webhook_id", _ID, nullable=False),
        sa.Column("event_type", sa.BigInteger(), nullable=False),
        sa.Column("conversation_id", _ID, nullable=False),
        sa.Column("conversation_external_id", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("next_attempt_time", sa.BigInteger(), nullable=False),
        sa.Column("dead_time", sa.BigInteger(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_deliveries"),
        sa.UniqueConstraint("id", name="uq_deliveries_id"),
    )
    op.create_index("ix_deliveries_account_id", "deliveries", ["account_id"])
    is_live, is_dead = sa.text("dead_time IS NULL"), sa.text("dead_time IS NOT NULL")
    op.create_index(
        "ix_deliveries_due",
        "deliveries",
        ["webhook_id", "next_attempt_time", "position"],
        sqlite_where=is_live,
        postgresql_where=is_live,
    )
    op.create_index(
        "ix_deliveries_order",
        "deliveries",
        ["webhook_id", "conversation_id", "position"],
        sqlite_where=is_live,
        postgresql_where=is_live,
    )
    op.create_index(
        "ix_deliveries_dead",
        "deliveries",
        ["account_id", "position"],
        sqlite_where=is_dead,
        postgresql_where=is_dead,
    )


def downgrade() -> None:
    """Takes them away, with what was not delivered."""
    op.drop_table("deliveries")
    op.drop_table("webhooks")
    op.execute("UPDATE quotas SET features = features & ~2")  # Feature.WEBHOOKS

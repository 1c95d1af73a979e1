"""What is used is counted by day, and budgets limit it

Revision: 0012, after 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_ASKED_BY = "asked_by IS NOT NULL"


def upgrade() -> None:
    """Makes the tables, and the column for who asked for a reply anew. What was used before stays
    uncounted: nobody noted then with which key."""
    op.add_column("messages", sa.Column("asked_by", sa.String(36), nullable=True))
    op.create_index(
        "ix_messages_asked_by",
        "messages",
        ["asked_by"],
        sqlite_where=sa.text(_ASKED_BY),
        postgresql_where=sa.text(_ASKED_BY),
    )
    op.create_table(
        "usage_days",
        _id("account_id"),
        _number("day"),
        _id("user_id"),
        _id("api_key_id"),
        sa.Column("model", sa.Text(), nullable=False),
        *map(_number, ("replies", "input_tokens", "cached_tokens", "output_tokens")),
        *map(_number, ("cost_nanos", "estimated_tokens")),
        sa.PrimaryKeyConstraint(
            "account_id", "day", "user_id", "api_key_id", "model", name="pk_usage_days"
        ),
    )
    op.create_index(
        "ix_usage_days_account_id_user_id_day", "usage_days", ["account_id", "user_id", "day"]
    )
    op.create_table(
        "budgets",
        _id("id"),
        _id("user_id"),
        _id("api_key_id"),
        sa.Column("model", sa.Text(), nullable=False),
        _number("period"),
        _number("unit"),
        sa.Column("max_amount", sa.Float(53), nullable=False),
        _id("account_id"),
        sa.PrimaryKeyConstraint("id", name="pk_budgets"),
        sa.UniqueConstraint(
            *("account_id", "user_id", "api_key_id", "model", "period", "unit"),
            name="uq_budgets_account_id_user_id_api_key_id_model_period_unit",
        ),
    )
    op.create_table(
        "budget_periods",
        _id("budget_id"),
        *map(_number, ("start", "used", "reserved", "told")),
        _id("account_id"),
        sa.PrimaryKeyConstraint("budget_id", "start", name="pk_budget_periods"),
    )
    op.create_index("ix_budget_periods_account_id", "budget_periods", ["account_id"])
    op.create_table(
        "reservations",
        _id("message_id"),
        _id("budget_id"),
        *map(_number, ("start", "amount")),
        _id("account_id"),
        sa.PrimaryKeyConstraint("message_id", "budget_id", name="pk_reservations"),
    )
    op.create_index("ix_reservations_account_id", "reservations", ["account_id"])
    op.create_index("ix_reservations_budget_id_start", "reservations", ["budget_id", "start"])


def _id(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(36), nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def downgrade() -> None:
    """Forgets what was used, and the budgets; accounts have none any more."""
    for table in ("reservations", "budget_periods", "budgets", "usage_days"):
        op.drop_table(table)
    op.drop_index("ix_messages_asked_by", "messages")
    op.drop_column("messages", "asked_by")
    op.execute("UPDATE quotas SET features = features - 1 WHERE features % 2 = 1")

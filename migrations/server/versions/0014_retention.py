"""Conversations end at their time, or when an account says that they are old

Revision: 0014, after 0013
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_INDICES = {
    "ix_accounts_retention": ("accounts", "id", "retention_days > 0"),
    "ix_conversations_expiring": ("conversations", "expire_time", "expire_time IS NOT NULL"),
}


def upgrade() -> None:
    """Adds the columns: nothing ends by itself yet."""
    op.add_column(
        "accounts", sa.Column("retention_days", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.add_column("conversations", sa.Column("expire_time", sa.BigInteger(), nullable=True))
    for name, (table, column, condition) in _INDICES.items():
        where = sa.text(condition)
        op.create_index(name, table, [column], sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """Takes them away."""
    for name, (table, _, _) in _INDICES.items():
        op.drop_index(name, table_name=table)
    op.drop_column("conversations", "expire_time")
    op.drop_column("accounts", "retention_days")

"""Indices on who said, rated and holds what: without them deleting a user reads all messages

Revision: 0003, after 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_USERS = ("author_id", "rated_by")


def upgrade() -> None:
    """Makes the indices."""
    for column in _USERS:
        known = sa.text(f"{column} IS NOT NULL")
        op.create_index(
            f"ix_messages_{column}",
            "messages",
            [column],
            sqlite_where=known,
            postgresql_where=known,
        )
    op.create_index("ix_api_keys_user_id", "api_keys", ["user_id"])


def downgrade() -> None:
    """Drops them."""
    op.drop_index("ix_api_keys_user_id", "api_keys")
    for column in _USERS:
        op.drop_index(f"ix_messages_{column}", "messages")

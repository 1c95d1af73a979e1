"""Messages may be deleted one by one, and users with all that they said

Revision: 0008, after 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_TITLES = """
    UPDATE conversations SET title_of = (
        SELECT reply_to FROM messages
        WHERE conversation_id = conversations.id AND role = 2 AND state = 3
        ORDER BY position LIMIT 1
    ) WHERE title != '' AND NOT title_by_user
"""
"""A title was made of the first finished exchange."""


def upgrade() -> None:
    """Makes the columns, and fills them from what there is."""
    op.add_column("messages", _flag("deleted"))
    op.add_column(
        "conversations",
        sa.Column("last_position", sa.BigInteger(), nullable=False, server_default="0"),
    )
    op.execute("UPDATE conversations SET last_position = message_count")
    op.add_column("conversations", sa.Column("title_of", sa.String(36), nullable=True))
    op.execute(_TITLES)
    op.add_column("users", _flag("is_leaving"))
    op.create_index(
        "ix_users_leaving",
        "users",
        ["id"],
        sqlite_where=sa.text("is_leaving = 1"),
        postgresql_where=sa.text("is_leaving"),
    )


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false())


def downgrade() -> None:
    """Takes away the rows of deleted messages too, which would be shown as empty ones."""
    op.execute("DELETE FROM messages WHERE deleted")
    op.execute("UPDATE conversations SET message_count = last_position")
    op.drop_index("ix_users_leaving", "users")
    op.drop_column("users", "is_leaving")
    op.drop_column("conversations", "title_of")
    op.drop_column("conversations", "last_position")
    op.drop_column("messages", "deleted")

"""Search is told of messages after they are stored: how far each conversation is searchable

Revision: 0004, after 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from colloquy_server.database.repository import indexing
from colloquy_server.database.transactions import EVERY_ACCOUNT, Session

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_DUE = sa.text("version > searchable_version")


def upgrade() -> None:
    """Makes the column and its index. What was said so far is searchable already."""
    op.add_column(
        "conversations",
        sa.Column("searchable_version", sa.BigInteger(), nullable=False, server_default="1"),
    )
    op.execute("UPDATE conversations SET searchable_version = version")
    op.create_index(
        "ix_conversations_unsearchable",
        "conversations",
        ["activity_time"],
        sqlite_where=_DUE,
        postgresql_where=_DUE,
    )


def downgrade() -> None:
    """Enters what still waits for it, as nobody would do so later, and drops both."""
    with Session(op.get_bind(), EVERY_ACCOUNT) as session:
        while (batch := indexing.due(session)).reached:
            indexing.enter(session, batch.entries())
            indexing.mark(session, batch.reached)
    op.drop_index("ix_conversations_unsearchable", "conversations")
    op.drop_column("conversations", "searchable_version")

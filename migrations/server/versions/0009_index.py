"""An index of conversations that lives: archived and pinned ones, what is unread, what has changed

Revision: 0009, after 0008
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from colloquy_server.database.tokenizer import joined_words
from colloquy_server.database.values import db_now

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_AT_ONCE = 1_000
"""Users whose words are made at a time."""


def upgrade() -> None:
    """Makes the columns and tables. What was said so far is unread to nobody."""
    number = sa.BigInteger()
    op.add_column("conversations", _with_default("archived", sa.Boolean(), sa.false()))
    op.add_column("conversations", _with_default("change_mark", number, "0"))
    op.create_index(
        "ix_conversations_account_id_change_mark", "conversations", ["account_id", "change_mark"]
    )
    op.add_column("users", _with_default("words", sa.Text(), ""))
    op.add_column("users", _with_default("unread_since", number, "0"))
    _fill_users()
    op.create_index("ix_users_account_id_words_id", "users", ["account_id", "words", "id"])
    op.drop_index("ix_messages_author_id", "messages")
    _index_authors("ix_messages_of_author", "author_id", "conversation_id", "position")
    op.create_index(
        "ix_messages_readable",
        "messages",
        ["account_id", "conversation_id", "position", "create_time"],
        sqlite_where=sa.text("state >= 3 AND deleted IS 0 AND superseded IS 0"),
        postgresql_where=sa.text("state >= 3 AND deleted IS FALSE AND superseded IS FALSE"),
    )
    op.create_table(
        "personal_states",
        sa.Column("conversation_id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("account_id", sa.String(36), nullable=False),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("read_position", number, nullable=False),
        sa.Column("change_mark", number, nullable=False),
        sa.PrimaryKeyConstraint("conversation_id", "user_id", name="pk_personal_states"),
        sa.ForeignKeyConstraint(
            ["conversation_id", "account_id"],
            ["conversations.id", "conversations.account_id"],
            name="fk_personal_states_conversation_id_account_id_conversations",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_personal_states_user_id_users", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_personal_states_user_id", "personal_states", ["user_id"])
    op.create_index(
        "ix_personal_states_account_id_change_mark",
        "personal_states",
        ["account_id", "change_mark"],
    )
    op.create_table(
        "conversation_removals",
        sa.Column("conversation_id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("was_open", sa.Boolean(), nullable=False),
        sa.Column("change_mark", number, nullable=False),
        sa.Column("account_id", sa.String(36), nullable=False),
        sa.Column("create_time", number, nullable=False),
        sa.PrimaryKeyConstraint(
            "conversation_id", "user_id", "was_open", "change_mark", name="pk_conversation_removals"
        ),
    )
    op.create_index(
        "ix_conversation_removals_account_id_change_mark",
        "conversation_removals",
        ["account_id", "change_mark"],
    )
    op.create_index(
        "ix_conversation_removals_create_time", "conversation_removals", ["create_time"]
    )


def _with_default(name: str, kind: sa.types.TypeEngine[Any], value: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False, server_default=value)


def _index_authors(name: str, *columns: str) -> None:
    is_said = sa.text("author_id IS NOT NULL")
    op.create_index(name, "messages", list(columns), sqlite_where=is_said, postgresql_where=is_said)


def _fill_users() -> None:
    users = sa.table(
        "users",
        *(sa.column(name) for name in ("id", "display_name", "external_id", "words")),
        sa.column("unread_since", sa.BigInteger()),
    )
    connection = op.get_bind()
    connection.execute(users.update().values(unread_since=db_now()))
    after = ""
    page = sa.select(users.c.id, users.c.display_name, users.c.external_id).order_by(users.c.id)
    while rows := connection.execute(page.where(users.c.id > after).limit(_AT_ONCE)).all():
        connection.execute(
            users.update()
            .where(users.c.id == sa.bindparam("wanted"))
            .values(words=sa.bindparam("made")),
            [
                {"wanted": row.id, "made": joined_words(row.display_name, row.external_id or "")}
                for row in rows
            ],
        )
        after = rows[-1].id


def downgrade() -> None:
    """Drops it all."""
    op.drop_table("conversation_removals")
    op.drop_table("personal_states")
    op.drop_index("ix_messages_readable", "messages")
    op.drop_index("ix_messages_of_author", "messages")
    _index_authors("ix_messages_author_id", "author_id")
    op.drop_index("ix_users_account_id_words_id", "users")
    op.drop_column("users", "unread_since")
    op.drop_column("users", "words")
    op.drop_index("ix_conversations_account_id_change_mark", "conversations")
    op.drop_column("conversations", "change_mark")
    op.drop_column("conversations", "archived")

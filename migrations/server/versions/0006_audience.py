"""Who sees a conversation, who made it, who was removed from it, and whose a file is

Revision: 0006, after 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_ID = sa.String(length=36)
_OF_ACCOUNT = sa.text("visibility = 1")
_OF_CREATOR = sa.text("visibility = 2")
_IS_NAMED = sa.text("own_external_id IS NOT NULL")
_NEW_KEY = ("account_id", "sha256", "uploader_id", "filename")
_OLD_KEY = ("account_id", "sha256", "filename")
_KEPT = (
    "CREATE TEMPORARY TABLE kept_files AS SELECT id, account_id, sha256, filename, content_type,"
    " kind, byte_size, width, height, create_time, touch_time, (SELECT default_user_id"
    " FROM accounts WHERE accounts.id = attachments.account_id) AS uploader_id FROM attachments"
)


def upgrade() -> None:
    """Adds it all. What there is stays seen by the whole account; who wrote first is taken for who
    made it, and a file for that of the account's default user."""
    for table, column in (("accounts", "default_visibility"), ("conversations", "visibility")):
        op.add_column(table, sa.Column(column, sa.BigInteger(), nullable=False, server_default="1"))
    op.add_column("conversations", sa.Column("creator_id", _ID, nullable=True))
    op.add_column("conversations", sa.Column("own_external_id", sa.Text(), nullable=True))
    op.execute(
        "UPDATE conversations SET creator_id = (SELECT author_id FROM messages"
        " WHERE messages.conversation_id = conversations.id AND messages.role = 1"
        " ORDER BY messages.position LIMIT 1)"
    )
    op.create_index(
        "uq_conversations_own_external_id",
        "conversations",
        ["account_id", "own_external_id", "creator_id"],
        unique=True,
        sqlite_where=_IS_NAMED,
        postgresql_where=_IS_NAMED,
    )
    op.create_index(
        "ix_conversations_of_account",
        "conversations",
        ["account_id", "activity_time", "id"],
        sqlite_where=_OF_ACCOUNT,
        postgresql_where=_OF_ACCOUNT,
    )
    op.create_index(
        "ix_conversations_of_creator",
        "conversations",
        ["account_id", "creator_id", "activity_time", "id"],
        sqlite_where=_OF_CREATOR,
        postgresql_where=_OF_CREATOR,
    )
    op.add_column(
        "memberships",
        sa.Column("is_removed", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    if op.get_context().dialect.name == "sqlite":
        _make_files_anew(_NEW_KEY)
        return
    op.add_column("attachments", sa.Column("uploader_id", _ID, nullable=True))
    op.execute(
        "UPDATE attachments SET uploader_id = (SELECT default_user_id FROM accounts"
        " WHERE accounts.id = attachments.account_id)"
    )
    op.alter_column("attachments", "uploader_id", nullable=False)
    _change_key(_OLD_KEY, _NEW_KEY)


def downgrade() -> None:
    """Takes it all away: again everybody in an account sees all that is in it."""
    _join_files()
    if op.get_context().dialect.name == "sqlite":
        _make_files_anew(_OLD_KEY)
    else:
        _change_key(_NEW_KEY, _OLD_KEY)
        op.drop_column("attachments", "uploader_id")
    op.drop_column("memberships", "is_removed")
    op.drop_index("ix_conversations_of_creator", "conversations")
    op.drop_index("ix_conversations_of_account", "conversations")
    op.drop_index("uq_conversations_own_external_id", "conversations")
    for column in ("own_external_id", "creator_id", "visibility"):
        op.drop_column("conversations", column)
    op.drop_column("accounts", "default_visibility")


def _join_files() -> None:
    """Makes one file of those that several people uploaded under one name."""
    op.execute(
        "UPDATE message_attachments SET attachment_id = (SELECT MIN(same.id)"
        " FROM attachments AS had JOIN attachments AS same ON same.account_id = had.account_id"
        " AND same.sha256 = had.sha256 AND same.filename = had.filename"
        " WHERE had.id = message_attachments.attachment_id)"
    )
    op.execute(
        "DELETE FROM attachments WHERE id NOT IN"
        " (SELECT MIN(id) FROM attachments GROUP BY account_id, sha256, filename)"
    )


def _change_key(before: tuple[str, ...], after: tuple[str, ...]) -> None:
    op.drop_constraint(f"uq_attachments_{'_'.join(before)}", "attachments")
    op.create_unique_constraint(f"uq_attachments_{'_'.join(after)}", "attachments", list(after))


def _make_files_anew(key: tuple[str, ...]) -> None:
    """The table with another key, which SQLite cannot change. What refers to its rows minds only
    at the end of the transaction, when they are there again."""
    op.execute("PRAGMA defer_foreign_keys = ON")
    op.execute(_KEPT)
    op.drop_table("attachments")
    files = op.create_table(
        "attachments",
        sa.Column("id", _ID, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False)
            for name in ("kind", "byte_size", "width", "height", "create_time", "touch_time")
        ),
        sa.Column("account_id", _ID, nullable=False),
        *([sa.Column("uploader_id", _ID, nullable=False)] if "uploader_id" in key else []),
        sa.ForeignKeyConstraint(
            ["account_id", "sha256"],
            ["blobs.account_id", "blobs.sha256"],
            name="fk_attachments_account_id_sha256",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_attachments"),
        sa.UniqueConstraint(*key, name=f"uq_attachments_{'_'.join(key)}"),
    )
    kept = sa.table("kept_files", *(sa.column(column.name) for column in files.columns))
    op.execute(files.insert().from_select([*files.columns], sa.select(*kept.columns)))
    op.execute("DROP TABLE kept_files")

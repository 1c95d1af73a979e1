"""Files, what replies were given, and search

Revision: 0002, after 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from colloquy_server.database.models import Message
from colloquy_server.database.repository import indexing
from colloquy_server.database.transactions import EVERY_ACCOUNT, Session

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.String(length=36)
_SHA256 = sa.String(length=64)


def upgrade() -> None:
    """Makes the tables, and enters what was said before into the search."""
    _files()
    op.create_table(
        "receipts",
        sa.Column("message_id", _ID, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("account_id", _ID, nullable=False),
        _of_message("receipts"),
        sa.PrimaryKeyConstraint("message_id", name=op.f("pk_receipts")),
    )
    _search()
    _enter_all()


def _files() -> None:
    op.add_column(
        "messages",
        sa.Column("attachment_count", sa.BigInteger(), nullable=False, server_default="0"),
    )
    op.create_table(
        "blobs",
        sa.Column("account_id", _ID, nullable=False),
        sa.Column("sha256", _SHA256, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("byte_size", sa.BigInteger(), nullable=False),
        sa.Column("is_stored", sa.Boolean(), nullable=False),
        sa.Column("touch_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "sha256", name=op.f("pk_blobs")),
        sa.UniqueConstraint("key", name=op.f("uq_blobs_key")),
    )
    op.create_table(
        "removals",
        sa.Column("key", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_removals")),
    )
    op.create_table(
        "attachments",
        sa.Column("id", _ID, nullable=False),
        sa.Column("sha256", _SHA256, nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("kind", sa.BigInteger(), nullable=False),
        sa.Column("byte_size", sa.BigInteger(), nullable=False),
        sa.Column("width", sa.BigInteger(), nullable=False),
        sa.Column("height", sa.BigInteger(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("touch_time", sa.BigInteger(), nullable=False),
        sa.Column("account_id", _ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id", "sha256"],
            ["blobs.account_id", "blobs.sha256"],
            name=op.f("fk_attachments_account_id_sha256"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attachments")),
        sa.UniqueConstraint(
            "account_id",
            "sha256",
            "filename",
            name=op.f("uq_attachments_account_id_sha256_filename"),
        ),
    )
    op.create_table(
        "message_attachments",
        sa.Column("message_id", _ID, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("attachment_id", _ID, nullable=False),
        sa.Column("account_id", _ID, nullable=False),
        _of_message("message_attachments"),
        sa.ForeignKeyConstraint(
            ["attachment_id"],
            ["attachments.id"],
            name=op.f("fk_message_attachments_attachment_id"),
        ),
        sa.PrimaryKeyConstraint("message_id", "position", name=op.f("pk_message_attachments")),
    )
    op.create_index(
        "ix_message_attachments_attachment_id",
        "message_attachments",
        ["attachment_id"],
        unique=False,
    )
    op.create_table(
        "readings",
        sa.Column("account_id", _ID, nullable=False),
        sa.Column("sha256", _SHA256, nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id", "sha256"],
            ["blobs.account_id", "blobs.sha256"],
            name=op.f("fk_readings_account_id_sha256"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("account_id", "sha256", "content_type", name=op.f("pk_readings")),
    )


def _of_message(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["message_id"], ["messages.id"], name=op.f(f"fk_{table}_message_id"), ondelete="CASCADE"
    )


def _search() -> None:
    op.create_table(
        "search_entries",
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("message_id", _ID, nullable=False),
        sa.Column("conversation_id", _ID, nullable=False),
        sa.Column("account_id", _ID, nullable=False),
        _of_message("search_entries"),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_search_entries")),
        sa.UniqueConstraint("message_id", name=op.f("uq_search_entries_message_id")),
    )
    op.create_index(
        "ix_search_entries_conversation_id", "search_entries", ["conversation_id"], unique=False
    )
    # The words come prepared by the server's tokenizer; `owner` holds the account and the
    # conversation, so that a search does not go through what others said.
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE VIRTUAL TABLE search_words USING fts5(words, owner, tokenize = 'unicode61')"
        )
    else:
        op.execute("CREATE TABLE search_words (number BIGINT PRIMARY KEY, words TSVECTOR NOT NULL)")
        op.execute("CREATE INDEX ix_search_words_words ON search_words USING gin (words)")


def _enter_all() -> None:
    columns = (
        Message.id, Message.account_id, Message.conversation_id, Message.content
    )  # fmt: skip
    finished = sa.select(*columns).where(Message.state >= 3, Message.content != "")
    with Session(op.get_bind(), EVERY_ACCOUNT) as session:
        after = ""
        while True:
            page = finished.where(Message.id > after).order_by(Message.id).limit(100)
            rows = session.execute(page).all()
            texts = tuple(
                indexing.Text(row.id, row.account_id, row.conversation_id, row.content)
                for row in rows
            )
            batch = indexing.Batch(texts, {}, False, session.is_sqlite)
            indexing.enter(session, batch.entries())
            if not rows:
                return
            after = rows[-1].id


def downgrade() -> None:
    """Drops the tables; files stay in the store."""
    for table in (
        "search_words",
        "search_entries",
        "receipts",
        "readings",
        "message_attachments",
        "attachments",
        "removals",
        "blobs",
    ):
        op.drop_table(table)
    op.drop_column("messages", "attachment_count")

"""The tables. Times are microseconds since 1970 by the database's clock; ids are UUIDv7 strings."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.sql.functions import FunctionElement
from uuid_utils import uuid7

MICROS = 1_000_000


class db_now(FunctionElement[int]):
    """The database's clock in microseconds since 1970, not the start of the transaction."""

    type = BigInteger()
    inherit_cache = True


@compiles(db_now)
def _some_now(_element: db_now, _compiler: Any, **_kw: Any) -> str:
    return "db_now()"  # for who looks at a statement, before it is any database's


@compiles(db_now, "sqlite")
def _sqlite_now(_element: db_now, _compiler: Any, **_kw: Any) -> str:
    # 2440587.5 is the Julian day of 1970-01-01T00:00Z; precise to a millisecond.
    return "CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)"


@compiles(db_now, "postgresql")
def _postgresql_now(_element: db_now, _compiler: Any, **_kw: Any) -> str:
    return "CAST(extract(epoch from clock_timestamp()) * 1000000 AS BIGINT)"


class Role(IntEnum):
    """Message.Role of the API, with its numbers."""

    USER = 1
    ASSISTANT = 2
    SYSTEM = 3


class State(IntEnum):
    """Message.State of the API, with its numbers."""

    QUEUED = 1
    GENERATING = 2
    COMPLETED = 3
    FAILED = 4
    CANCELLED = 5


class KeyRole(IntEnum):
    """ApiKey.Role of the API, with its numbers."""

    MEMBER = 1
    SERVICE = 2


Id = String(36)


def new_id() -> str:
    """A UUIDv7: ids made later sort later."""
    return str(uuid7())


class Base(DeclarativeBase):
    """All tables. Constraints have names, so that migrations can change them on any database."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar = {int: BigInteger, str: Text}


class Owned:
    """What belongs to one account. `Database` adds the account to every query of these tables."""

    account_id: Mapped[str] = mapped_column(Id)


class Account(Base):
    """A tenant."""

    __tablename__ = "accounts"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    name: Mapped[str]
    external_id: Mapped[str | None] = mapped_column(unique=True)
    default_user_id: Mapped[str] = mapped_column(Id)
    create_time: Mapped[int]


class User(Owned, Base):
    """A person, known within one account; `external_id` is null for the account's default user."""

    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("account_id", "external_id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    external_id: Mapped[str | None]
    display_name: Mapped[str] = mapped_column(default="")
    avatar_url: Mapped[str] = mapped_column(default="")
    create_time: Mapped[int]


class ApiKey(Owned, Base):
    """A key to an account. Only the SHA-256 of its secret is kept."""

    __tablename__ = "api_keys"
    __table_args__ = (Index(None, "account_id"), Index(None, "user_id"))

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    name: Mapped[str]
    role: Mapped[int]
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"))
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    create_time: Mapped[int]
    expire_time: Mapped[int | None]
    revoke_time: Mapped[int | None]

    user: Mapped[User] = relationship(lazy="joined", innerjoin=True)


class Conversation(Owned, Base):
    """Messages between the people of an account and a model.

    `version` grows by one with every transaction that changes anything in the conversation, and
    the lock on this row makes those transactions queue up. `info_version` is the version at which
    the conversation itself (title, model, prompt) last changed, `searchable_version` the version
    up to which every finished message has its entry for search.
    """

    __tablename__ = "conversations"
    __table_args__ = (
        UniqueConstraint("account_id", "external_id"),
        UniqueConstraint("account_id", "request_id"),
        UniqueConstraint("id", "account_id"),
        Index(None, "account_id", "activity_time", "id"),
        Index(
            "ix_conversations_title_owed",
            "title_owed",
            sqlite_where=text("title_owed > 0"),
            postgresql_where=text("title_owed > 0"),
        ),
        # What search has to look through.
        Index(
            "ix_conversations_unsearchable",
            "activity_time",
            sqlite_where=text("version > searchable_version"),
            postgresql_where=text("version > searchable_version"),
        ),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    title: Mapped[str] = mapped_column(default="")
    title_by_user: Mapped[bool] = mapped_column(default=False)
    # How many more times the title model may be asked; 0 when no title is owed.
    title_owed: Mapped[int] = mapped_column(default=0)
    title_lease_until: Mapped[int] = mapped_column(default=0)
    model: Mapped[str]
    system_prompt: Mapped[str] = mapped_column(default="")
    external_id: Mapped[str | None]
    request_id: Mapped[str | None]
    request_hash: Mapped[str | None] = mapped_column(String(64))
    version: Mapped[int] = mapped_column(default=1)
    info_version: Mapped[int] = mapped_column(default=1)
    # In its first version a conversation holds nothing.
    searchable_version: Mapped[int] = mapped_column(default=1)
    message_count: Mapped[int] = mapped_column(default=0)
    create_time: Mapped[int]
    update_time: Mapped[int]
    last_message_time: Mapped[int | None]
    # last_message_time, or create_time while there is no message: what lists are ordered by.
    activity_time: Mapped[int]


class Membership(Owned, Base):
    """That a user wrote in a conversation; `position` is that of their first message."""

    __tablename__ = "memberships"
    __table_args__ = (
        ForeignKeyConstraint(
            ["conversation_id", "account_id"],
            ["conversations.id", "conversations.account_id"],
            ondelete="CASCADE",
        ),
        Index(None, "user_id"),
    )

    conversation_id: Mapped[str] = mapped_column(Id, primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), primary_key=True)
    position: Mapped[int]


class Message(Owned, Base):
    """Something said. A reply is one with role ASSISTANT; while it lives its row is also its job.

    `version` is the conversation's version that last changed what readers see of it. `epoch`
    grows with every owner, and every write of an owner names it. `lease_until` is when the owner
    is taken for dead; 0 means that it was released. `strikes` counts owners that died,
    `attempt` the requests to the provider that came to text.
    """

    __tablename__ = "messages"
    __table_args__ = (
        ForeignKeyConstraint(
            ["conversation_id", "account_id"],
            ["conversations.id", "conversations.account_id"],
            ondelete="CASCADE",
        ),
        UniqueConstraint("conversation_id", "position"),
        UniqueConstraint("conversation_id", "request_id"),
        Index(None, "conversation_id", "version"),
        Index(None, "reply_to"),
        # By these a database finds out that a user who is deleted said and rated nothing more.
        Index(
            "ix_messages_author_id",
            "author_id",
            sqlite_where=text("author_id IS NOT NULL"),
            postgresql_where=text("author_id IS NOT NULL"),
        ),
        Index(
            "ix_messages_rated_by",
            "rated_by",
            sqlite_where=text("rated_by IS NOT NULL"),
            postgresql_where=text("rated_by IS NOT NULL"),
        ),
        # At most one reply of a conversation is live.
        Index(
            "uq_messages_generating",
            "conversation_id",
            unique=True,
            sqlite_where=text("state = 2"),
            postgresql_where=text("state = 2"),
        ),
        # The work there is. No lease column is indexed, so that a renewal touches no index.
        Index(
            "ix_messages_unfinished",
            "state",
            "account_id",
            "conversation_id",
            sqlite_where=text("state < 3"),
            postgresql_where=text("state < 3"),
        ),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    conversation_id: Mapped[str] = mapped_column(Id)
    position: Mapped[int]
    role: Mapped[int]
    author_id: Mapped[str | None] = mapped_column(ForeignKey("users.id"))
    content: Mapped[str] = mapped_column(default="")
    state: Mapped[int]
    version: Mapped[int]
    request_id: Mapped[str | None]
    create_time: Mapped[int]
    update_time: Mapped[int]

    # Of a user's message; its files are read only when there are any.
    attachment_count: Mapped[int] = mapped_column(default=0)

    reply_to: Mapped[str | None] = mapped_column(Id)
    model: Mapped[str] = mapped_column(default="")
    attempt: Mapped[int] = mapped_column(default=0)
    superseded: Mapped[bool] = mapped_column(default=False)
    finish_reason: Mapped[str] = mapped_column(default="")
    error_reason: Mapped[str] = mapped_column(default="")
    error_message: Mapped[str] = mapped_column(default="")
    input_tokens: Mapped[int | None]
    output_tokens: Mapped[int | None]
    cost_usd: Mapped[float | None]
    rating: Mapped[int] = mapped_column(default=0)
    rating_comment: Mapped[str] = mapped_column(default="")
    rated_by: Mapped[str | None] = mapped_column(ForeignKey("users.id"))

    epoch: Mapped[int] = mapped_column(default=0)
    lease_until: Mapped[int] = mapped_column(default=0)
    strikes: Mapped[int] = mapped_column(default=0)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    # Smaller goes first: the version at which it was queued; negative when it interrupts.
    queue_rank: Mapped[int] = mapped_column(default=0)


class Blob(Owned, Base):
    """The bytes of a file, kept once an account; `key` is where the store has them.

    It is there before its bytes are: `is_stored` says that they are whole. `touch_time` is when an
    upload last brought them.
    """

    __tablename__ = "blobs"

    account_id: Mapped[str] = mapped_column(Id, primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    byte_size: Mapped[int]
    is_stored: Mapped[bool] = mapped_column(default=False)
    touch_time: Mapped[int]


class Removal(Base):
    """An object of the store that nothing needs any more. The row goes when the object has gone."""

    __tablename__ = "removals"

    key: Mapped[str] = mapped_column(primary_key=True)


class Attachment(Owned, Base):
    """A file as it was uploaded: bytes under a name. `kind` is Attachment.Kind of the API.

    `touch_time` is when it was last uploaded or put in a message. `width` and `height` are a
    picture's, in pixels; 0 when they are not known.
    """

    __tablename__ = "attachments"
    __table_args__ = (
        UniqueConstraint("account_id", "sha256", "filename"),
        ForeignKeyConstraint(["account_id", "sha256"], ["blobs.account_id", "blobs.sha256"]),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    sha256: Mapped[str] = mapped_column(String(64))
    filename: Mapped[str]
    content_type: Mapped[str]
    kind: Mapped[int]
    byte_size: Mapped[int]
    width: Mapped[int] = mapped_column(default=0)
    height: Mapped[int] = mapped_column(default=0)
    create_time: Mapped[int]
    touch_time: Mapped[int]


class MessageAttachment(Owned, Base):
    """That a message has a file, and in which place."""

    __tablename__ = "message_attachments"
    __table_args__ = (Index(None, "attachment_id"),)

    message_id: Mapped[str] = mapped_column(
        ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(primary_key=True)
    attachment_id: Mapped[str] = mapped_column(ForeignKey("attachments.id"))


class Extraction(Owned, Base):
    """What was extracted from a file's bytes, once for all: the text of a document or a recording,
    or in `problem` why there is none. `content_type` is its type with the form in which the server
    keeps it."""

    __tablename__ = "readings"
    __table_args__ = (
        ForeignKeyConstraint(
            ["account_id", "sha256"], ["blobs.account_id", "blobs.sha256"], ondelete="CASCADE"
        ),
    )

    account_id: Mapped[str] = mapped_column(Id, primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    content_type: Mapped[str] = mapped_column(primary_key=True)
    content: Mapped[str] = mapped_column(default="")
    problem: Mapped[str] = mapped_column(default="")


class Receipt(Owned, Base):
    """What a reply's model was given, as `receipts` writes it down."""

    __tablename__ = "receipts"

    message_id: Mapped[str] = mapped_column(
        ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True
    )
    body: Mapped[str]


class SearchEntry(Owned, Base):
    """A finished message that search knows. Its terms, if it has any, are in the table
    `search_words`, under the same number: a full-text table on SQLite, a tsvector on Postgres."""

    __tablename__ = "search_entries"
    __table_args__ = (Index(None, "conversation_id"),)

    number: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    message_id: Mapped[str] = mapped_column(
        ForeignKey("messages.id", ondelete="CASCADE"), unique=True
    )
    conversation_id: Mapped[str] = mapped_column(Id)


class CancelWish(Owned, Base):
    """That a request is to be cancelled when it comes."""

    __tablename__ = "cancel_wishes"
    __table_args__ = (
        ForeignKeyConstraint(
            ["conversation_id", "account_id"],
            ["conversations.id", "conversations.account_id"],
            ondelete="CASCADE",
        ),
    )

    conversation_id: Mapped[str] = mapped_column(Id, primary_key=True)
    request_id: Mapped[str] = mapped_column(primary_key=True)
    expire_time: Mapped[int]

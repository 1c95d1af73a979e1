"""The tables. Times are microseconds since 1970 by the database's clock; ids are UUIDv7 strings."""

from __future__ import annotations

from sqlalchemy import (
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from colloquy_server.database.audit_tables import AuditEvent as AuditEvent
from colloquy_server.database.base import Base as Base
from colloquy_server.database.base import Owned as Owned
from colloquy_server.database.file_tables import Attachment as Attachment
from colloquy_server.database.file_tables import Blob as Blob
from colloquy_server.database.file_tables import Extraction as Extraction
from colloquy_server.database.file_tables import MessageAttachment as MessageAttachment
from colloquy_server.database.file_tables import Removal as Removal
from colloquy_server.database.index_tables import ConversationRemoval as ConversationRemoval
from colloquy_server.database.index_tables import PersonalState as PersonalState
from colloquy_server.database.schema_tables import SchemaFloor as SchemaFloor
from colloquy_server.database.search_tables import SearchEntry as SearchEntry
from colloquy_server.database.session_tables import BrowserSession as BrowserSession
from colloquy_server.database.session_tables import SignInLink as SignInLink
from colloquy_server.database.session_tables import UserAlias as UserAlias
from colloquy_server.database.usage_tables import Budget as Budget
from colloquy_server.database.usage_tables import BudgetPeriod as BudgetPeriod
from colloquy_server.database.usage_tables import Reservation as Reservation
from colloquy_server.database.usage_tables import UsageDay as UsageDay
from colloquy_server.database.values import MICROS as MICROS
from colloquy_server.database.values import AliasKind as AliasKind
from colloquy_server.database.values import Feature as Feature
from colloquy_server.database.values import Id
from colloquy_server.database.values import KeyRole as KeyRole
from colloquy_server.database.values import Period as Period
from colloquy_server.database.values import Role as Role
from colloquy_server.database.values import SignInMethod as SignInMethod
from colloquy_server.database.values import State as State
from colloquy_server.database.values import Unit as Unit
from colloquy_server.database.values import Visibility as Visibility
from colloquy_server.database.values import db_now as db_now
from colloquy_server.database.values import new_id as new_id
from colloquy_server.database.webhook_tables import Delivery as Delivery
from colloquy_server.database.webhook_tables import Webhook as Webhook


class Account(Base):
    """A tenant."""

    __tablename__ = "accounts"
    # Those whose conversations end by themselves.
    __table_args__ = (
        Index(
            "ix_accounts_retention",
            "id",
            sqlite_where=text("retention_days > 0"),
            postgresql_where=text("retention_days > 0"),
        ),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    name: Mapped[str]
    external_id: Mapped[str | None] = mapped_column(unique=True)
    default_user_id: Mapped[str] = mapped_column(Id)
    # Of conversations that are made without saying who sees them.
    default_visibility: Mapped[int] = mapped_column(default=Visibility.ACCOUNT)
    create_time: Mapped[int]
    is_provisioned: Mapped[bool] = mapped_column(default=False)
    """Whether a provisioning key made it: such keys may then make keys for it."""
    # Days without a message after which its conversations are deleted; 0 for never.
    retention_days: Mapped[int] = mapped_column(default=0)

    quota: Mapped[Quota] = relationship(
        primaryjoin="foreign(Quota.id) == Account.id", lazy="joined", innerjoin=True, viewonly=True
    )


class Quota(Owned, Base):
    """How much an account, or a key that has quotas, may hold, and how much it does: `id` is the
    account's or the key's. A limit of 0 is none of its own.

    What is held is counted here, so that nobody has to count it. Replies that wait are not: they
    are few at a time, and come and go with every send.
    """

    __tablename__ = "quotas"
    __table_args__ = (Index(None, "account_id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    max_file_bytes: Mapped[int] = mapped_column(default=0)
    max_conversations: Mapped[int] = mapped_column(default=0)
    max_queued_replies: Mapped[int] = mapped_column(default=0)
    file_bytes: Mapped[int] = mapped_column(default=0)
    conversations: Mapped[int] = mapped_column(default=0)
    features: Mapped[int] = mapped_column(default=0)
    """Of an account: what it has that few have, as `Feature` says. Whoever locks a conversation
    reads it, and looks for none of what is not there."""


class User(Owned, Base):
    """A person, known within one account; `external_id` is null for the account's default user."""

    __tablename__ = "users"
    __table_args__ = (
        UniqueConstraint("account_id", "external_id"),
        Index(
            "ix_users_leaving",
            "id",
            sqlite_where=text("is_leaving = 1"),
            postgresql_where=text("is_leaving"),
        ),
        Index(None, "account_id", "words", "id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    external_id: Mapped[str | None]
    display_name: Mapped[str] = mapped_column(default="")
    avatar_url: Mapped[str] = mapped_column(default="")
    # As somebody said who is believed: a service, or the identity provider. Small letters.
    email: Mapped[str] = mapped_column(default="")
    create_time: Mapped[int]
    # What they said is being deleted; nobody is known by this row any more.
    is_leaving: Mapped[bool] = mapped_column(default=False)
    # The words of display_name and external_id, each with a space before it, as search has them.
    words: Mapped[str] = mapped_column(default="")
    # What was said before is not new to them: when they came, or when this began to be known.
    unread_since: Mapped[int] = mapped_column(default=0)


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
    last_used_time: Mapped[int | None]

    user: Mapped[User] = relationship(lazy="joined", innerjoin=True)
    quota: Mapped[Quota | None] = relationship(
        primaryjoin="foreign(Quota.id) == ApiKey.id", lazy="joined", viewonly=True
    )


class Conversation(Owned, Base):
    """Messages between the people of an account and a model.

    `version` grows by one with every transaction that changes anything in the conversation, and
    the lock on this row makes those transactions queue up. `info_version` is the version at which
    the conversation itself (title, model, prompt, or who sees it) last changed,
    `searchable_version` the version up to which every finished message has its entry for search.
    `last_position` is that of the newest message, deleted or not.
    """

    __tablename__ = "conversations"
    __table_args__ = (
        UniqueConstraint("account_id", "external_id"),
        UniqueConstraint("account_id", "request_id"),
        UniqueConstraint("id", "account_id"),
        Index(None, "account_id", "activity_time", "id"),
        Index(
            "uq_conversations_own_external_id",
            "account_id",
            "own_external_id",
            "creator_id",
            unique=True,
            sqlite_where=text("own_external_id IS NOT NULL"),
            postgresql_where=text("own_external_id IS NOT NULL"),
        ),
        # The lists of members, who see all of the one kind, and of the other what they made. Each
        # conversation is in one of them.
        Index(
            "ix_conversations_of_account",
            "account_id",
            "activity_time",
            "id",
            sqlite_where=text("visibility = 1"),
            postgresql_where=text("visibility = 1"),
        ),
        Index(
            "ix_conversations_of_creator",
            "account_id",
            "creator_id",
            "activity_time",
            "id",
            sqlite_where=text("visibility = 2"),
            postgresql_where=text("visibility = 2"),
        ),
        Index(
            "ix_conversations_title_owed",
            "title_owed",
            sqlite_where=text("title_owed > 0"),
            postgresql_where=text("title_owed > 0"),
        ),
        # What has changed, for the index.
        Index(None, "account_id", "change_mark"),
        # What search has to look through.
        Index(
            "ix_conversations_unsearchable",
            "activity_time",
            sqlite_where=text("version > searchable_version"),
            postgresql_where=text("version > searchable_version"),
        ),
        # What is to be deleted at its time.
        Index(
            "ix_conversations_expiring",
            "expire_time",
            sqlite_where=text("expire_time IS NOT NULL"),
            postgresql_where=text("expire_time IS NOT NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    title: Mapped[str] = mapped_column(default="")
    title_by_user: Mapped[bool] = mapped_column(default=False)
    # How many more times the title model may be asked; 0 when no title is owed.
    title_owed: Mapped[int] = mapped_column(default=0)
    title_lease_until: Mapped[int] = mapped_column(default=0)
    # How often the title model was asked, and up to which of these times what that used is booked.
    title_asks: Mapped[int] = mapped_column(default=0)
    title_asks_booked: Mapped[int] = mapped_column(default=0)
    # The prompt of which the server made the title, which goes with it.
    title_of: Mapped[str | None] = mapped_column(Id)
    model: Mapped[str]
    system_prompt: Mapped[str] = mapped_column(default="")
    visibility: Mapped[int] = mapped_column(default=Visibility.ACCOUNT)
    # Who made it, while that person has not left it.
    creator_id: Mapped[str | None] = mapped_column(Id)
    external_id: Mapped[str | None]
    # What the creator calls it, where `external_id` is that of another one that they do not see.
    own_external_id: Mapped[str | None]
    request_id: Mapped[str | None]
    request_hash: Mapped[str | None] = mapped_column(String(64))
    version: Mapped[int] = mapped_column(default=1)
    info_version: Mapped[int] = mapped_column(default=1)
    # In its first version a conversation holds nothing.
    searchable_version: Mapped[int] = mapped_column(default=1)
    # Of messages that are not deleted.
    message_count: Mapped[int] = mapped_column(default=0)
    last_position: Mapped[int] = mapped_column(default=0)
    create_time: Mapped[int]
    update_time: Mapped[int]
    last_message_time: Mapped[int | None]
    # last_message_time, or create_time while there is no message: what lists are ordered by.
    activity_time: Mapped[int]
    archived: Mapped[bool] = mapped_column(default=False)
    # Of the transaction that last changed anything in it; see marks.py.
    change_mark: Mapped[int] = mapped_column(default=0)
    # The key that made it, if that has quotas.
    api_key_id: Mapped[str | None] = mapped_column(Id)
    # When it is to be deleted, as somebody set it. Its account may have it deleted earlier.
    expire_time: Mapped[int | None]


class Membership(Owned, Base):
    """That a user wrote in a conversation or was invited; `position` is their place among those who
    came to it. Whoever is removed keeps it, and with it the name by which models know them."""

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
    is_removed: Mapped[bool] = mapped_column(default=False)


class Message(Owned, Base):
    """Something said. A reply is one with role ASSISTANT; while it lives its row is also its job.

    `version` is the conversation's version that last changed what readers see of it. `epoch`
    grows with every owner, and every write of an owner names it. `lease_until` is when the owner
    is taken for dead; 0 means that it was released. `strikes` counts owners that died,
    `attempt` the requests to the provider that came to text. Of one that is `deleted` the row
    stays, so that watchers hear of it and its request is not said again; it holds nothing of what
    was said.
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
        # By the first one also the last message is found that somebody wrote in a conversation.
        Index(
            "ix_messages_of_author",
            "author_id",
            "conversation_id",
            "position",
            sqlite_where=text("author_id IS NOT NULL"),
            postgresql_where=text("author_id IS NOT NULL"),
        ),
        Index(
            "ix_messages_rated_by",
            "rated_by",
            sqlite_where=text("rated_by IS NOT NULL"),
            postgresql_where=text("rated_by IS NOT NULL"),
        ),
        # By this a database finds what a user who is deleted asked others' prompts anew for.
        Index(
            "ix_messages_asked_by",
            "asked_by",
            sqlite_where=text("asked_by IS NOT NULL"),
            postgresql_where=text("asked_by IS NOT NULL"),
        ),
        # At most one reply of a conversation is live.
        Index(
            "uq_messages_generating",
            "conversation_id",
            unique=True,
            sqlite_where=text("state = 2"),
            postgresql_where=text("state = 2"),
        ),
        # How many replies wait of those that were asked for with a key.
        Index(
            "ix_messages_queued_by_key",
            "api_key_id",
            sqlite_where=text("state = 1 AND api_key_id IS NOT NULL"),
            postgresql_where=text("state = 1 AND api_key_id IS NOT NULL"),
        ),
        # What counts as unread; all by which it is counted is here, as a row may have 1 MiB.
        Index(
            "ix_messages_readable",
            "account_id",
            "conversation_id",
            "position",
            "create_time",
            sqlite_where=text("state >= 3 AND deleted IS 0 AND superseded IS 0"),
            postgresql_where=text("state >= 3 AND deleted IS FALSE AND superseded IS FALSE"),
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
    # Empty while it is the model that was asked for.
    requested_model: Mapped[str] = mapped_column(default="")
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
    # Of a reply: the key that it was asked for with.
    api_key_id: Mapped[str | None] = mapped_column(Id)
    # Of a reply: who asked for it, if that is somebody else than the prompt's author.
    asked_by: Mapped[str | None] = mapped_column(Id)
    deleted: Mapped[bool] = mapped_column(default=False)


class Receipt(Owned, Base):
    """What a reply's model was given, as `receipts` writes it down."""

    __tablename__ = "receipts"

    message_id: Mapped[str] = mapped_column(
        ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True
    )
    body: Mapped[str]


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

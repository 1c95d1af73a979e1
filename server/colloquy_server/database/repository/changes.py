"""The lock that puts the changes of a conversation in order, and the record of what changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, bindparam, literal_column, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, selectinload

from colloquy_server.database.models import Account, Base, Conversation, Membership, Message, db_now
from colloquy_server.errors import NotFound

# Written as literals, because a database proves that a partial index serves only from literals.
is_unfinished: Final[ColumnElement[bool]] = Message.state < literal_column("3")
is_generating: Final[ColumnElement[bool]] = and_(
    Message.state == literal_column("2"), is_unfinished
)
is_queued: Final[ColumnElement[bool]] = and_(Message.state == literal_column("1"), is_unfinished)

NO_SYNC: Final[dict[str, Any]] = {"synchronize_session": False}
FRESH: Final[dict[str, Any]] = {"synchronize_session": False, "populate_existing": True}


class Fenced(Exception):
    """The caller no longer owns the reply: it must stop, and write and send nothing more."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What a process asks for when it claims a reply: `ttl` in microseconds."""

    ttl: int
    per_account: int
    """How many replies of one account may be generated at once, in all processes together."""


@dataclass(frozen=True, slots=True)
class Change:
    """What one transaction changed for the readers of a conversation."""

    conversation_id: str
    version: int
    messages: tuple[Message, ...] = ()
    conversation: Conversation | None = None
    """The conversation, if its title, model or prompt changed, with its memberships."""
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Transition:
    """What a transaction did to a conversation's replies: the change for its readers, and the
    reply that the caller now owns, if any."""

    change: Change
    owned: Message | None = None


@dataclass(frozen=True, slots=True)
class Locked:
    """A conversation whose row this transaction holds; `now` is the database's time."""

    conversation: Conversation
    now: int

    @property
    def version(self) -> int:
        """The version that this transaction makes."""
        return self.conversation.version


# Statements that every reply needs are built once, here and in the other modules of this package:
# building one takes longer than running it.
_LOCK = (
    update(Conversation)
    .where(Conversation.id == bindparam("wanted"))
    .values(version=Conversation.version + 1)
    .returning(Conversation, db_now())
)


def lock(s: Session, conversation_id: str) -> Locked:
    """Begins a transaction that changes a conversation: takes its row and its next version.

    Raises NotFound.
    """
    row = s.execute(_LOCK, {"wanted": conversation_id}, execution_options=FRESH).one_or_none()
    if row is None:
        raise NotFound("CONVERSATION")
    return Locked(row[0], row[1])


_HELD = (
    select(Account.id)
    .where(Account.id == bindparam("wanted"))
    .with_for_update(read=True, key_share=True)
)


def hold_account(s: Session, account_id: str) -> None:
    """Keeps an account from being deleted before this transaction ends, so that what is made in it
    does not outlive it. Whoever has locked a conversation need not: deleting waits for that too.

    Raises NotFound.
    """
    if s.scalars(_HELD, {"wanted": account_id}).one_or_none() is None:
        raise NotFound("ACCOUNT")


def undo(s: Session) -> None:
    """Ends a transaction that turned out to have nothing to do, without a new version."""
    s.rollback()


def insert_new(s: Session, table: type[Base], **values: object) -> bool:
    """Inserts a row, unless one with the same unique key is there, also one that another
    transaction is inserting right now; says whether it did."""
    is_sqlite = s.get_bind().dialect.name == "sqlite"
    insert = sqlite.insert(table) if is_sqlite else postgresql.insert(table)
    statement = insert.values(**values).on_conflict_do_nothing()
    inserted = s.connection().execute(statement, execution_options={"preserve_rowcount": True})
    return inserted.rowcount == 1


def now(s: Session) -> int:
    """The database's time in microseconds."""
    return s.scalars(select(db_now())).one()


def with_participants(s: Session, conversation_id: str) -> Conversation:
    """The conversation as it stands in this transaction, with its memberships.

    Raises NotFound.
    """
    found = s.scalars(
        select(Conversation)
        .where(Conversation.id == conversation_id)
        .options(selectinload(Conversation.memberships).joinedload(Membership.user)),
        execution_options={"populate_existing": True},
    ).one_or_none()
    if found is None:
        raise NotFound("CONVERSATION")
    return found

"""The lock that puts the changes of a conversation in order, and the record of what changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from sqlalchemy import ColumnElement, Insert, and_, bindparam, literal_column, select, update
from sqlalchemy.dialects import postgresql, sqlite

from colloquy_server.database.models import (
    Account,
    Base,
    Conversation,
    Membership,
    Message,
    User,
    db_now,
)
from colloquy_server.database.rows import (
    CONVERSATION,
    USER,
    ConversationRow,
    MessageRow,
    UserRow,
    bare_conversation,
)
from colloquy_server.database.transactions import Session
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
    messages: tuple[MessageRow, ...] = ()
    conversation: ConversationRow | None = None
    """The conversation, if its title, model or prompt changed, with its participants."""
    deleted: bool = False
    is_hint: bool = False
    """Whether nothing is said of what this version changed: it was only found to be there."""


@dataclass(frozen=True, slots=True)
class Transition:
    """What a transaction did to a conversation's replies: the change for its readers, and the
    reply that the caller now owns, if any."""

    change: Change
    owned: MessageRow | None = None
    is_last: bool = False
    """Of an end: whether nothing stands behind the reply that ended."""


@dataclass(frozen=True, slots=True)
class Locked:
    """A conversation whose row this transaction holds, and the version that it makes; `now` is the
    database's time. `is_titled` says whether it has a title, or is to have none."""

    id: str
    account_id: str
    version: int
    now: int
    message_count: int
    is_titled: bool


# Statements are built once, here and in the other modules of this package: building one takes
# longer than running it.
has_title = (Conversation.title != "") | Conversation.title_by_user.is_(True)
_LOCK = (
    update(Conversation)
    .where(Conversation.id == bindparam("wanted"))
    .values(version=Conversation.version + 1)
    .returning(
        Conversation.id,
        Conversation.account_id,
        Conversation.version,
        db_now(),
        Conversation.message_count,
        has_title,
    )
)


def lock(s: Session, conversation_id: str) -> Locked:
    """Begins a transaction that changes a conversation: takes its row and its next version.

    Raises NotFound.
    """
    row = s.run(_LOCK, {"wanted": conversation_id}).one_or_none()
    if row is None:
        raise NotFound("CONVERSATION")
    return Locked(*row)


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
    if s.run(_HELD, {"wanted": account_id}).one_or_none() is None:
        raise NotFound("ACCOUNT")


def insert_new(s: Session, table: type[Base], **values: object) -> bool:
    """Inserts a row, unless one with the same unique key is there, also one that another
    transaction is inserting right now; says whether it did."""
    return s.run(_insert_new(table, s.is_sqlite), values).rowcount == 1


@cache
def _insert_new(table: type[Base], is_sqlite: bool) -> Insert:
    insert = sqlite.insert(table) if is_sqlite else postgresql.insert(table)
    return insert.on_conflict_do_nothing().execution_options(preserve_rowcount=True)


_NOW = select(db_now())


def now(s: Session) -> int:
    """The database's time in microseconds."""
    return int(s.run(_NOW).scalar_one())


_CONVERSATION = select(*CONVERSATION).where(Conversation.id == bindparam("wanted"))
_PARTICIPANTS = (
    select(Membership.conversation_id, *USER)
    .join(User, User.id == Membership.user_id)
    .where(Membership.conversation_id.in_(bindparam("conversations", expanding=True)))
    .order_by(Membership.conversation_id, Membership.position)
)


def conversation(s: Session, conversation_id: str) -> ConversationRow:
    """The conversation as it stands in this transaction, with its participants.

    Raises NotFound.
    """
    row = s.run(_CONVERSATION, {"wanted": conversation_id}).one_or_none()
    if row is None:
        raise NotFound("CONVERSATION")
    return with_participants(s, [bare_conversation(row)])[0]


def with_participants(
    s: Session, conversations: Collection[ConversationRow]
) -> list[ConversationRow]:
    """The same conversations, with their participants."""
    wrote: dict[str, list[UserRow]] = defaultdict(list)
    if conversations:
        ids = [each.id for each in conversations]
        for row in s.run(_PARTICIPANTS, {"conversations": ids}):
            wrote[row[0]].append(UserRow._make(row[1:]))
    return [each._replace(participants=wrote.get(each.id, ())) for each in conversations]

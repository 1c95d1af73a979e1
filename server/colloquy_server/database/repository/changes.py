"""The lock that puts the changes of a conversation in order, and the record of what changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Insert,
    and_,
    bindparam,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from colloquy_server.database.marks import next_mark
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
    USER,
    ConversationRow,
    MessageRow,
    UserRow,
    conversation_without_participants,
    select_conversations,
)
from colloquy_server.database.transactions import Session
from colloquy_server.errors import NotFound, PermissionDenied

# Written as literals, because a database proves that a partial index serves only from literals.
is_unfinished: Final[ColumnElement[bool]] = Message.state < literal_column("3")
is_generating: Final[ColumnElement[bool]] = and_(
    Message.state == literal_column("2"), is_unfinished
)
is_queued: Final[ColumnElement[bool]] = and_(Message.state == literal_column("1"), is_unfinished)

is_kept: Final[ColumnElement[bool]] = Message.deleted.is_(False)

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
    """The conversation, if its title, model or prompt changed, or who sees it."""
    deleted: bool = False
    account_id: str = ""
    """Whose conversation it is, where neither it nor a message of it is here."""
    is_hint: bool = False
    """Whether nothing is said of what this version changed: it was only found to be there."""

    @property
    def erases(self) -> bool:
        """Whether something is gone that was said before, and that may be held somewhere."""
        return self.deleted or any(message.deleted for message in self.messages)

    @property
    def account(self) -> str:
        """The account in which somebody may notice this; empty when nobody can."""
        if self.conversation is not None:
            return self.conversation.account_id
        return self.messages[0].account_id if self.messages else self.account_id


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
    database's time. `is_titled` says whether it has a title, or is to have none, `mark` is the one
    that this transaction leaves."""

    id: str
    account_id: str
    version: int
    now: int
    last_position: int
    is_titled: bool
    mark: int
    features: int
    """What its account has that few have: bits of `Feature`."""


# Statements are built once, here and in the other modules of this package: building one takes
# longer than running it.
# As text, because SQLAlchemy leaves the names of tables out of what SQLite's RETURNING says, in
# nested SELECTs too, where a column then is another table's.
features_of_account: Final[ColumnElement[int]] = literal_column(
    "(SELECT quotas.features FROM quotas"
    " WHERE quotas.id = conversations.account_id AND quotas.account_id = quotas.id)",
    BigInteger,
)
has_title = (Conversation.title != "") | Conversation.title_by_user.is_(True)
_LOCK = (
    update(Conversation)
    .where(Conversation.id == bindparam("wanted"))
    .values(version=Conversation.version + 1, change_mark=next_mark(Conversation.account_id))
    .returning(
        Conversation.id,
        Conversation.account_id,
        Conversation.version,
        db_now(),
        Conversation.last_position,
        has_title,
        Conversation.change_mark,
        features_of_account,
    )
)


def lock(s: Session, conversation_id: str) -> Locked:
    """Begins a transaction that changes a conversation: takes its row and its next version.

    Raises NotFound.
    """
    return send_lock(s, conversation_id)()


def send_lock(s: Session, conversation_id: str) -> Callable[[], Locked]:
    """The same, sent with the next statement. What is returned raises NotFound, for who does not
    see the conversation this does."""
    s.admit()
    locking = s.send(_LOCK, {"wanted": conversation_id})
    require_seen(s, conversation_id)

    def locked() -> Locked:
        row = locking().one_or_none()
        if row is None:
            raise NotFound("CONVERSATION")
        return Locked(*row)

    return locked


_SEEN = select(Conversation.id).where(Conversation.id == bindparam("wanted"))


def require_seen(s: Session, conversation_id: str) -> None:
    """Lets a member go on in a transaction that holds a conversation's row. Raises NotFound.

    It is asked after the lock, for which whoever changes the audience waits: nobody who was removed
    comes in by a statement that began before that. From here on all that the transaction does is in
    this conversation, and is not asked again.
    """
    if not s.viewer_id:
        return
    s.is_admitted = False  # what was seen before the lock may be so no more
    if s.run(_SEEN, {"wanted": conversation_id}).one_or_none() is None:
        raise NotFound("CONVERSATION")
    s.admit()


_CREATOR = select(Conversation.creator_id).where(Conversation.id == bindparam("wanted"))


def require_control(s: Session, conversation_id: str, what: str) -> None:
    """Lets a member do `what` only in a conversation that they made. Raises PermissionDenied."""
    if not s.viewer_id:
        return
    if s.run(_CREATOR, {"wanted": conversation_id}).scalar_one() != s.viewer_id:
        raise PermissionDenied(
            f"Only who made the conversation, an account's admin and a service may {what}."
        )


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


def insert_all_new(s: Session, table: type[Base], rows: Sequence[Mapping[str, object]]) -> None:
    """The same for many."""
    s.run(_insert_new(table, s.is_sqlite), rows)


@cache
def _insert_new(table: type[Base], is_sqlite: bool) -> Insert:
    insert = sqlite.insert(table) if is_sqlite else postgresql.insert(table)
    return insert.on_conflict_do_nothing().execution_options(preserve_rowcount=True)


_NOW = select(db_now())


def now(s: Session) -> int:
    """The database's time in microseconds."""
    return int(s.run(_NOW).scalar_one())


_CONVERSATION = select_conversations().where(Conversation.id == bindparam("wanted"))
_PARTICIPANTS = (
    select(Membership.conversation_id, *USER)
    .join(User, User.id == Membership.user_id)
    .where(
        Membership.conversation_id.in_(bindparam("conversations", expanding=True)),
        Membership.is_removed.is_(False),
    )
    .order_by(Membership.conversation_id, Membership.position)
)


def conversation(s: Session, conversation_id: str) -> ConversationRow:
    """The conversation as it stands in this transaction, with its participants.

    Raises NotFound.
    """
    row = s.run(_CONVERSATION, {"wanted": conversation_id}).one_or_none()
    if row is None:
        raise NotFound("CONVERSATION")
    s.admit()
    return with_participants(s, [conversation_without_participants(row)])[0]


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

"""What conversations are to one user: pinned, and how much in them is unread.

What counts as unread are the messages of others and the finished replies behind the last message
that the user has read or wrote, if they were said after the user came. They are counted when they
are asked for, among the last ones of the conversation that an index holds: so a send and an end do
nothing for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    and_,
    bindparam,
    false,
    func,
    literal_column,
    select,
)

from colloquy_server.database.audience import table_of
from colloquy_server.database.models import Conversation, Message, PersonalState, User
from colloquy_server.database.repository.changes import is_unfinished
from colloquy_server.database.rows import ConversationRow
from colloquy_server.database.scope import of_account
from colloquy_server.database.transactions import Session
from colloquy_server.database.values import greatest

MAX_UNREAD: Final = 100
"""Where counting ends."""


class Readable(NamedTuple):
    """A message that may count as unread."""

    position: int
    author_id: str | None
    create_time: int


class State(NamedTuple):
    """What a conversation is to somebody."""

    pinned: bool = False
    read_position: int = 0


def unread(newest: Sequence[Readable], read_position: int, user_id: str, since: int) -> int:
    """How many messages are unread of the newest ones of a conversation, the last one first, to a
    user to whom nothing is new that was said before `since`."""
    count = 0
    for said in newest:
        if said.position <= read_position or said.author_id == user_id:
            break
        count += said.create_time > since
    return count


_message = table_of(Message)
_said = _message.alias("said")
_wrote = _message.alias("wrote")
_state = table_of(PersonalState).alias("state")


def _is_readable(said: FromClause) -> ColumnElement[bool]:
    # As literals: a database proves by them that the index serves.
    is_finished = said.c.state >= literal_column("3")
    return and_(is_finished, said.c.deleted.is_(False), said.c.superseded.is_(False))


NEWEST: Final = (
    select(_message.c.position, _message.c.author_id, _message.c.create_time)
    .where(_message.c.conversation_id == bindparam("conversation"), _is_readable(_message))
    .order_by(_message.c.position.desc())
    .limit(literal_column(str(MAX_UNREAD)))
)
"""The rows of `Readable` of a conversation from which `unread` counts."""


def _of_reader(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """What the reader's row has of a conversation, if there is one."""
    found: Select[Any] = select(column).where(
        _state.c.account_id == Conversation.account_id,
        _state.c.conversation_id == Conversation.id,
        _state.c.user_id == bindparam("reader"),
    )
    return found.correlate(Conversation).scalar_subquery()


def _unread() -> ColumnElement[int]:
    wrote = (
        select(func.max(_wrote.c.position))
        .where(
            _wrote.c.account_id == Conversation.account_id,
            _wrote.c.conversation_id == Conversation.id,
            _wrote.c.author_id == bindparam("reader"),
        )
        .correlate(Conversation)
        .scalar_subquery()
    )
    known = greatest(func.coalesce(_of_reader(_state.c.read_position), 0), func.coalesce(wrote, 0))
    newest = (
        select(_said.c.create_time)
        .where(
            _said.c.account_id == Conversation.account_id,
            _said.c.conversation_id == Conversation.id,
            _said.c.position > known,
            _is_readable(_said),
        )
        # The last ones first, so that what was said before the reader came ends it.
        .order_by(_said.c.position.desc())
        .limit(literal_column(str(MAX_UNREAD)))
        .correlate(Conversation)
        .subquery("newest")
    )
    since = (
        select(User.unread_since)
        .where(of_account(User), User.id == bindparam("reader"))
        .scalar_subquery()
    )
    return (
        select(func.count())
        .select_from(newest)
        .where(newest.c.create_time > since)
        .scalar_subquery()
    )


is_replying: Final[ColumnElement[bool]] = (
    select(_message.c.id)
    .where(
        _message.c.account_id == Conversation.account_id,
        _message.c.conversation_id == Conversation.id,
        # As a list, by which the index is searched.
        _message.c.state.in_((literal_column("1"), literal_column("2"))),
        is_unfinished,
    )
    .correlate(Conversation)
    .exists()
)
"""Whether a reply is being written, or waits."""

_TOLD = select(
    Conversation.id,
    is_replying,
    func.coalesce(_of_reader(_state.c.pinned), false()),
    _unread(),
).where(Conversation.id.in_(bindparam("wanted", expanding=True)))


def told(s: Session, rows: Sequence[ConversationRow], user_id: str) -> list[ConversationRow]:
    """The same conversations, with all that is to be told of them to this user."""
    if not rows:
        return []
    values = {"wanted": [row.id for row in rows], "reader": user_id}
    found = {row[0]: row[1:] for row in s.run(_TOLD, values)}
    return [_with(row, *found.get(row.id, (False, False, 0))) for row in rows]


def _with(row: ConversationRow, replying: bool, pinned: bool, count: int) -> ConversationRow:
    return row._replace(replying=bool(replying), pinned=bool(pinned), unread_count=count)


is_pinned: Final[ColumnElement[bool]] = Conversation.id.in_(
    select(_state.c.conversation_id).where(
        _state.c.account_id == bindparam("account"),
        _state.c.user_id == bindparam("reader"),
        _state.c.pinned.is_(True),
    )
)
"""Whether the reader keeps a conversation in view."""

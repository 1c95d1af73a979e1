"""Messages: reading and rating them. One that is deleted is not there, but among changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Integer, Select, bindparam, select, update

from colloquy_server.database.models import Message, Role
from colloquy_server.database.repository import attachments
from colloquy_server.database.repository.changes import Change, is_kept, is_unfinished, lock
from colloquy_server.database.repository.users import Author, resolve_author
from colloquy_server.database.rows import MESSAGE, MessageRow, message, select_messages
from colloquy_server.database.transactions import Session
from colloquy_server.errors import InvalidField, NotFound

Shaped = TypeVar("Shaped")

_STATE = select(Message.state).where(Message.id == bindparam("wanted"))


def state(s: Session, message_id: str) -> int | None:
    """How far a message is; None when there is no row of it."""
    row = s.run(_STATE, {"wanted": message_id}).one_or_none()
    return int(row[0]) if row is not None else None


_MESSAGE = select_messages().where(Message.id == bindparam("wanted"), is_kept)


def get(s: Session, message_id: str) -> MessageRow:
    """A message. Raises NotFound."""
    row = s.run(_MESSAGE, {"wanted": message_id}).one_or_none()
    if row is None:
        raise NotFound("MESSAGE")
    return attachments.load(s, [message(row)])[0]


_READ_AT_ONCE = 16
"""Messages that are read at a time, because each may have 1 MiB."""


def _page(is_wanted: ColumnElement[bool], order: ColumnElement[int]) -> Select[Any]:
    return (
        select_messages()
        .where(Message.conversation_id == bindparam("conversation"), is_wanted, is_kept)
        .order_by(order)
        .limit(bindparam("size", type_=Integer))
    )


_PAGE = _page(Message.position > bindparam("after"), Message.position.asc())
_PAGE_FROM_END = _page(Message.position < bindparam("after"), Message.position.desc())

FROM_END = 1 << 62
"""Behind all positions."""


def page(
    s: Session,
    conversation_id: str,
    *,
    limit: int,
    max_bytes: int,
    shape: Callable[[MessageRow], tuple[Shaped, int]],
    after: int,
    from_end: bool = False,
) -> tuple[list[tuple[MessageRow, Shaped]], bool]:
    """Messages of a conversation, oldest first, behind position `after`, and whether more follow;
    `from_end` the last ones before that position, and whether there are more before them.

    Each comes with what `shape` makes of it, which also says how many bytes that takes. The page
    ends before `max_bytes`, but holds at least one message.
    """
    statement = _PAGE_FROM_END if from_end else _PAGE
    found: list[tuple[MessageRow, Shaped]] = []
    room = max_bytes
    has_more: bool | None = None
    while has_more is None:
        values = {"conversation": conversation_id, "after": after, "size": _READ_AT_ONCE}
        read = attachments.load(s, [message(row) for row in s.run(statement, values)])
        for row in read:
            shaped, size = shape(row)
            room -= size
            if found and (room < 0 or len(found) == limit):
                has_more = True
                break
            found.append((row, shaped))
            after = row.position
        else:
            has_more = None if len(read) == _READ_AT_ONCE else False
    return (found[::-1] if from_end else found), has_more


_UNFINISHED = (
    select(*MESSAGE)
    .where(Message.conversation_id == bindparam("conversation"), is_unfinished)
    .order_by(Message.position)
)


def unfinished(s: Session, conversation_id: str) -> list[MessageRow]:
    """The replies of a conversation that are live or wait, oldest first."""
    return [message(row) for row in s.run(_UNFINISHED, {"conversation": conversation_id})]


_CHANGED = (
    select_messages()
    .where(Message.conversation_id == bindparam("conversation"), Message.version > bindparam("v"))
    .order_by(Message.version, Message.position)
    .limit(bindparam("size", type_=Integer))
)
_CHANGED_TOGETHER = (
    select_messages()
    .where(
        Message.conversation_id == bindparam("conversation"),
        Message.version == bindparam("v"),
        Message.position > bindparam("after"),
    )
    .order_by(Message.position)
)


def changed_since(s: Session, conversation_id: str, version: int, limit: int) -> list[MessageRow]:
    """Messages that changed after `version`, in the order of their changes.

    The page holds all messages of each version that is in it.
    """
    values = {"conversation": conversation_id, "v": version, "size": limit}
    found = [message(row) for row in s.run(_CHANGED, values)]
    if len(found) >= limit:
        last = found[-1]
        rest = {"conversation": conversation_id, "v": last.version, "after": last.position}
        found += [message(row) for row in s.run(_CHANGED_TOGETHER, rest)]
    return attachments.load(s, found)


# Readers bring the id themselves: it may be that of a message in any other conversation.
_CHANGED_MESSAGE = select(*MESSAGE).where(
    Message.id == bindparam("wanted"),
    Message.conversation_id == bindparam("conversation"),
    Message.version > bindparam("v"),
)


def changed_message(
    s: Session, conversation_id: str, message_id: str, version: int
) -> MessageRow | None:
    """A reply of a conversation, if it changed after `version`."""
    values = {"wanted": message_id, "conversation": conversation_id, "v": version}
    row = s.run(_CHANGED_MESSAGE, values).one_or_none()
    return message(row) if row is not None else None


def rate(
    s: Session, account_id: str, message_id: str, rating: int, comment: str, author: Author
) -> tuple[Change, MessageRow]:
    """Rates a reply; 0 takes the rating back. Raises NotFound, and InvalidField when the message
    is not a reply."""
    rated = get(s, message_id)
    try:
        locked = lock(s, rated.conversation_id)
    except NotFound:
        raise NotFound("MESSAGE") from None
    if rated.role != Role.ASSISTANT:
        raise InvalidField({"message_id": "must name a reply, and this is a user's message"})
    by = resolve_author(s, account_id, author, locked.now)
    row = s.run(
        update(Message)
        .where(Message.id == message_id, is_kept)
        .values(
            rating=rating,
            rating_comment=comment if rating else "",
            rated_by=by.id if rating else None,
            version=locked.version,
            update_time=locked.now,
        )
        .returning(*MESSAGE)
    ).one_or_none()
    if row is None:  # deleted meanwhile
        raise NotFound("MESSAGE")
    rated = message(row)
    return Change(locked.id, locked.version, (rated,)), rated

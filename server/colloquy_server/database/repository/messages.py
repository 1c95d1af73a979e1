"""Messages: reading and rating them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from colloquy_server.database.models import Message, Role
from colloquy_server.database.repository import attachments
from colloquy_server.database.repository.access import Author, resolve_author
from colloquy_server.database.repository.changes import FRESH, Change, is_unfinished, lock
from colloquy_server.errors import InvalidField, NotFound

Shaped = TypeVar("Shaped")


def state(s: Session, message_id: str) -> int | None:
    """How far a message is; None when it is gone."""
    return s.scalars(select(Message.state).where(Message.id == message_id)).one_or_none()


def get(s: Session, message_id: str) -> Message:
    """A message. Raises NotFound."""
    message = s.scalars(select(Message).where(Message.id == message_id)).one_or_none()
    if message is None:
        raise NotFound("MESSAGE")
    attachments.load(s, [message])
    return message


_READ_AT_ONCE = 16
"""Messages that are read at a time, because each may have 1 MiB."""


def page(
    s: Session,
    conversation_id: str,
    *,
    limit: int,
    max_bytes: int,
    shape: Callable[[Message], tuple[Shaped, int]],
    after: int,
) -> tuple[list[tuple[Message, Shaped]], bool]:
    """Messages of a conversation, oldest first, behind position `after`, and whether more follow.

    Each comes with what `shape` makes of it, which also says how many bytes that takes. The page
    ends before `max_bytes`, but holds at least one message.
    """
    query = (
        select(Message)
        .where(Message.conversation_id == conversation_id)
        .order_by(Message.position)
        .limit(_READ_AT_ONCE)
    )
    found: list[tuple[Message, Shaped]] = []
    room = max_bytes
    while True:
        read = list(s.scalars(query.where(Message.position > after)))
        attachments.load(s, read)
        for message in read:
            shaped, size = shape(message)
            room -= size
            if found and (room < 0 or len(found) == limit):
                return found, True
            found.append((message, shaped))
        if len(read) < _READ_AT_ONCE:
            return found, False
        after = read[-1].position


def unfinished(s: Session, conversation_id: str) -> list[Message]:
    """The replies of a conversation that are live or wait, oldest first."""
    return list(
        s.scalars(
            select(Message)
            .where(Message.conversation_id == conversation_id, is_unfinished)
            .order_by(Message.position)
        )
    )


def changed_since(s: Session, conversation_id: str, version: int, limit: int) -> list[Message]:
    """Messages that changed after `version`, in the order of their changes.

    The page holds all messages of each version that is in it.
    """
    messages = list(
        s.scalars(
            select(Message)
            .where(Message.conversation_id == conversation_id, Message.version > version)
            .order_by(Message.version, Message.position)
            .limit(limit)
        )
    )
    if len(messages) < limit:
        attachments.load(s, messages)
        return messages
    last = messages[-1].version
    rest = s.scalars(
        select(Message)
        .where(
            Message.conversation_id == conversation_id,
            Message.version == last,
            Message.position > messages[-1].position,
        )
        .order_by(Message.position)
    )
    messages.extend(rest)
    attachments.load(s, messages)
    return messages


def changed_message(s: Session, message_id: str, version: int) -> Message | None:
    """A reply, if it changed after `version`."""
    return s.scalars(
        select(Message).where(Message.id == message_id, Message.version > version)
    ).one_or_none()


def rate(
    s: Session, account_id: str, message_id: str, rating: int, comment: str, author: Author
) -> tuple[Change, Message]:
    """Rates a reply; 0 takes the rating back. Raises NotFound, and InvalidField when the message
    is not a reply."""
    message = get(s, message_id)
    try:
        locked = lock(s, message.conversation_id)
    except NotFound:
        raise NotFound("MESSAGE") from None
    if message.role != Role.ASSISTANT:
        raise InvalidField({"message_id": "must name a reply, and this is a user's message"})
    by = resolve_author(s, account_id, author, locked.now)
    rated = s.scalars(
        update(Message)
        .where(Message.id == message_id)
        .values(
            rating=rating,
            rating_comment=comment if rating else "",
            rated_by=by.id if rating else None,
            version=locked.version,
            update_time=locked.now,
        )
        .returning(Message),
        execution_options=FRESH,
    ).one()
    return Change(message.conversation_id, locked.version, (rated,)), rated

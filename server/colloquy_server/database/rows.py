"""Rows as the rest of the server sees them: plain tuples with names, which cost nothing to make.

A row is what a statement returned, at the time when it did. Nothing written on it goes back; what
changes one makes another (`_replace`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Select, and_, select

from colloquy_server.database.models import Attachment, Conversation, Message, User


class UserRow(NamedTuple):
    """A person; `external_id` is None for the account's default user."""

    id: str
    external_id: str | None
    display_name: str = ""
    avatar_url: str = ""


class MessageRow(NamedTuple):
    """Something said, with its author and its files; see `models.Message`. A live reply's
    `content` is what was saved of it."""

    id: str
    account_id: str
    conversation_id: str
    position: int
    role: int
    author_id: str | None
    state: int
    version: int
    request_id: str | None
    create_time: int
    update_time: int
    attachment_count: int = 0
    reply_to: str | None = None
    model: str = ""
    attempt: int = 0
    superseded: bool = False
    finish_reason: str = ""
    error_reason: str = ""
    error_message: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    rating: int = 0
    rating_comment: str = ""
    rated_by: str | None = None
    epoch: int = 0
    lease_until: int = 0
    strikes: int = 0
    cancel_requested: bool = False
    queue_rank: int = 0
    content: str = ""
    author: UserRow | None = None
    attachments: Sequence[Attachment] = ()


class ConversationRow(NamedTuple):
    """A conversation with those who wrote in it, in the order of their first messages; see
    `models.Conversation`."""

    id: str
    account_id: str
    title: str
    model: str
    system_prompt: str
    external_id: str | None
    version: int
    info_version: int
    message_count: int
    create_time: int
    update_time: int
    last_message_time: int | None
    activity_time: int
    participants: Sequence[UserRow] = ()


USER = tuple(getattr(User, name) for name in UserRow._fields)
CONVERSATION = tuple(
    getattr(Conversation, name) for name in ConversationRow._fields if name != "participants"
)
MESSAGE_NAMES = tuple(name for name in MessageRow._fields if name not in ("author", "attachments"))
MESSAGE = tuple(getattr(Message, name) for name in MESSAGE_NAMES)
"""The columns of each, in the order of its fields."""

MESSAGE_WITHOUT_TEXT = MESSAGE[: MESSAGE_NAMES.index("content")]
"""For statements whose caller has the text, which may be 1 MiB, in its hands already."""

_WIDTH = len(MESSAGE)
author_of_message = and_(User.id == Message.author_id, User.account_id == Message.account_id)


def select_messages() -> Select[Any]:
    """Messages with their authors, to be read by `message`."""
    return select(*MESSAGE, *USER).outerjoin(User, author_of_message)


def message(row: Sequence[Any]) -> MessageRow:
    """A row of `select_messages`, or of MESSAGE alone."""
    found = MessageRow._make((*row[:_WIDTH], None, ()))
    if len(row) > _WIDTH and row[_WIDTH] is not None:
        return found._replace(author=UserRow._make(row[_WIDTH:]))
    return found


def bare_conversation(row: Sequence[Any]) -> ConversationRow:
    """A row of CONVERSATION: without participants."""
    return ConversationRow._make((*row, ()))


def values_of(row: MessageRow) -> dict[str, Any]:
    """What a row has in its own columns, by their names."""
    return dict(zip(MESSAGE_NAMES, row, strict=False))

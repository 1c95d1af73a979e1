"""Rows as the rest of the server sees them: plain tuples with names, which cost nothing to make.

A row is what a statement returned, at the time when it did. Nothing written on it goes back; what
changes one makes another (`_replace`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Select, and_, select
from sqlalchemy.orm import aliased

from colloquy_server.database.models import Account, Attachment, Conversation, Message, User
from colloquy_server.database.values import DAY


class UserRow(NamedTuple):
    """A person; `external_id` is None for the account's default user. `email` is shown to nobody
    else."""

    id: str
    external_id: str | None
    display_name: str = ""
    avatar_url: str = ""
    email: str = ""


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
    requested_model: str = ""
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
    deleted: bool = False
    content: str = ""
    author: UserRow | None = None
    attachments: Sequence[Attachment] = ()

    @property
    def asked_for(self) -> str:
        """The model that was asked for, also where a fallback answered in its place."""
        return self.requested_model or self.model


class ConversationRow(NamedTuple):
    """A conversation with who made it, if that is known, and its participants in the order in which
    they came to it; see `models.Conversation`. What follows them is only there where it was asked
    for: whether a reply is being written or waits, and what it is to one user (`personal`).

    `expire_time` is when it is deleted, whoever said so; None for never.
    """

    id: str
    account_id: str
    title: str
    model: str
    system_prompt: str
    external_id: str | None
    own_external_id: str | None
    visibility: int
    version: int
    info_version: int
    message_count: int
    create_time: int
    update_time: int
    last_message_time: int | None
    activity_time: int
    archived: bool = False
    expire_time: int | None = None
    creator: UserRow | None = None
    participants: Sequence[UserRow] = ()
    replying: bool = False
    pinned: bool = False
    unread_count: int = 0


USER = tuple(getattr(User, name) for name in UserRow._fields)
CONVERSATION = tuple(
    getattr(Conversation, name)
    for name in ConversationRow._fields[: ConversationRow._fields.index("creator")]
)
MESSAGE_NAMES = tuple(name for name in MessageRow._fields if name not in ("author", "attachments"))
MESSAGE = tuple(getattr(Message, name) for name in MESSAGE_NAMES)
"""The columns of each, in the order of its fields."""

MESSAGE_WITHOUT_TEXT = MESSAGE[: MESSAGE_NAMES.index("content")]
"""For statements whose caller has the text, which may be 1 MiB, in its hands already."""

_WIDTH = len(MESSAGE)
_OWN_WIDTH = len(CONVERSATION)
_creator = aliased(User)
author_of_message = and_(User.id == Message.author_id, User.account_id == Message.account_id)


def select_conversations() -> Select[Any]:
    """Conversations with who made them, to be read by `conversation_without_participants`."""
    made_by = and_(
        _creator.id == Conversation.creator_id, _creator.account_id == Conversation.account_id
    )
    names = (getattr(_creator, name) for name in UserRow._fields)
    return (
        select(*CONVERSATION, *names, Account.retention_days)
        .outerjoin(_creator, made_by)
        .outerjoin(Account, Account.id == Conversation.account_id)
    )


def select_messages() -> Select[Any]:
    """Messages with their authors, to be read by `message`."""
    return select(*MESSAGE, *USER).outerjoin(User, author_of_message)


def message(row: Sequence[Any]) -> MessageRow:
    """A row of `select_messages`, or of MESSAGE alone."""
    found = MessageRow._make((*row[:_WIDTH], None, ()))
    if len(row) > _WIDTH and row[_WIDTH] is not None:
        return found._replace(author=UserRow._make(row[_WIDTH:]))
    return found


def conversation_without_participants(row: Sequence[Any]) -> ConversationRow:
    """A row of `select_conversations`."""
    own, made_by, kept_days = row[:_OWN_WIDTH], row[_OWN_WIDTH:-1], row[-1]
    creator = UserRow._make(made_by) if made_by[0] is not None else None
    found = ConversationRow._make((*own, creator, (), False, False, 0))
    if not kept_days:
        return found
    ends = [found.activity_time + kept_days * DAY]
    ends += [found.expire_time] if found.expire_time is not None else []
    return found._replace(expire_time=min(ends))


def values_of(row: MessageRow) -> dict[str, Any]:
    """What a row has in its own columns, by their names."""
    return dict(zip(MESSAGE_NAMES, row, strict=False))

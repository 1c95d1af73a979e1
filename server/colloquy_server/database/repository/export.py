"""All that is known of a person, page by page, for who exports it.

Each page is a transaction of its own, on which nobody waits: what is said or deleted while a person
is exported may be in what is read later, or may not. Nothing of others is read but the replies to
what the person wrote, and what conversations that they take part in are called.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import BigInteger, Integer, Text, bindparam, func, select, tuple_

from colloquy_server.database.models import (
    Account,
    ApiKey,
    Attachment,
    AuditEvent,
    BrowserSession,
    Conversation,
    Membership,
    Message,
    MessageAttachment,
    PersonalState,
    UsageDay,
    User,
    UserAlias,
)
from colloquy_server.database.repository import attachments
from colloquy_server.database.repository.audit import EventRow
from colloquy_server.database.repository.changes import is_kept
from colloquy_server.database.repository.sessions import SessionRow
from colloquy_server.database.repository.usage_report import UsageRow
from colloquy_server.database.rows import (
    USER,
    ConversationRow,
    MessageRow,
    UserRow,
    conversation_without_participants,
    message,
    select_conversations,
    select_messages,
)
from colloquy_server.database.transactions import Session
from colloquy_server.errors import NotFound

AT_ONCE = 100
"""Rows of a page, of what is small."""

_MAX_LETTERS = 1 << 18
"""Of messages that are read together, unless one alone has more."""

_of_size = bindparam("size", type_=Integer)


class Person(NamedTuple):
    """A user, with the account that they are in."""

    user: UserRow
    account_id: str
    account_name: str
    create_time: int


@dataclass(frozen=True, slots=True)
class Access:
    """How a person comes in, and by what other names."""

    aliases: Sequence[tuple[int, str]]
    """Kinds, of `AliasKind`, and names."""
    keys: Sequence[ApiKey]
    sessions: Sequence[SessionRow]


_PERSON = (
    select(*USER, User.account_id, Account.name, User.create_time)
    .join(Account, Account.id == User.account_id)
    .where(User.id == bindparam("wanted"), User.is_leaving.is_(False))
)


def person(s: Session, user_id: str) -> Person:
    """A user of whatever account. Raises NotFound."""
    row = s.run(_PERSON, {"wanted": user_id}).one_or_none()
    if row is None:
        raise NotFound("USER")
    return Person(UserRow._make(row[: len(USER)]), *row[len(USER) :])


_ALIASES = select(UserAlias.kind, UserAlias.name).where(UserAlias.user_id == bindparam("wanted"))
_SESSIONS = (
    select(*(getattr(BrowserSession, name) for name in SessionRow._fields))
    .where(BrowserSession.user_id == bindparam("wanted"))
    .order_by(BrowserSession.id)
)


def access(s: Session, user_id: str) -> Access:
    """How a user comes in: never what is secret of it."""
    wanted = {"wanted": user_id}
    keys = select(ApiKey).where(ApiKey.user_id == user_id).order_by(ApiKey.id)
    return Access(
        [(kind, name) for kind, name in s.run(_ALIASES, wanted)],
        list(s.scalars(keys)),
        [SessionRow._make(row) for row in s.run(_SESSIONS, wanted)],
    )


# --- conversations --------------------------------------------------------------------------------

_CONVERSATIONS = (
    select(Membership.conversation_id).where(Membership.user_id == bindparam("wanted")),
    select(Conversation.id).where(Conversation.creator_id == bindparam("wanted")),
)
_BY_IDS = (
    select_conversations()
    .where(Conversation.id.in_(bindparam("wanted", expanding=True)))
    .order_by(Conversation.id)
)
_STATES = (
    select(PersonalState)
    .where(
        PersonalState.user_id == bindparam("reader"),
        PersonalState.conversation_id > bindparam("after", type_=Text),
    )
    .order_by(PersonalState.conversation_id)
    .limit(_of_size)
)


def conversation_ids(s: Session, user_id: str) -> list[str]:
    """Those that a user made or takes part in, the oldest first."""
    return sorted({row[0] for each in _CONVERSATIONS for row in s.run(each, {"wanted": user_id})})


def conversations_of(s: Session, ids: Sequence[str]) -> list[ConversationRow]:
    """Those of the conversations that are there, without their participants."""
    return [conversation_without_participants(row) for row in s.run(_BY_IDS, {"wanted": ids})]


def states(s: Session, user_id: str, after: str) -> list[PersonalState]:
    """What conversations are to a user, behind the conversation `after`."""
    values = {"reader": user_id, "after": after, "size": AT_ONCE}
    return list(s.scalars(_STATES, values))


# --- messages -------------------------------------------------------------------------------------


class Wrote(NamedTuple):
    """A prompt or a reply, and how long it is."""

    id: str
    conversation_id: str
    position: int
    letters: int


_of_message = (Message.id, Message.conversation_id, Message.position, func.length(Message.content))
_PROMPTS = (
    select(*_of_message)
    .where(
        Message.author_id == bindparam("author"),
        tuple_(Message.conversation_id, Message.position)
        > tuple_(bindparam("conversation", type_=Text), bindparam("after", type_=BigInteger)),
        is_kept,
    )
    .order_by(Message.conversation_id, Message.position)
    .limit(_of_size)
)
_REPLIES = select(*_of_message).where(
    Message.reply_to.in_(bindparam("prompts", expanding=True)), is_kept
)
_MESSAGES = (
    select_messages()
    .where(Message.id.in_(bindparam("wanted", expanding=True)), is_kept)
    .order_by(Message.conversation_id, Message.position)
)


def wrote(
    s: Session, user_id: str, after: tuple[str, int]
) -> tuple[list[Wrote], tuple[str, int] | None]:
    """Some of what a user wrote behind a (conversation_id, position), with the replies to it, in
    order; and behind which one more may follow."""
    values = {"author": user_id, "conversation": after[0], "after": after[1], "size": AT_ONCE}
    prompts = [Wrote._make(row) for row in s.run(_PROMPTS, values)]
    if not prompts:
        return [], None
    replies = s.run(_REPLIES, {"prompts": [each.id for each in prompts]})
    found = sorted([*prompts, *map(Wrote._make, replies)], key=lambda each: each[1:3])
    last = prompts[-1]
    return found, (last.conversation_id, last.position) if len(prompts) == AT_ONCE else None


def batches(found: Sequence[Wrote]) -> Iterator[list[str]]:
    """The ids of messages that may be read together without holding much."""
    batch: list[str] = []
    room = _MAX_LETTERS
    for each in found:
        room -= each.letters
        if batch and room < 0:
            yield batch
            batch, room = [], _MAX_LETTERS - each.letters
        batch.append(each.id)
    if batch:
        yield batch


def messages(s: Session, ids: Sequence[str]) -> list[MessageRow]:
    """Those of the messages that are there still, with their files."""
    rows = s.run(_MESSAGES, {"wanted": ids})
    return attachments.load(s, [message(row) for row in rows])


class Rated(NamedTuple):
    """What somebody said of a reply, which may be one to somebody else."""

    id: str
    conversation_id: str
    rating: int
    rating_comment: str


_RATED = (
    select(*(getattr(Message, name) for name in Rated._fields))
    .where(
        Message.rated_by == bindparam("author"),
        Message.id > bindparam("after", type_=Text),
        is_kept,
    )
    .order_by(Message.id)
    .limit(_of_size)
)


def rated(s: Session, user_id: str, after: str) -> list[Rated]:
    """Ratings that a user gave, behind the message `after`."""
    values = {"author": user_id, "after": after, "size": AT_ONCE}
    return [Rated._make(row) for row in s.run(_RATED, values)]


# --- usage, files and the audit trail -------------------------------------------------------------

_USAGE = (
    select(*(getattr(UsageDay, name) for name in UsageRow._fields[:-1]))
    .where(
        UsageDay.user_id == bindparam("author"),
        tuple_(UsageDay.day, UsageDay.api_key_id, UsageDay.model)
        > tuple_(
            bindparam("since", type_=BigInteger),
            bindparam("key", type_=Text),
            bindparam("model", type_=Text),
        ),
    )
    .order_by(UsageDay.day, UsageDay.api_key_id, UsageDay.model)
    .limit(_of_size)
)
_FILES = (
    select(Attachment.id).where(Attachment.uploader_id == bindparam("author")),
    select(MessageAttachment.attachment_id)
    .join(Message, Message.id == MessageAttachment.message_id)
    .where(Message.author_id == bindparam("author")),
)
_EVENTS = (
    select(*(getattr(AuditEvent, name) for name in EventRow._fields))
    .where(
        AuditEvent.user_id == bindparam("author"),
        tuple_(AuditEvent.time, AuditEvent.id)
        > tuple_(bindparam("since", type_=BigInteger), bindparam("after", type_=Text)),
    )
    .order_by(AuditEvent.time, AuditEvent.id)
    .limit(_of_size)
)


def usage(s: Session, user_id: str, after: tuple[int, str, str]) -> list[UsageRow]:
    """What was used for a user, behind a (day, API key, model)."""
    since, key, model = after
    values = {"author": user_id, "since": since, "key": key, "model": model, "size": AT_ONCE}
    return [UsageRow._make((*row, None)) for row in s.run(_USAGE, values)]


def file_ids(s: Session, user_id: str) -> list[str]:
    """The files that a user uploaded, or that are in what they wrote, the oldest first."""
    return sorted({row[0] for each in _FILES for row in s.run(each, {"author": user_id})})


def files(s: Session, ids: Sequence[str]) -> list[Attachment]:
    """Those of the files that are there still."""
    return list(s.scalars(select(Attachment).where(Attachment.id.in_(ids)).order_by(Attachment.id)))


def events(s: Session, user_id: str, after: tuple[int, str]) -> list[EventRow]:
    """What the audit trail says that a user did, behind a (time, id)."""
    values = {"author": user_id, "since": after[0], "after": after[1], "size": AT_ONCE}
    return [EventRow._make(row) for row in s.run(_EVENTS, values)]

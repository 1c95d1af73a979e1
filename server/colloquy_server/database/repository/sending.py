"""Sends and regenerates: prompts and their replies are stored, or found by their request_id."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from sqlalchemy import (
    ColumnElement,
    bindparam,
    false,
    insert,
    literal_column,
    null,
    select,
    true,
    update,
)

from colloquy_server.database.models import (
    Attachment,
    Message,
    Role,
    State,
    new_id,
)
from colloquy_server.database.repository import accounting, attachments, messages, quotas
from colloquy_server.database.repository.budget_counters import Expect, Expected, Wanted
from colloquy_server.database.repository.cancellation import (
    cancel_in,
    reply_of_request,
)
from colloquy_server.database.repository.changes import (
    Change,
    Lease,
    Locked,
    is_generating,
)
from colloquy_server.database.repository.history import History
from colloquy_server.database.repository.opening import Opened, open_for
from colloquy_server.database.repository.outbox import record_end
from colloquy_server.database.repository.participants import join
from colloquy_server.database.repository.quotas import FREE, Charge
from colloquy_server.database.repository.usage import Payer
from colloquy_server.database.repository.users import (
    Author,
    find_author,
    hold_user,
    is_up_to_date,
    resolve_author,
)
from colloquy_server.database.rows import (
    MESSAGE,
    MESSAGE_NAMES,
    MessageRow,
    UserRow,
    message,
    values_of,
)
from colloquy_server.database.transactions import Session
from colloquy_server.errors import (
    ConversationBusy,
    InvalidField,
    NotFound,
    QueueFull,
    RequestIdReused,
)


class OnBusy(IntEnum):
    """OnBusy of the API, with its numbers."""

    ENQUEUE = 1
    REJECT = 2
    INTERRUPT = 3


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a user says."""

    conversation_id: str
    content: str
    author: Author
    request_id: str | None
    on_busy: OnBusy
    attachment_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sent:
    """A prompt and its reply, stored. `owned` when the caller now owns the reply and has to
    generate it; `interrupted` is a live reply that has to be cancelled for it."""

    change: Change
    prompt: MessageRow
    reply: MessageRow
    owned: bool = False
    interrupted: MessageRow | None = None
    history: History | None = None
    """What the reply's model may know, where that was read already."""


def _free(_known_tokens: int) -> Expected:
    return Expected(0, 0)


@dataclass(frozen=True, slots=True)
class Choice:
    """The model that answers a prompt, and how to read what it may know of a prompt that is being
    stored: `read` takes that and the conversation's system prompt. `expect` says what the reply may
    use."""

    model: str
    read: Callable[[Session, MessageRow, str], History]
    expect: Expect = _free


Check = Callable[[str, str, str, Sequence[Attachment]], Choice]
"""Given the conversation's model and system prompt, the prompt's text and its files, says who
answers, or raises what speaks against it."""


_INSERT = insert(Message)
_OF_BOTH = (
    "id",
    "conversation_id",
    "account_id",
    "position",
    "version",
    "create_time",
    "update_time",
)
_OF_PROMPT = (*_OF_BOTH, "author_id", "request_id", "attachment_count", "content")
_OF_REPLY = (*_OF_BOTH, "reply_to", "state", "model", "epoch", "lease_until", "queue_rank")
"""What differs from one to another; all else is the same for every prompt, and every new reply."""


def _values(whose: str, differs: Collection[str], **same: int) -> dict[str, ColumnElement[Any]]:
    """What is stored in each column, with as few parameters as can be: each is converted."""
    same_for_all = {**MessageRow._field_defaults, **same}
    return {
        name: bindparam(f"{whose}_{name}") if name in differs else _literal(same_for_all.get(name))
        for name in MESSAGE_NAMES
    }


def _literal(value: object) -> ColumnElement[Any]:
    if value is None:
        return null()
    if isinstance(value, bool):
        return true() if value else false()
    return literal_column(f"{int(value)}" if isinstance(value, int) else "''")


_INSERT_BOTH = insert(Message).values(
    [
        {
            **_values("prompt", _OF_PROMPT, role=Role.USER, state=State.COMPLETED),
            "api_key_id": null(),
        },
        {
            **_values("reply", _OF_REPLY, role=Role.ASSISTANT, attempt=1),
            "api_key_id": bindparam("reply_api_key_id"),
        },
    ]
)


def send(
    s: Session,
    account_id: str,
    prompt: Prompt,
    check: Check,
    lease: Lease | None,
    max_queued: int,
    charge: Charge = FREE,
) -> Sent:
    """Stores a prompt and its reply, or finds those that this request_id made.

    With a lease the reply starts at once if the conversation is free and its account has room.
    Raises NotFound, RequestIdReused, ConversationBusy, QueueFull, QuotaExceeded, BudgetExceeded,
    and what `check` raises.
    """
    conversation_id = prompt.conversation_id
    opened = open_for(s, conversation_id, 2, prompt.request_id, prompt.author)
    locked = opened.locked
    if opened.is_known:
        return _attach(s, locked, prompt)
    files = attachments.resolve(s, prompt.attachment_ids)
    choice = check(opened.model, opened.system_prompt, prompt.content, files)
    author = _author(s, opened, prompt.author)
    if opened.is_busy and prompt.on_busy == OnBusy.REJECT and not opened.is_unwanted:
        raise ConversationBusy
    _refuse_when_full(opened, max_queued)
    position = locked.last_position - 1
    said = MessageRow(
        id=new_id(),
        account_id=account_id,
        conversation_id=conversation_id,
        position=position,
        role=Role.USER,
        author_id=author.id,
        content=prompt.content,
        attachment_count=len(files),
        state=State.COMPLETED,
        version=locked.version,
        request_id=prompt.request_id,
        create_time=locked.now,
        update_time=locked.now,
        author=author,
        attachments=files,
    )
    owned = opened.may_start(lease)
    reply = _new_reply(opened, said, choice.model, lease if owned else None)
    interrupted = None
    if prompt.on_busy == OnBusy.INTERRUPT and not opened.is_unwanted:
        reply = reply._replace(queue_rank=-locked.version)
        interrupted = _interrupt(s, opened)
    values = {f"prompt_{name}": getattr(said, name) for name in _OF_PROMPT}
    values |= {f"reply_{name}": getattr(reply, name) for name in _OF_REPLY}
    values["reply_api_key_id"] = charge.used_key_id or charge.api_key_id
    s.send(_INSERT_BOTH, values)
    if opened.is_unwanted:
        record_end(s, locked, reply)
    attachments.attach(s, said, files)
    if not opened.takes_part:
        join(s, locked, author.id)
    _count_waiting(s, opened, reply, charge)
    _reserve(s, opened, reply, Payer(author.id, charge.used_key_id), choice)
    return Sent(
        Change(conversation_id, locked.version, (said, reply)),
        said,
        reply,
        owned,
        interrupted,
        choice.read(s, said, opened.system_prompt) if owned else None,
    )


def _author(s: Session, opened: Opened, author: Author) -> UserRow:
    """Who speaks. Raises InvalidField."""
    known = opened.author
    if known is None or not is_up_to_date(known, author):
        return resolve_author(s, opened.locked.account_id, author, opened.locked.now)
    return known


def _refuse_when_full(opened: Opened, max_queued: int) -> None:
    if opened.waiting >= max_queued and not opened.is_unwanted:
        raise QueueFull(f"conversation:{opened.locked.id}", max_queued)


def _count_waiting(s: Session, opened: Opened, reply: MessageRow, charge: Charge) -> None:
    """Has those counted that wait, if this reply does and somebody says how many may."""
    is_limited = opened.max_queued_replies or charge.default.queued_replies or charge.api_key_id
    if is_limited and reply.state == State.QUEUED:
        quotas.count(s, opened.locked.account_id, charge, has_queued=True)


def _reserve(s: Session, opened: Opened, reply: MessageRow, payer: Payer, choice: Choice) -> None:
    """Has reserved what a reply may use, unless it was cancelled before it came."""
    if reply.state != State.CANCELLED:
        wanted = Wanted(reply.id, opened.locked.id, payer, choice.model, choice.expect)
        accounting.reserve(s, opened.locked, wanted)


def regenerate(
    s: Session,
    account_id: str,
    message_id: str,
    model: str,
    request_id: str | None,
    check: Check,
    lease: Lease | None,
    max_queued: int,
    charge: Charge = FREE,
) -> Sent:
    """Stores a new reply to the message that this reply answers, or finds the one that this
    request_id made. `model` is the one that was asked for, if any. The replies before it are
    superseded; one that still waits is cancelled.

    Raises NotFound, InvalidField when the message is not a reply, RequestIdReused, QueueFull,
    QuotaExceeded, BudgetExceeded, and what `check` raises.
    """
    old = messages.get(s, message_id)
    try:
        opened = open_for(s, old.conversation_id, 1, request_id, Author())
    except NotFound:
        raise NotFound("MESSAGE") from None
    locked = opened.locked
    if old.role != Role.ASSISTANT:
        raise InvalidField({"message_id": "must name a reply, and this is a user's message"})
    prompt = messages.get(s, old.reply_to or "")
    if opened.is_known:
        return _attach_regenerate(s, locked, prompt, request_id or "", model)
    choice = check(opened.model, opened.system_prompt, prompt.content, prompt.attachments)
    _refuse_when_full(opened, max_queued)
    changed: Sequence[MessageRow] = ()
    if not opened.is_unwanted:  # one that was cancelled before it came takes no reply's place
        changed, freed = _supersede(s, locked, prompt.id)
        opened = replace(opened, waiting=opened.waiting - freed)
    owned = opened.may_start(lease)
    reply = _new_reply(opened, prompt, choice.model, lease if owned else None)
    reply = reply._replace(request_id=request_id)
    asker_id = charge.asker_id if charge.asker_id != prompt.author_id else ""
    if asker_id and not hold_user(s, asker_id):  # they leave this moment
        asker_id = ""
    key_id = charge.used_key_id or charge.api_key_id
    s.run(_INSERT, {**values_of(reply), "api_key_id": key_id, "asked_by": asker_id or None})
    if opened.is_unwanted:
        record_end(s, locked, reply)
    _count_waiting(s, opened, reply, charge)
    payer = Payer(asker_id or prompt.author_id or "", charge.used_key_id)
    _reserve(s, opened, reply, payer, choice)
    return Sent(Change(locked.id, locked.version, (*changed, reply)), prompt, reply, owned)


def _attach(s: Session, locked: Locked, prompt: Prompt) -> Sent:
    """The prompt that this request_id stored before, with its reply."""
    s.undo()
    reply_id = reply_of_request(s, prompt.conversation_id, prompt.request_id or "")
    reply = messages.get(s, reply_id or "")
    said = messages.get(s, reply.reply_to or "")
    try:
        author = find_author(s, said.account_id, prompt.author)
    except InvalidField:  # nobody, and so somebody else
        author = None
    if (
        said.request_id != prompt.request_id  # it was a RegenerateReply's
        or said.content != prompt.content
        or tuple(file.id for file in said.attachments) != prompt.attachment_ids
        or author is None
        or said.author_id != author.id
    ):
        raise RequestIdReused
    found = Change(locked.id, locked.version - 1, is_hint=True)
    return Sent(found, said, reply)


def _attach_regenerate(
    s: Session, locked: Locked, prompt: MessageRow, request_id: str, model: str
) -> Sent:
    """The reply to this prompt that this request_id asked for before, of that model if any."""
    s.undo()
    reply = messages.get(s, reply_of_request(s, locked.id, request_id) or "")
    is_same = reply.request_id == request_id and reply.reply_to == prompt.id
    if not is_same or model not in ("", reply.asked_for):
        raise RequestIdReused
    found = Change(locked.id, locked.version - 1, is_hint=True)
    return Sent(found, prompt, reply)


def _new_reply(opened: Opened, prompt: MessageRow, model: str, lease: Lease | None) -> MessageRow:
    """A reply to a prompt, which starts at once with a lease."""
    locked = opened.locked
    waits = State.CANCELLED if opened.is_unwanted else State.QUEUED
    return MessageRow(
        id=new_id(),
        account_id=prompt.account_id,
        conversation_id=prompt.conversation_id,
        position=locked.last_position,
        role=Role.ASSISTANT,
        author_id=None,
        state=State.GENERATING if lease else waits,
        version=locked.version,
        request_id=None,
        create_time=locked.now,
        update_time=locked.now,
        reply_to=prompt.id,
        model=model,
        attempt=1,
        epoch=1 if lease else 0,
        lease_until=locked.now + lease.ttl if lease else 0,
        queue_rank=locked.version,
    )


def _interrupt(s: Session, opened: Opened) -> MessageRow | None:
    """Asks for the cancel of the live reply."""
    if not opened.live:
        return None
    live = select(Message.id).where(Message.conversation_id == opened.locked.id, is_generating)
    return cancel_in(s, opened.locked, s.run(live).scalar_one()).reply


def _supersede(s: Session, locked: Locked, prompt_id: str) -> tuple[list[MessageRow], int]:
    """Takes the replies to a prompt out of the context; one that waits is cancelled. Returns them,
    and how many waited."""
    waiting = s.run(
        select(Message.id).where(Message.reply_to == prompt_id, Message.state == State.QUEUED)
    )
    ids = waiting.scalars()
    for message_id in ids:
        cancel_in(s, locked, message_id)
    superseded = s.run(
        update(Message)
        .where(Message.reply_to == prompt_id, Message.superseded.is_(False))
        .values(superseded=True, version=locked.version, update_time=locked.now)
        .returning(*MESSAGE)
    )
    return [message(row) for row in superseded], len(ids)

"""Sends and regenerates: prompts and their replies are stored, or found by their request_id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from colloquy_server.database.models import (
    Attachment,
    Conversation,
    Membership,
    Message,
    Role,
    State,
    User,
    db_now,
    new_id,
)
from colloquy_server.database.repository import attachments
from colloquy_server.database.repository.access import Author, find_author, resolve_author
from colloquy_server.database.repository.cancellation import (
    cancel_in,
    reply_of_request,
    use_up_wish,
)
from colloquy_server.database.repository.changes import (
    FRESH,
    NO_SYNC,
    Change,
    Lease,
    Locked,
    insert_new,
    is_generating,
    is_unfinished,
    lock,
)
from colloquy_server.database.repository.queue import account_has_room
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
    prompt: Message
    reply: Message
    owned: bool = False
    interrupted: Message | None = None


Check = Callable[[Conversation, str, Sequence[Attachment]], str]
"""Given the conversation, the prompt's text and its files, returns the model that answers, or
raises what speaks against it."""


def send(
    s: Session, account_id: str, prompt: Prompt, check: Check, lease: Lease | None, max_queued: int
) -> Sent:
    """Stores a prompt and its reply, or finds those that this request_id made.

    With a lease the reply starts at once if the conversation is free and its account has room.
    Raises NotFound, RequestIdReused, ConversationBusy, QueueFull, and what `check` raises.
    """
    conversation_id = prompt.conversation_id
    locked = lock(s, conversation_id)
    if prompt.request_id:
        found = _attach(s, locked, prompt)
        if found is not None:
            return found
    files = attachments.resolve(s, prompt.attachment_ids)
    model = check(locked.conversation, prompt.content, files)
    author = resolve_author(s, account_id, prompt.author, locked.now)
    wished = bool(prompt.request_id) and use_up_wish(s, locked, prompt.request_id or "")
    queue = _Queue.of(s, conversation_id)
    if not wished:
        if queue.is_busy and prompt.on_busy == OnBusy.REJECT:
            raise ConversationBusy
        if queue.waiting >= max_queued:
            raise QueueFull(f"conversation:{conversation_id}", max_queued)
    position = locked.conversation.message_count + 1
    message = Message(
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
    )
    set_committed_value(message, "author", author)
    set_committed_value(message, "attachments", files)
    reply = _new_reply(locked, message, model, position + 1)
    interrupted = None
    if wished:
        reply.state = State.CANCELLED
    elif prompt.on_busy == OnBusy.INTERRUPT:
        reply.queue_rank = -locked.version
        interrupted = _interrupt(s, locked, queue)
    owned = not (wished or queue.is_busy) and _begin(s, reply, lease)
    s.add_all([message, reply])
    s.flush()
    attachments.attach(s, message, files)
    _count(s, locked, position + 1)
    _join(s, locked, author, position)
    return Sent(
        Change(conversation_id, locked.version, (message, reply)),
        message,
        reply,
        owned,
        interrupted,
    )


def regenerate(
    s: Session,
    account_id: str,
    message_id: str,
    model: str,
    request_id: str | None,
    check: Check,
    lease: Lease | None,
    max_queued: int,
) -> Sent:
    """Stores a new reply to the message that this reply answers, or finds the one that this
    request_id made. `model` is the one that was asked for, if any. The replies before it are
    superseded; one that still waits is cancelled.

    Raises NotFound, InvalidField when the message is not a reply, RequestIdReused, QueueFull, and
    what `check` raises.
    """
    old = s.scalars(select(Message).where(Message.id == message_id)).one_or_none()
    if old is None:
        raise NotFound("MESSAGE")
    try:
        locked = lock(s, old.conversation_id)
    except NotFound:
        raise NotFound("MESSAGE") from None
    if old.role != Role.ASSISTANT:
        raise InvalidField({"message_id": "must name a reply, and this is a user's message"})
    prompt = s.scalars(select(Message).where(Message.id == old.reply_to)).one()
    attachments.load(s, [prompt])
    files = prompt.attachments if prompt.attachment_count else ()
    if request_id:
        found = _attach_regenerate(s, locked, prompt, request_id, model)
        if found is not None:
            return found
    chosen = check(locked.conversation, prompt.content, files)
    wished = bool(request_id) and use_up_wish(s, locked, request_id or "")
    queue = _Queue.of(s, old.conversation_id)
    if not wished and queue.waiting >= max_queued:
        raise QueueFull(f"conversation:{old.conversation_id}", max_queued)
    # A request that was cancelled before it came takes no reply's place.
    changed = [] if wished else _supersede(s, locked, prompt.id)
    queue = _Queue.of(s, old.conversation_id)
    position = locked.conversation.message_count + 1
    reply = _new_reply(locked, prompt, chosen, position)
    reply.request_id = request_id
    if wished:
        reply.state = State.CANCELLED
    owned = not (wished or queue.is_busy) and _begin(s, reply, lease)
    s.add(reply)
    s.flush()
    _count(s, locked, position)
    return Sent(
        Change(old.conversation_id, locked.version, (*changed, reply)), prompt, reply, owned
    )


_COUNTS = (
    select(Message.state, func.count())
    .where(Message.conversation_id == bindparam("conversation"), is_unfinished)
    .group_by(Message.state)
)


@dataclass(frozen=True, slots=True)
class _Queue:
    """How busy a conversation is."""

    live: int
    waiting: int

    @property
    def is_busy(self) -> bool:
        return self.live + self.waiting > 0

    @staticmethod
    def of(s: Session, conversation_id: str) -> _Queue:
        counts = {row[0]: row[1] for row in s.execute(_COUNTS, {"conversation": conversation_id})}
        return _Queue(counts.get(State.GENERATING, 0), counts.get(State.QUEUED, 0))


def _attach(s: Session, locked: Locked, prompt: Prompt) -> Sent | None:
    """The prompt that this request_id stored before, with its reply."""
    assert prompt.request_id
    reply_id = reply_of_request(s, prompt.conversation_id, prompt.request_id)
    if reply_id is None:
        return None
    reply = _get(s, reply_id)
    assert reply.reply_to
    message = _get(s, reply.reply_to)
    try:
        author = find_author(s, message.account_id, prompt.author)
    except InvalidField:  # nobody, and so somebody else
        author = None
    attachments.load(s, [message])
    files = message.attachments if message.attachment_count else ()
    if (
        message.request_id != prompt.request_id  # it was a RegenerateReply's
        or message.content != prompt.content
        or tuple(file.id for file in files) != prompt.attachment_ids
        or author is None
        or message.author_id != author.id
    ):
        raise RequestIdReused
    return Sent(Change(prompt.conversation_id, locked.version), message, reply)


def _attach_regenerate(
    s: Session, locked: Locked, prompt: Message, request_id: str, model: str
) -> Sent | None:
    """The reply to this prompt that this request_id asked for before, of that model if any."""
    reply_id = reply_of_request(s, locked.conversation.id, request_id)
    if reply_id is None:
        return None
    reply = _get(s, reply_id)
    is_same = reply.request_id == request_id and reply.reply_to == prompt.id
    if not is_same or model not in ("", reply.model):
        raise RequestIdReused
    return Sent(Change(locked.conversation.id, locked.version), prompt, reply)


def _get(s: Session, message_id: str) -> Message:
    return s.scalars(select(Message).where(Message.id == message_id), execution_options=FRESH).one()


def _new_reply(locked: Locked, prompt: Message, model: str, position: int) -> Message:
    return Message(
        id=new_id(),
        account_id=prompt.account_id,
        conversation_id=prompt.conversation_id,
        position=position,
        role=Role.ASSISTANT,
        state=State.QUEUED,
        version=locked.version,
        create_time=locked.now,
        update_time=locked.now,
        reply_to=prompt.id,
        model=model,
        attempt=1,
        epoch=0,
        lease_until=0,
        queue_rank=locked.version,
    )


def _begin(s: Session, reply: Message, lease: Lease | None) -> bool:
    """Lets a reply that is not stored yet start at once, if there is room."""
    if lease is None or not account_has_room(s, reply.account_id, lease):
        return False
    reply.state = State.GENERATING
    reply.epoch = 1
    reply.lease_until = db_now() + lease.ttl
    return True


def _interrupt(s: Session, locked: Locked, queue: _Queue) -> Message | None:
    """Asks for the cancel of the live reply."""
    if not queue.live:
        return None
    live = s.scalars(
        select(Message.id).where(Message.conversation_id == locked.conversation.id, is_generating)
    ).one()
    return cancel_in(s, locked, live).reply


def _supersede(s: Session, locked: Locked, prompt_id: str) -> Sequence[Message]:
    """Takes the replies to a prompt out of the context; one that waits is cancelled."""
    waiting = s.scalars(
        select(Message.id).where(Message.reply_to == prompt_id, Message.state == State.QUEUED)
    ).all()
    for message_id in waiting:
        cancel_in(s, locked, message_id)
    return s.scalars(
        update(Message)
        .where(Message.reply_to == prompt_id, Message.superseded.is_(False))
        .values(superseded=True, version=locked.version, update_time=locked.now)
        .returning(Message),
        execution_options=FRESH,
    ).all()


_COUNT = (
    update(Conversation)
    .where(Conversation.id == bindparam("wanted"))
    .values(
        message_count=bindparam("count"),
        last_message_time=bindparam("now"),
        activity_time=bindparam("now"),
    )
)


def _count(s: Session, locked: Locked, messages: int) -> None:
    s.execute(
        _COUNT,
        {"wanted": locked.conversation.id, "count": messages, "now": locked.now},
        execution_options=NO_SYNC,
    )


def _join(s: Session, locked: Locked, author: User, position: int) -> None:
    """Makes the author a participant, if they are not one yet."""
    insert_new(
        s,
        Membership,
        conversation_id=locked.conversation.id,
        user_id=author.id,
        account_id=author.account_id,
        position=position,
    )

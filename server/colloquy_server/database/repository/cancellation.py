"""Stopping replies: queued ones at once, live ones through their owner or, when it does not
answer, over its head."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from colloquy_server.database.models import MICROS, CancelWish, Message, Role, State, db_now
from colloquy_server.database.repository.changes import (
    FRESH,
    NO_SYNC,
    Change,
    Lease,
    Locked,
    Transition,
    is_generating,
    is_queued,
    lock,
    undo,
)
from colloquy_server.database.repository.leases import longer
from colloquy_server.database.repository.queue import start_next
from colloquy_server.errors import InvalidField, NotFound

WISH_KEPT = 3_600 * MICROS
"""How long the wish to cancel a request that has not come yet is kept."""


@dataclass(frozen=True, slots=True)
class CancelResult:
    """What came of asking for a cancel: the reply, or None while its request has not come;
    `is_live` when its owner has to be told."""

    change: Change | None
    reply: Message | None
    is_live: bool = False


def cancel(s: Session, message_id: str) -> CancelResult:
    """Cancels a queued reply, asks for the cancel of a live one, leaves a finished one.

    Raises NotFound, and InvalidField when the message is not a reply.
    """
    found = s.execute(
        select(Message.conversation_id, Message.role).where(Message.id == message_id)
    ).one_or_none()
    if found is None:
        raise NotFound("MESSAGE")
    conversation_id, role = found
    if role != Role.ASSISTANT:
        raise InvalidField({"message_id": "must name a reply, and this is a user's message"})
    try:
        locked = lock(s, conversation_id)
    except NotFound:
        raise NotFound("MESSAGE") from None
    return cancel_in(s, locked, message_id)


def cancel_request(
    s: Session, account_id: str, conversation_id: str, request_id: str
) -> CancelResult:
    """Cancels the reply of the SendMessage or RegenerateReply that this request_id names, or keeps
    the wish for when it comes. Raises NotFound."""
    locked = lock(s, conversation_id)
    reply_id = reply_of_request(s, conversation_id, request_id)
    if reply_id is not None:
        return cancel_in(s, locked, reply_id)
    s.execute(
        delete(CancelWish).where(
            CancelWish.conversation_id == conversation_id,
            (CancelWish.request_id == request_id) | (CancelWish.expire_time < locked.now),
        ),
        execution_options=NO_SYNC,
    )
    s.add(
        CancelWish(
            account_id=account_id,
            conversation_id=conversation_id,
            request_id=request_id,
            expire_time=locked.now + WISH_KEPT,
        )
    )
    s.flush()
    return CancelResult(Change(conversation_id, locked.version), None)


def reply_of_request(s: Session, conversation_id: str, request_id: str) -> str | None:
    """The reply that a request made: RegenerateReply's own, or the first to SendMessage's."""
    made = s.execute(
        select(Message.id, Message.role).where(
            Message.conversation_id == conversation_id, Message.request_id == request_id
        )
    ).one_or_none()
    if made is None:
        return None
    if made.role == Role.ASSISTANT:
        return str(made.id)
    first = select(Message.id).where(Message.reply_to == made.id).order_by(Message.position)
    return s.scalars(first.limit(1)).one()


def use_up_wish(s: Session, locked: Locked, request_id: str) -> bool:
    """Whether this request was cancelled before it came; the wish is used up."""
    wish = s.scalars(
        delete(CancelWish)
        .where(
            CancelWish.conversation_id == locked.conversation.id,
            CancelWish.request_id == request_id,
        )
        .returning(CancelWish.expire_time),
        execution_options=NO_SYNC,
    ).one_or_none()
    return wish is not None and wish >= locked.now


def cancel_in(s: Session, locked: Locked, message_id: str) -> CancelResult:
    """The same within a transaction that holds the conversation."""
    conversation_id = locked.conversation.id
    cancelled = s.scalars(
        update(Message)
        .where(Message.id == message_id, is_queued)
        .values(state=State.CANCELLED, version=locked.version, update_time=locked.now)
        .returning(Message),
        execution_options=FRESH,
    ).one_or_none()
    if cancelled is not None:
        return CancelResult(Change(conversation_id, locked.version, (cancelled,)), cancelled)
    asked = s.scalars(
        update(Message)
        .where(Message.id == message_id, is_generating)
        .values(cancel_requested=True)
        .returning(Message),
        execution_options=FRESH,
    ).one_or_none()
    unseen = Change(conversation_id, locked.version)
    if asked is not None:
        return CancelResult(unseen, asked, is_live=True)
    finished = s.scalars(
        select(Message).where(Message.id == message_id), execution_options=FRESH
    ).one_or_none()
    if finished is None:
        raise NotFound("MESSAGE")
    return CancelResult(unseen, finished)


def force_cancel(
    s: Session, conversation_id: str, message_id: str, lease: Lease | None, known: str, attempt: int
) -> Transition | None:
    """Cancels a live reply over the head of an owner that does not answer; its epoch is over.

    `known` is text of `attempt` that readers may have seen; it is kept if it is of the attempt
    that is saved and longer. None when the reply has finished meanwhile.
    """
    try:
        locked = lock(s, conversation_id)
    except NotFound:
        return None
    reply = s.scalars(
        select(Message)
        .where(Message.id == message_id, is_generating, Message.cancel_requested.is_(True))
        .with_for_update(of=Message),  # a checkpoint does not wait for the conversation's row
        execution_options=FRESH,
    ).one_or_none()
    if reply is None:
        undo(s)
        return None
    content = longer(known, reply.content) if reply.attempt == attempt else reply.content
    cancelled = s.scalars(
        update(Message)
        .where(Message.id == message_id, is_generating)
        .values(
            state=State.CANCELLED,
            epoch=Message.epoch + 1,
            lease_until=db_now(),
            content=content,
            version=locked.version,
            update_time=locked.now,
        )
        .returning(Message),
        execution_options=FRESH,
    ).one()
    following = start_next(s, locked, lease) if lease else None
    changed = (cancelled, following) if following else (cancelled,)
    return Transition(Change(conversation_id, locked.version, changed), following)

"""Stopping replies: queued ones at once, live ones through their owner or, when it does not
answer, over its head."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update

from colloquy_server.database.models import MICROS, CancelWish, Message, Role, State, db_now
from colloquy_server.database.repository import accounting
from colloquy_server.database.repository.changes import (
    Change,
    Lease,
    Locked,
    Transition,
    is_generating,
    is_kept,
    is_queued,
    lock,
)
from colloquy_server.database.repository.leases import longer
from colloquy_server.database.repository.outbox import record_end
from colloquy_server.database.repository.queue import start_next
from colloquy_server.database.repository.usage import PAYER, Payer, Pricing, unpriced
from colloquy_server.database.rows import MESSAGE, MessageRow, message
from colloquy_server.database.transactions import Session
from colloquy_server.errors import InvalidField, NotFound

WISH_KEPT = 3_600 * MICROS
"""How long the wish to cancel a request that has not come yet is kept."""


@dataclass(frozen=True, slots=True)
class CancelResult:
    """What came of asking for a cancel: the reply, or None while its request has not come;
    `is_live` when its owner has to be told."""

    change: Change | None
    reply: MessageRow | None
    is_live: bool = False


def cancel(s: Session, message_id: str) -> CancelResult:
    """Cancels a queued reply, asks for the cancel of a live one, leaves a finished one.

    Raises NotFound, and InvalidField when the message is not a reply.
    """
    found = s.run(
        select(Message.conversation_id, Message.role).where(Message.id == message_id, is_kept)
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
    s.run(
        delete(CancelWish).where(
            CancelWish.conversation_id == conversation_id,
            (CancelWish.request_id == request_id) | (CancelWish.expire_time < locked.now),
        )
    )
    s.run(
        insert(CancelWish),
        {
            "account_id": account_id,
            "conversation_id": conversation_id,
            "request_id": request_id,
            "expire_time": locked.now + WISH_KEPT,
        },
    )
    return CancelResult(Change(conversation_id, locked.version), None)


def reply_of_request(s: Session, conversation_id: str, request_id: str) -> str | None:
    """The reply that a request made: RegenerateReply's own, or the first to SendMessage's."""
    made = s.run(
        select(Message.id, Message.role).where(
            Message.conversation_id == conversation_id, Message.request_id == request_id
        )
    ).one_or_none()
    if made is None:
        return None
    if made.role == Role.ASSISTANT:
        return str(made.id)
    first = select(Message.id).where(Message.reply_to == made.id).order_by(Message.position)
    return str(s.run(first.limit(1)).scalar_one())


def use_up_wish(s: Session, locked: Locked, request_id: str) -> None:
    """Forgets the wish to cancel a request."""
    s.run(
        delete(CancelWish).where(
            CancelWish.conversation_id == locked.id, CancelWish.request_id == request_id
        )
    )


def cancel_in(s: Session, locked: Locked, message_id: str) -> CancelResult:
    """The same within a transaction that holds the conversation."""
    cancelled = s.run(
        update(Message)
        .where(Message.id == message_id, is_queued)
        .values(state=State.CANCELLED, version=locked.version, update_time=locked.now)
        .returning(*MESSAGE)
    ).one_or_none()
    if cancelled is not None:
        reply = message(cancelled)
        accounting.release(s, locked, [message_id])
        record_end(s, locked, reply)
        return CancelResult(Change(locked.id, locked.version, (reply,)), reply)
    asked = s.run(
        update(Message)
        .where(Message.id == message_id, is_generating)
        .values(cancel_requested=True)
        .returning(*MESSAGE)
    ).one_or_none()
    unseen = Change(locked.id, locked.version)
    if asked is not None:
        return CancelResult(unseen, message(asked), is_live=True)
    finished = s.run(select(*MESSAGE).where(Message.id == message_id, is_kept)).one_or_none()
    if finished is None:
        raise NotFound("MESSAGE")
    return CancelResult(unseen, message(finished))


def force_cancel(
    s: Session,
    conversation_id: str,
    message_id: str,
    lease: Lease | None,
    known: str,
    attempt: int,
    price: Pricing = unpriced,
) -> Transition | None:
    """Cancels a live reply over the head of an owner that does not answer; its epoch is over, and
    what it used is booked as an estimate.

    `known` is text of `attempt` that readers may have seen; it is kept if it is of the attempt
    that is saved and longer. None when the reply has finished meanwhile.
    """
    try:
        locked = lock(s, conversation_id)
    except NotFound:
        return None
    found = s.run(
        select(*MESSAGE)
        .where(Message.id == message_id, is_generating, Message.cancel_requested.is_(True))
        .with_for_update(of=Message)  # a checkpoint does not wait for the conversation's row
    ).one_or_none()
    if found is None:
        s.undo()
        return None
    reply = message(found)
    content = longer(known, reply.content) if reply.attempt == attempt else reply.content
    row = s.run(
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
        .returning(*MESSAGE, *PAYER)
    ).one()
    cancelled = message(row[:-2])
    accounting.end_lost(s, locked, cancelled, Payer(*row[-2:]), price)
    record_end(s, locked, cancelled)
    following = start_next(s, locked, lease) if lease else None
    changed = (cancelled, following) if following else (cancelled,)
    return Transition(Change(conversation_id, locked.version, changed), following)

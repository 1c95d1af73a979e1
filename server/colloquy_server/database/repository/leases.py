"""The life of a reply in its row: who owns it, and what an owner may write.

One transaction a function. An owner is known by the reply's `epoch`, which only grows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Table, and_, bindparam, insert, select, tuple_, update
from sqlalchemy.orm import Session

from colloquy_server.database.models import Conversation, Message, Receipt, State, db_now
from colloquy_server.database.repository.changes import (
    FRESH,
    NO_SYNC,
    Change,
    Fenced,
    Lease,
    Locked,
    Transition,
    is_generating,
    lock,
    undo,
)
from colloquy_server.database.repository.queue import start_next
from colloquy_server.database.repository.titles import TITLE_TRIES
from colloquy_server.errors import NotFound

RELEASED = 0
"""The `lease_until` of a reply whose owner released it."""

has_owner = and_(is_generating, Message.lease_until != RELEASED)
"""Whether a reply has an owner, alive or dead. What an owner began before it released a reply, and
what comes later, is not to claim it again."""

MAX_STRIKES = 3
"""Owners of one reply that died before it is given up: it may be what kills them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reply ended."""

    state: State
    content: str
    finish_reason: str = ""
    error_reason: str = ""
    error_message: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    receipt: str = ""
    """What the model was given, as `receipts` keeps it; empty when no model was asked."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The text so far of a reply's attempt, and the owner's epoch."""

    message_id: str
    epoch: int
    attempt: int
    content: str


def save_checkpoints(s: Session, texts: Sequence[Checkpoint]) -> set[str]:
    """Saves the text so far of many replies; returns the ids of those that are not
    the caller's any more: they ended, or were released, claimed by another owner or deleted."""
    if _write_owned(s, texts, {}):
        return set()
    owned = [(text.message_id, text.epoch) for text in texts]
    kept = s.scalars(
        select(Message.id).where(tuple_(Message.id, Message.epoch).in_(owned), has_owner)
    )
    return {text.message_id for text in texts} - set(kept)


def release(s: Session, texts: Sequence[Checkpoint]) -> None:
    """Saves the text so far of many replies and releases their leases, so that another process
    goes on with them at once."""
    _write_owned(s, texts, {"lease_until": RELEASED})


def _write_owned(s: Session, texts: Sequence[Checkpoint], values: Mapping[str, int]) -> bool:
    """One statement for all, in the order of ids, so that two such writers cannot deadlock.

    Says whether all of them were written.
    """
    if not texts:
        return True
    table = Message.__table__
    assert isinstance(table, Table)
    written = s.connection().execute(
        table.update()
        .where(
            table.c.id == bindparam("reply"),
            table.c.epoch == bindparam("owner"),
            table.c.attempt == bindparam("of_attempt"),
            table.c.state == State.GENERATING,
            table.c.lease_until != RELEASED,
        )
        .values(content=bindparam("text"), **values),
        [
            {
                "reply": text.message_id,
                "owner": text.epoch,
                "of_attempt": text.attempt,
                "text": text.content,
            }
            for text in sorted(texts, key=lambda text: text.message_id)
        ],
    )
    return written.rowcount == len(texts)


def renew(s: Session, owned: Sequence[tuple[str, int]], ttl: int) -> dict[str, bool]:
    """Renews the leases of the replies (id, epoch), for `ttl` microseconds from now.

    Returns, for each that is still the caller's, whether it is to be cancelled.
    """
    # In the order of a checkpoint, so that the two cannot deadlock.
    ids = [message_id for message_id, _ in owned]
    s.execute(select(Message.id).where(Message.id.in_(ids)).order_by(Message.id).with_for_update())
    rows = s.execute(
        update(Message)
        .where(tuple_(Message.id, Message.epoch).in_(owned), has_owner)
        .values(lease_until=db_now() + ttl)
        .returning(Message.id, Message.cancel_requested),
        execution_options=NO_SYNC,
    )
    return {row[0]: row[1] for row in rows}


def begin_attempt(
    s: Session, conversation_id: str, message_id: str, epoch: int, text: str
) -> Transition:
    """A new attempt came to its first text, which replaces the last attempt's. Raises Fenced."""
    locked = _lock_owned(s, conversation_id)
    reply = s.scalars(
        update(Message)
        .where(Message.id == message_id, Message.epoch == epoch, is_generating)
        .values(
            attempt=Message.attempt + 1,
            content=text,
            version=locked.version,
            update_time=locked.now,
        )
        .returning(Message),
        execution_options=FRESH,
    ).one_or_none()
    if reply is None:
        raise Fenced
    return Transition(Change(conversation_id, locked.version, (reply,)), reply)


def finish(
    s: Session,
    conversation_id: str,
    message_id: str,
    epoch: int,
    outcome: Outcome,
    lease: Lease | None,
) -> Transition:
    """Ends a reply; with a lease, the next one starts, and the caller owns it. Raises Fenced."""
    locked = _lock_owned(s, conversation_id)
    reply = _end(s, locked, message_id, outcome, Message.epoch == epoch)
    if reply is None:
        raise Fenced
    conversation = locked.conversation
    if outcome.state == State.COMPLETED and not (conversation.title or conversation.title_by_user):
        s.execute(
            update(Conversation)
            .where(Conversation.id == conversation_id, Conversation.title_owed == 0)
            .values(title_owed=TITLE_TRIES),
            execution_options=NO_SYNC,
        )
    return _ended(s, locked, reply, lease)


def _lock_owned(s: Session, conversation_id: str) -> Locked:
    try:
        return lock(s, conversation_id)
    except NotFound:
        raise Fenced from None


_RECEIPT = insert(Receipt.__table__)  # type: ignore[arg-type]


def _end(
    s: Session, locked: Locked, message_id: str, outcome: Outcome, *conditions: object
) -> Message | None:
    reply = s.scalars(
        update(Message)
        .where(Message.id == message_id, is_generating, *conditions)  # type: ignore[arg-type]
        .values(
            state=outcome.state,
            content=outcome.content,
            finish_reason=outcome.finish_reason,
            error_reason=outcome.error_reason,
            error_message=outcome.error_message,
            input_tokens=outcome.input_tokens,
            output_tokens=outcome.output_tokens,
            cost_usd=outcome.cost_usd,
            version=locked.version,
            update_time=locked.now,
        )
        .returning(Message),
        execution_options=FRESH,
    ).one_or_none()
    if reply is not None and outcome.receipt:
        receipt = {"message_id": reply.id, "body": outcome.receipt}
        s.connection().execute(_RECEIPT, {"account_id": reply.account_id, **receipt})
    return reply


def _ended(s: Session, locked: Locked, reply: Message, lease: Lease | None) -> Transition:
    following = start_next(s, locked, lease) if lease else None
    changed = (reply, following) if following else (reply,)
    return Transition(Change(locked.conversation.id, locked.version, changed), following)


def expired(s: Session, limit: int) -> list[Message]:
    """Replies whose owner's lease is over, the longest first."""
    return list(
        s.scalars(
            select(Message)
            .where(is_generating, Message.lease_until < db_now())
            .order_by(Message.lease_until)
            .limit(limit)
        )
    )


def take_over(
    s: Session,
    conversation_id: str,
    message_id: str,
    lease: Lease,
    known: str = "",
    attempt: int = 0,
) -> Transition | None:
    """Claims a reply whose owner's lease is over.

    One that was to be cancelled is cancelled, one whose third owner died fails; the caller then
    may own the next one. `known` is text of `attempt` that readers may have seen; it is kept if
    it is of the attempt that is saved and longer. None when there is nothing to take over any more.
    """
    try:
        locked = lock(s, conversation_id)
    except NotFound:
        return None
    is_over = Message.lease_until < db_now()
    reply = s.scalars(
        select(Message)
        .where(Message.id == message_id, is_generating, is_over)
        .with_for_update(of=Message),  # a checkpoint does not wait for the conversation's row
        execution_options=FRESH,
    ).one_or_none()
    if reply is None:
        undo(s)
        return None
    died = reply.lease_until != RELEASED
    content = longer(known, reply.content) if reply.attempt == attempt else reply.content
    outcome = None
    if reply.cancel_requested:
        outcome = Outcome(State.CANCELLED, content)
    elif died and reply.strikes + 1 >= MAX_STRIKES:
        outcome = Outcome(
            State.FAILED,
            content,
            error_reason="REPLY_ABANDONED",
            error_message="The server stopped three times while writing this reply. Send it again.",
        )
    if outcome is not None:
        ended = _end(s, locked, message_id, outcome, is_over)
        return _ended(s, locked, ended, lease) if ended else None
    claimed = s.scalars(
        update(Message)
        .where(Message.id == message_id, is_generating, is_over)
        .values(
            epoch=Message.epoch + 1,
            strikes=Message.strikes + (1 if died else 0),
            lease_until=db_now() + lease.ttl,
            content=content,
        )
        .returning(Message),
        execution_options=FRESH,
    ).one_or_none()
    return Transition(Change(conversation_id, locked.version), claimed) if claimed else None


def longer(known: str, saved: str) -> str:
    """Of two texts of one attempt the one that holds more."""
    return known if len(known) > len(saved) else saved

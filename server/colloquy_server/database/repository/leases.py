"""The life of a reply in its row: who owns it, and what an owner may write.

One transaction a function. An owner is known by the reply's `epoch`, which only grows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Integer,
    Table,
    Update,
    and_,
    bindparam,
    case,
    insert,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from colloquy_server.database.models import (
    MICROS,
    Conversation,
    Message,
    Receipt,
    State,
    db_now,
)
from colloquy_server.database.repository import accounting
from colloquy_server.database.repository.changes import (
    Change,
    Fenced,
    Lease,
    Locked,
    Transition,
    is_generating,
    lock,
    send_lock,
)
from colloquy_server.database.repository.outbox import record_end
from colloquy_server.database.repository.queue import send_next, start_found
from colloquy_server.database.repository.titles import TITLE_TRIES
from colloquy_server.database.repository.usage import (
    PAYER,
    Payer,
    Pricing,
    Spent,
    of_lost,
    unpriced,
)
from colloquy_server.database.rows import MESSAGE, MESSAGE_WITHOUT_TEXT, MessageRow, message
from colloquy_server.database.transactions import Session
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
    spent: Sequence[Spent] = ()
    """What its attempts used that was not booked before; the tokens and the cost beside it are what
    providers told of all of them."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The text so far of a reply's attempt, and the owner's epoch."""

    message_id: str
    epoch: int
    attempt: int
    content: str


_KEPT = select(Message.id).where(
    tuple_(Message.id, Message.epoch).in_(bindparam("owned", expanding=True)), has_owner
)


def save_checkpoints(s: Session, texts: Sequence[Checkpoint]) -> set[str]:
    """Saves the text so far of many replies; returns the ids of those that are not
    the caller's any more: they ended, or were released, claimed by another owner or deleted."""
    if _write_owned(s, _SAVE, texts):
        return set()
    owned = [(text.message_id, text.epoch) for text in texts]
    kept = s.run(_KEPT, {"owned": owned}).scalars()
    return {text.message_id for text in texts} - set(kept)


def release(s: Session, texts: Sequence[Checkpoint]) -> None:
    """Saves the text so far of many replies and releases their leases, so that another process
    goes on with them at once."""
    _write_owned(s, _RELEASE, texts)


_table = Message.__table__
assert isinstance(_table, Table)
_OWNED = _table.update().where(
    _table.c.id == bindparam("reply"),
    _table.c.epoch == bindparam("owner"),
    _table.c.attempt == bindparam("of_attempt"),
    _table.c.state == State.GENERATING,
    _table.c.lease_until != RELEASED,
)
_SAVE = _OWNED.values(content=bindparam("text"))
_RELEASE = _OWNED.values(content=bindparam("text"), lease_until=RELEASED)


def _write_owned(s: Session, statement: Update, texts: Sequence[Checkpoint]) -> bool:
    """One statement for all, in the order of ids, so that two such writers cannot deadlock.

    Says whether all of them were written.
    """
    written = s.run(
        statement,
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


_IN_ORDER = (
    select(Message.id)
    .where(Message.id.in_(bindparam("replies", expanding=True)))
    .order_by(Message.id)
    .with_for_update()
)
_RENEW = (
    update(Message)
    .where(tuple_(Message.id, Message.epoch).in_(bindparam("owned", expanding=True)), has_owner)
    .values(lease_until=db_now() + bindparam("ttl"))
    .returning(Message.id, Message.cancel_requested)
)


def renew(s: Session, owned: Sequence[tuple[str, int]], ttl: int) -> dict[str, bool]:
    """Renews the leases of the replies (id, epoch), for `ttl` microseconds from now.

    Returns, for each that is still the caller's, whether it is to be cancelled.
    """
    # In the order of a checkpoint, so that the two cannot deadlock.
    s.run(_IN_ORDER, {"replies": [message_id for message_id, _ in owned]})
    rows = s.run(_RENEW, {"owned": owned, "ttl": ttl})
    return {row[0]: bool(row[1]) for row in rows}


_ATTEMPT = (
    update(Message)
    .where(Message.id == bindparam("reply"), Message.epoch == bindparam("owner"), is_generating)
    .values(
        attempt=Message.attempt + 1,
        # A fallback's text takes the place of that of the model that was asked for.
        model=bindparam("by"),
        requested_model=case(
            (and_(Message.requested_model == "", Message.model != bindparam("by")), Message.model),
            else_=Message.requested_model,
        ),
        content=bindparam("text"),
        version=bindparam("new_version"),
        update_time=bindparam("now"),
    )
    .returning(*MESSAGE, *PAYER)
)


def begin_attempt(
    s: Session,
    conversation_id: str,
    message_id: str,
    epoch: int,
    text: str,
    model: str,
    attempt: int = 1,
    spent: Sequence[Spent] = (),
) -> Transition:
    """A new attempt, by this model, came to its first text, which replaces the last attempt's: that
    of `attempt`. What the attempts before it used is booked, so that it does not die with their
    owner. Raises Fenced."""
    locked = _locked_by_owner(send_lock(s, conversation_id))
    row = s.run(
        _ATTEMPT,
        {
            "reply": message_id,
            "owner": epoch,
            "text": text,
            "by": model,
            "new_version": locked.version,
            "now": locked.now,
        },
    ).one_or_none()
    if row is None:
        raise Fenced
    reply = message(row[:-2])
    if reply.attempt == attempt + 1:  # else this is tried again, and was done before
        accounting.book(s, locked, Payer(*row[-2:]), spent)
    return Transition(Change(conversation_id, locked.version, (reply,)), reply)


_OWE_TITLE = (
    update(Conversation)
    .where(Conversation.id == bindparam("wanted"), Conversation.title_owed == 0)
    .values(title_owed=TITLE_TRIES)
)


def finish(
    s: Session,
    conversation_id: str,
    message_id: str,
    epoch: int,
    outcome: Outcome,
    lease: Lease | None,
) -> Transition:
    """Ends a reply; with a lease, the next one starts, and the caller owns it. Raises Fenced."""
    locking = send_lock(s, conversation_id)
    ended = _end(
        s,
        lambda: _locked_by_owner(locking),
        conversation_id,
        _END_OWN,
        {"owner": epoch, "reply": message_id},
        outcome,
        lease,
    )
    if ended is None:
        raise Fenced
    return ended


def _locked_by_owner(locking: Callable[[], Locked]) -> Locked:
    try:
        return locking()
    except NotFound:
        raise Fenced from None


_RECEIPT = insert(Receipt)
_END = (
    update(Message)
    .where(Message.id == bindparam("reply"), is_generating)
    .values(
        state=bindparam("new_state"),
        content=bindparam("text"),
        finish_reason=bindparam("why"),
        error_reason=bindparam("error"),
        error_message=bindparam("error_text"),
        input_tokens=bindparam("tokens_in"),
        output_tokens=bindparam("tokens_out"),
        cost_usd=bindparam("cost"),
        # Of the row that is locked just before, in the same way to the database.
        version=select(Conversation.version)
        .where(
            Conversation.id == Message.conversation_id,
            Conversation.account_id == Message.account_id,
        )
        .correlate(Message)
        .scalar_subquery(),
        update_time=db_now(),
    )
    .returning(*MESSAGE_WITHOUT_TEXT, *PAYER)
)
_END_OWN = _END.where(Message.epoch == bindparam("owner"))
_END_EXPIRED = _END.where(Message.lease_until < db_now())


def _end(
    s: Session,
    locking: Callable[[], Locked],
    conversation_id: str,
    statement: ReturningUpdate[Any],
    condition: Mapping[str, object],
    outcome: Outcome,
    lease: Lease | None,
) -> Transition | None:
    """Ends a reply, of a conversation that is locked or about to be, and starts the next one; None
    if the reply is not as the condition says. Raises what `locking` raises."""
    ending = s.send(
        statement,
        {
            **condition,
            "new_state": outcome.state,
            "text": outcome.content,
            "why": outcome.finish_reason,
            "error": outcome.error_reason,
            "error_text": outcome.error_message,
            "tokens_in": outcome.input_tokens,
            "tokens_out": outcome.output_tokens,
            "cost": outcome.cost_usd,
        },
    )
    queued = send_next(s, conversation_id) if lease else None
    row = ending().one_or_none()
    locked = locking()
    if row is None:
        return None
    reply = message((*row[:-2], outcome.content))
    accounting.end(s, locked, reply, Payer(*row[-2:]), outcome.spent)
    if outcome.receipt:
        receipt = {"message_id": reply.id, "body": outcome.receipt}
        s.send(_RECEIPT, {"account_id": reply.account_id, **receipt})
    record_end(s, locked, reply)
    if outcome.state == State.COMPLETED and not locked.is_titled:
        s.send(_OWE_TITLE, {"wanted": conversation_id})
    following = start_found(s, locked, lease, queued) if lease and queued else None
    changed = (reply, following) if following else (reply,)
    is_last = reply.position == locked.last_position
    return Transition(Change(locked.id, locked.version, changed), following, is_last)


_FAR_AHEAD = 600 * MICROS
"""A lease that lasts so much longer than one that is claimed now was claimed before the clock was
set back. It is more than the LEASE_TTL of two processes may differ."""

_is_far_ahead = Message.lease_until > db_now() + bindparam("ttl") + _FAR_AHEAD

_EXPIRED = (
    select(*MESSAGE)
    .where(is_generating, or_(Message.lease_until < db_now(), _is_far_ahead))
    .order_by(Message.lease_until)
    .limit(bindparam("size", type_=Integer))
)


_BRING_NEAR = (
    update(Message)
    .where(Message.id == bindparam("reply"), is_generating, _is_far_ahead)
    .values(lease_until=db_now() + bindparam("ttl"))
)


def expired(s: Session, limit: int, ttl: int) -> list[MessageRow]:
    """Replies whose owner's lease is over, the longest first, and those whose lease was claimed
    before the clock was set back: leases last `ttl` microseconds."""
    return [message(row) for row in s.run(_EXPIRED, {"size": limit, "ttl": ttl})]


def take_over(
    s: Session,
    conversation_id: str,
    message_id: str,
    lease: Lease,
    known: str = "",
    attempt: int = 0,
    price: Pricing = unpriced,
) -> Transition | None:
    """Claims a reply whose owner's lease is over, and books an estimate of what that owner used.

    One that was to be cancelled is cancelled, one whose third owner died fails; the caller then
    may own the next one. `known` is text of `attempt` that readers may have seen; it is kept if
    it is of the attempt that is saved and longer. None when there is nothing to take over any more,
    or not yet: where the clock was set back, a lease first is made to end as one of now does, so
    that an owner who lives can renew it.
    """
    try:
        locked = lock(s, conversation_id)
    except NotFound:
        return None
    is_over = Message.lease_until < db_now()
    found = s.run(
        select(*MESSAGE, *PAYER)
        .where(Message.id == message_id, is_generating, is_over)
        .with_for_update(of=Message)  # a checkpoint does not wait for the conversation's row
    ).one_or_none()
    if found is None:
        if not s.run(_BRING_NEAR, {"reply": message_id, "ttl": lease.ttl}).rowcount:
            s.undo()
        return None
    reply = message(found[:-2])
    died = reply.lease_until != RELEASED
    content = longer(known, reply.content) if reply.attempt == attempt else reply.content
    lost = of_lost(s, reply, content, price)
    outcome = None
    if reply.cancel_requested:
        outcome = Outcome(State.CANCELLED, content, spent=[lost])
    elif died and reply.strikes + 1 >= MAX_STRIKES:
        outcome = Outcome(
            State.FAILED,
            content,
            error_reason="REPLY_ABANDONED",
            error_message="The server stopped three times while writing this reply. Send it again.",
            spent=[lost],
        )
    if outcome is not None:
        condition = {"reply": message_id}
        return _end(s, lambda: locked, conversation_id, _END_EXPIRED, condition, outcome, lease)
    claimed = s.run(
        update(Message)
        .where(Message.id == message_id, is_generating, is_over)
        .values(
            epoch=Message.epoch + 1,
            strikes=Message.strikes + (1 if died else 0),
            lease_until=db_now() + lease.ttl,
            content=content,
        )
        .returning(*MESSAGE)
    ).one_or_none()
    if claimed is None:
        return None
    accounting.book(s, locked, Payer(*found[-2:]), [lost])
    return Transition(Change(conversation_id, locked.version), message(claimed))


def longer(known: str, saved: str) -> str:
    """Of two texts of one attempt the one that holds more."""
    return known if len(known) > len(saved) else saved

"""The life of a reply in its row: who owns it, and what an owner may write.

One transaction a function. An owner is known by the reply's `epoch`, which only grows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Integer,
    Table,
    Update,
    and_,
    bindparam,
    insert,
    select,
    tuple_,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from colloquy_server.database.models import Conversation, Message, Receipt, State, db_now
from colloquy_server.database.repository.changes import (
    Change,
    Fenced,
    Lease,
    Locked,
    Transition,
    is_generating,
    lock,
)
from colloquy_server.database.repository.queue import start_next
from colloquy_server.database.repository.titles import TITLE_TRIES
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
        content=bindparam("text"),
        version=bindparam("new_version"),
        update_time=bindparam("now"),
    )
    .returning(*MESSAGE)
)


def begin_attempt(
    s: Session, conversation_id: str, message_id: str, epoch: int, text: str
) -> Transition:
    """A new attempt came to its first text, which replaces the last attempt's. Raises Fenced."""
    locked = _lock_owned(s, conversation_id)
    row = s.run(
        _ATTEMPT,
        {
            "reply": message_id,
            "owner": epoch,
            "text": text,
            "new_version": locked.version,
            "now": locked.now,
        },
    ).one_or_none()
    if row is None:
        raise Fenced
    reply = message(row)
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
    locked = _lock_owned(s, conversation_id)
    reply = _end(s, _END_OWN, {"owner": epoch}, locked, message_id, outcome)
    if reply is None:
        raise Fenced
    if outcome.state == State.COMPLETED and not locked.is_titled:
        s.run(_OWE_TITLE, {"wanted": conversation_id})
    return _ended(s, locked, reply, lease)


def _lock_owned(s: Session, conversation_id: str) -> Locked:
    try:
        return lock(s, conversation_id)
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
        version=bindparam("new_version"),
        update_time=bindparam("now"),
    )
    .returning(*MESSAGE_WITHOUT_TEXT)
)
_END_OWN = _END.where(Message.epoch == bindparam("owner"))
_END_EXPIRED = _END.where(Message.lease_until < db_now())


def _end(
    s: Session,
    statement: ReturningUpdate[Any],
    condition: Mapping[str, int],
    locked: Locked,
    message_id: str,
    outcome: Outcome,
) -> MessageRow | None:
    row = s.run(
        statement,
        {
            **condition,
            "reply": message_id,
            "new_state": outcome.state,
            "text": outcome.content,
            "why": outcome.finish_reason,
            "error": outcome.error_reason,
            "error_text": outcome.error_message,
            "tokens_in": outcome.input_tokens,
            "tokens_out": outcome.output_tokens,
            "cost": outcome.cost_usd,
            "new_version": locked.version,
            "now": locked.now,
        },
    ).one_or_none()
    if row is None:
        return None
    reply = message((*row, outcome.content))
    if outcome.receipt:
        receipt = {"message_id": reply.id, "body": outcome.receipt}
        s.run(_RECEIPT, {"account_id": reply.account_id, **receipt})
    return reply


def _ended(s: Session, locked: Locked, reply: MessageRow, lease: Lease | None) -> Transition:
    following = start_next(s, locked, lease) if lease else None
    changed = (reply, following) if following else (reply,)
    is_last = reply.position == locked.message_count
    return Transition(Change(locked.id, locked.version, changed), following, is_last)


_EXPIRED = (
    select(*MESSAGE)
    .where(is_generating, Message.lease_until < db_now())
    .order_by(Message.lease_until)
    .limit(bindparam("size", type_=Integer))
)


def expired(s: Session, limit: int) -> list[MessageRow]:
    """Replies whose owner's lease is over, the longest first."""
    return [message(row) for row in s.run(_EXPIRED, {"size": limit})]


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
    found = s.run(
        select(*MESSAGE)
        .where(Message.id == message_id, is_generating, is_over)
        .with_for_update(of=Message)  # a checkpoint does not wait for the conversation's row
    ).one_or_none()
    if found is None:
        s.undo()
        return None
    reply = message(found)
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
        ended = _end(s, _END_EXPIRED, {}, locked, message_id, outcome)
        return _ended(s, locked, ended, lease) if ended else None
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
    return Transition(Change(conversation_id, locked.version), message(claimed))


def longer(known: str, saved: str) -> str:
    """Of two texts of one attempt the one that holds more."""
    return known if len(known) > len(saved) else saved

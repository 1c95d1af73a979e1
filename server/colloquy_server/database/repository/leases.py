"""The life of a reply in its row: who owns it, and what an owner may write.

One transaction a function. An owner is known by the reply's `epoch`, which only grows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Integer, Select, Table, and_, bindparam, func, insert, select, tuple_, update
from sqlalchemy.orm import Session, aliased

from colloquy_server.database.models import Conversation, Message, Receipt, State, db_now
from colloquy_server.database.repository import search
from colloquy_server.database.repository.changes import (
    FRESH,
    NO_SYNC,
    Change,
    Fenced,
    Lease,
    Locked,
    is_generating,
    is_queued,
    lock,
    undo,
)
from colloquy_server.database.repository.conversations import TITLE_TRIES
from colloquy_server.errors import NotFound

HANDED_BACK = 0
"""The `lease_until` of a reply that its owner gave up in good order."""

is_held = and_(is_generating, Message.lease_until != HANDED_BACK)
"""Whether a reply has an owner, alive or dead. What an owner began before it gave a reply up, and
what comes later, is not to take it back."""

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
class Text:
    """The text so far of a reply's attempt, and the owner's epoch."""

    message_id: str
    epoch: int
    attempt: int
    content: str


@dataclass(frozen=True, slots=True)
class Step:
    """What a transaction did to a conversation's replies: the change for its readers, and the
    reply that the caller now owns, if any."""

    change: Change
    owned: Message | None = None


_NEXT = (
    select(Message.id)
    .where(Message.conversation_id == bindparam("conversation"), is_queued)
    .order_by(Message.queue_rank, Message.position)
    .limit(1)
)


def start_next(s: Session, locked: Locked, lease: Lease) -> Message | None:
    """Starts the first queued reply of a locked conversation in which none is being written, if
    its account has room."""
    head = s.scalars(_NEXT, {"conversation": locked.conversation.id}).one_or_none()
    if head is None or not account_has_room(s, locked.conversation.account_id, lease):
        return None
    return s.scalars(
        update(Message)
        .where(Message.id == head, is_queued)
        .values(
            state=State.GENERATING,
            epoch=Message.epoch + 1,
            lease_until=db_now() + lease.ttl,
            version=locked.version,
            update_time=locked.now,
        )
        .returning(Message),
        execution_options=FRESH,
    ).one_or_none()


_LIVE = (
    select(func.count())
    .select_from(Message)
    .where(Message.account_id == bindparam("account"), is_generating)
)


def account_has_room(s: Session, account_id: str, lease: Lease) -> bool:
    """Whether one more reply of this account may be written."""
    return s.scalars(_LIVE, {"account": account_id}).one() < lease.per_account


def is_busy(s: Session, conversation_id: str) -> bool:
    """Whether a reply of the conversation is being written."""
    query = select(Message.id).where(Message.conversation_id == conversation_id, is_generating)
    return s.scalars(query).first() is not None


def _startable() -> Select[str, str]:
    live = (
        select(Message.account_id, func.count().label("n"))
        .where(is_generating)
        .group_by(Message.account_id)
        .subquery()
    )
    other = aliased(Message)
    busy = select(other.conversation_id).where(other.state == 2, other.state < 3)
    waiting = (
        select(
            Message.account_id,
            Message.conversation_id,
            func.min(Message.create_time).label("since"),
        )
        .where(is_queued, Message.conversation_id.not_in(busy))
        .group_by(Message.account_id, Message.conversation_id)
        .subquery()
    )
    place = func.row_number().over(partition_by=waiting.c.account_id, order_by=waiting.c.since)
    turns = (
        select(
            waiting.c.account_id,
            waiting.c.conversation_id,
            waiting.c.since,
            (place + func.coalesce(live.c.n, 0)).label("turn"),
        )
        .outerjoin(live, live.c.account_id == waiting.c.account_id)
        .subquery()
    )
    return (
        select(turns.c.account_id, turns.c.conversation_id)
        .where(turns.c.turn <= bindparam("per_account"))
        .order_by(turns.c.turn, turns.c.since)
        .limit(bindparam("room", type_=Integer))
    )


_STARTABLE = _startable()
"""Built once: building it takes longer than running it."""


def startable(s: Session, limit: int, per_account: int) -> list[tuple[str, str]]:
    """(account_id, conversation_id) of up to `limit` conversations whose first queued reply may
    start, the accounts in turn: whoever has fewest replies being written goes first."""
    rows = s.execute(_STARTABLE, {"room": limit, "per_account": per_account})
    return [(row[0], row[1]) for row in rows]


def start(s: Session, conversation_id: str, lease: Lease) -> Step | None:
    """Starts the first queued reply of a conversation, if none is being written by now."""
    try:
        locked = lock(s, conversation_id)
    except NotFound:
        return None
    if is_busy(s, conversation_id):
        undo(s)
        return None
    reply = start_next(s, locked, lease)
    if reply is None:
        undo(s)
        return None
    return Step(Change(conversation_id, locked.version, (reply,)), reply)


def checkpoint(s: Session, texts: Sequence[Text]) -> set[str]:
    """Saves the text so far of many replies; returns the ids of those that the caller lost."""
    if _write_owned(s, texts, {}):
        return set()
    owned = [(text.message_id, text.epoch) for text in texts]
    kept = s.scalars(
        select(Message.id).where(tuple_(Message.id, Message.epoch).in_(owned), is_held)
    )
    return {text.message_id for text in texts} - set(kept)


def hand_back(s: Session, texts: Sequence[Text]) -> None:
    """Saves the text so far of many replies and gives them up, so that another process goes on
    with them at once."""
    _write_owned(s, texts, {"lease_until": HANDED_BACK})


def _write_owned(s: Session, texts: Sequence[Text], values: Mapping[str, int]) -> bool:
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
            table.c.lease_until != HANDED_BACK,
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
    """Holds the replies (id, epoch) for `ttl` more microseconds.

    Returns, for each that is still the caller's, whether it is to be cancelled.
    """
    # In the order of a checkpoint, so that the two cannot deadlock.
    ids = [message_id for message_id, _ in owned]
    s.execute(select(Message.id).where(Message.id.in_(ids)).order_by(Message.id).with_for_update())
    rows = s.execute(
        update(Message)
        .where(tuple_(Message.id, Message.epoch).in_(owned), is_held)
        .values(lease_until=db_now() + ttl)
        .returning(Message.id, Message.cancel_requested),
        execution_options=NO_SYNC,
    )
    return {row[0]: row[1] for row in rows}


def begin_attempt(s: Session, conversation_id: str, message_id: str, epoch: int, text: str) -> Step:
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
    return Step(Change(conversation_id, locked.version, (reply,)), reply)


def finish(
    s: Session,
    conversation_id: str,
    message_id: str,
    epoch: int,
    outcome: Outcome,
    lease: Lease | None,
) -> Step:
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
    if reply is not None:
        search.enter_all(s, [reply])
        if outcome.receipt:
            receipt = {"message_id": reply.id, "body": outcome.receipt}
            s.connection().execute(_RECEIPT, {"account_id": reply.account_id, **receipt})
    return reply


def _ended(s: Session, locked: Locked, reply: Message, lease: Lease | None) -> Step:
    following = start_next(s, locked, lease) if lease else None
    changed = (reply, following) if following else (reply,)
    return Step(Change(locked.conversation.id, locked.version, changed), following)


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
) -> Step | None:
    """Takes a reply over from an owner whose lease is over.

    One that was to be cancelled is cancelled, one that lost its third owner fails; the caller then
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
    died = reply.lease_until != HANDED_BACK
    content = longer(known, reply.content) if reply.attempt == attempt else reply.content
    ending = None
    if reply.cancel_requested:
        ending = Outcome(State.CANCELLED, content)
    elif died and reply.strikes + 1 >= MAX_STRIKES:
        ending = Outcome(
            State.FAILED,
            content,
            error_reason="REPLY_ABANDONED",
            error_message="The server stopped three times while writing this reply. Send it again.",
        )
    if ending is not None:
        ended = _end(s, locked, message_id, ending, is_over)
        return _ended(s, locked, ended, lease) if ended else None
    taken = s.scalars(
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
    return Step(Change(conversation_id, locked.version), taken) if taken else None


def longer(known: str, saved: str) -> str:
    """Of two texts of one attempt the one that holds more."""
    return known if len(known) > len(saved) else saved

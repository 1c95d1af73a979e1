"""Replies that wait: which may start, and starting them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Integer, Select, and_, bindparam, case, func, literal_column, select, update
from sqlalchemy.orm import aliased

from colloquy_server.database.models import Message, State, db_now
from colloquy_server.database.repository.changes import (
    Change,
    Lease,
    Locked,
    Transition,
    is_generating,
    is_queued,
    is_unfinished,
    lock,
)
from colloquy_server.database.rows import MESSAGE, MessageRow, message
from colloquy_server.database.statements import Rows
from colloquy_server.database.transactions import Session
from colloquy_server.errors import NotFound

_live = aliased(Message)
_NEXT = (
    select(
        Message.id,
        select(func.count())
        .where(
            _live.account_id == Message.account_id,
            _live.state == literal_column("2"),
            _live.state < literal_column("3"),
        )
        .correlate(Message)
        .scalar_subquery(),
    )
    .where(Message.conversation_id == bindparam("conversation"), is_queued)
    .order_by(Message.queue_rank, Message.position)
    .limit(1)
)
_START = (
    update(Message)
    .where(Message.id == bindparam("head"), is_queued)
    .values(
        state=State.GENERATING,
        epoch=Message.epoch + 1,
        lease_until=db_now() + bindparam("ttl"),
        version=bindparam("new_version"),
        update_time=bindparam("now"),
    )
    .returning(*MESSAGE)
)


def start_next(s: Session, locked: Locked, lease: Lease) -> MessageRow | None:
    """Starts the first queued reply of a locked conversation in which none is live, if its
    account has room."""
    return start_found(s, locked, lease, send_next(s, locked.id))


def send_next(s: Session, conversation_id: str) -> Callable[[], Rows]:
    """Looks for the first queued reply of a conversation, together with the next statement."""
    return s.send(_NEXT, {"conversation": conversation_id})


def start_found(
    s: Session, locked: Locked, lease: Lease, following: Callable[[], Rows]
) -> MessageRow | None:
    """Starts what was looked for while the conversation was locked and nothing in it was live."""
    head = following().one_or_none()
    if head is None or head[1] >= lease.per_account:
        return None
    row = s.run(
        _START,
        {"head": head[0], "ttl": lease.ttl, "new_version": locked.version, "now": locked.now},
    ).one_or_none()
    return message(row) if row is not None else None


def is_busy(s: Session, conversation_id: str) -> bool:
    """Whether a reply of the conversation is live."""
    query = select(Message.id).where(Message.conversation_id == conversation_id, is_generating)
    return s.run(query).one_or_none() is not None


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
    ranked = (
        select(
            waiting.c.account_id,
            waiting.c.conversation_id,
            waiting.c.since,
            (place + func.coalesce(live.c.n, 0)).label("rank_in_account"),
        )
        .outerjoin(live, live.c.account_id == waiting.c.account_id)
        .subquery()
    )
    return (
        select(ranked.c.account_id, ranked.c.conversation_id)
        .where(ranked.c.rank_in_account <= bindparam("per_account"))
        .order_by(ranked.c.rank_in_account, ranked.c.since)
        .limit(bindparam("room", type_=Integer))
    )


_STARTABLE = _startable()
"""Built once: building it takes longer than running it."""


def startable(s: Session, limit: int, per_account: int) -> list[tuple[str, str]]:
    """(account_id, conversation_id) of up to `limit` conversations whose first queued reply may
    start, the accounts in turn: whoever has fewest live replies goes first."""
    rows = s.run(_STARTABLE, {"room": limit, "per_account": per_account})
    return [(row[0], row[1]) for row in rows]


def start(s: Session, conversation_id: str, lease: Lease) -> Transition | None:
    """Starts the first queued reply of a conversation, if none is live by now."""
    try:
        locked = lock(s, conversation_id)
    except NotFound:
        return None
    if is_busy(s, conversation_id):
        s.undo()
        return None
    reply = start_next(s, locked, lease)
    if reply is None:
        s.undo()
        return None
    return Transition(Change(conversation_id, locked.version, (reply,)), reply)


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in the whole database."""

    queued: int
    oldest: int
    """Microseconds since the oldest of those was stored; 0 when there is none."""
    stuck: int
    """Replies that began and have no owner now: nobody has taken them over yet."""


_BACKLOG = select(
    func.count(case((is_queued, 1))),
    func.min(case((is_queued, Message.create_time))),
    func.count(case((and_(is_generating, Message.lease_until < db_now()), 1))),
    db_now(),
).where(is_unfinished)


def backlog(s: Session) -> Backlog:
    """How much waits, and for how long: one statement, on the index of what is not finished."""
    queued, since, stuck, now = s.run(_BACKLOG).one()
    return Backlog(queued, max(0, now - since) if since else 0, stuck)

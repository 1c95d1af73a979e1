"""The audit trail: who did what to what, from where. Rows are added, and removed when they are old;
nothing here changes one.

`audited` has the event of the present call written in the transaction that does the thing, so that
it is there exactly if the thing was done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Text,
    bindparam,
    delete,
    select,
    tuple_,
)

from colloquy_server.database.models import MICROS, Account, AuditEvent, new_id
from colloquy_server.database.repository.changes import NO_SYNC, insert_all_new, now
from colloquy_server.database.transactions import EVERY_ACCOUNT, Session

P = ParamSpec("P")
T = TypeVar("T")

_SWEPT_AT_ONCE = 1_000


@dataclass(slots=True)
class Event:
    """Something that was done or refused; see AuditEvent of the API. What is not known is empty."""

    action: str
    account_id: str = ""
    actor: str = ""
    user_id: str = ""
    api_key_id: str = ""
    address: str = ""
    target_id: str = ""
    refusal: str = ""
    id: str = field(default_factory=new_id)
    happened: float = field(default_factory=time.monotonic)
    """By this process's clock, which tells how long ago it was when the event is written."""
    is_added: bool = False
    """Whether a transaction has it."""
    is_void: bool = False
    """Whether the call turned out to have nothing to do."""

    def fields(self) -> dict[str, str]:
        """All that is known of it, by the names of the columns."""
        return {
            "account_id": self.account_id,
            "actor": self.actor,
            "user_id": self.user_id,
            "api_key_id": self.api_key_id,
            "address": self.address,
            "action": self.action,
            "target_id": self.target_id,
            "refusal": self.refusal,
        }


class EventRow(NamedTuple):
    """An event as it is stored; `time` is in microseconds."""

    id: str
    time: int
    account_id: str
    actor: str
    user_id: str
    api_key_id: str
    address: str
    action: str
    target_id: str
    refusal: str


current: ContextVar[Event | None] = ContextVar("current audit event", default=None)
"""What the call that is being served is about to do, if that is audited."""


def audited(
    fn: Callable[Concatenate[Session, P], T],
) -> Callable[Concatenate[Session, P], T]:
    """`fn`, with the event of the present call in its transaction.

    What it was done to, and in which account, is taken from the row that `fn` returns where the
    request did not say it.
    """
    event = current.get()
    if event is None:
        return fn

    def both(s: Session, /, *args: P.args, **kwargs: P.kwargs) -> T:
        result = fn(s, *args, **kwargs)
        if s.is_undone:
            event.is_void = True
            return result
        scope = "" if s.account_id == EVERY_ACCOUNT else s.account_id
        event.target_id = event.target_id or getattr(result, "id", "")
        whose = result.id if isinstance(result, Account) else getattr(result, "account_id", "")
        event.account_id = event.account_id or scope or whose
        add(s, [event])
        return result

    return both


def add(s: Session, events: Sequence[Event]) -> None:
    """Stores events; those that are there already stay as they are."""
    time_here, time_there = time.monotonic(), now(s)
    rows = [
        {
            "id": event.id,
            "time": time_there - int((time_here - event.happened) * MICROS),
            **event.fields(),
        }
        for event in events
    ]
    insert_all_new(s, AuditEvent, rows)
    for event in events:
        event.is_added = True


_COLUMNS = tuple(getattr(AuditEvent, name) for name in EventRow._fields)
_behind = tuple_(AuditEvent.time, AuditEvent.id) < tuple_(
    bindparam("before", type_=BigInteger), bindparam("before_id", type_=Text)
)
_is_of_account = AuditEvent.account_id == bindparam("whose")


def _page(*conditions: ColumnElement[bool]) -> Select[Any]:
    return (
        select(*_COLUMNS)
        .where(*conditions)
        .order_by(AuditEvent.time.desc(), AuditEvent.id.desc())
        .limit(bindparam("size", type_=Integer))
    )


_PAGES = {
    (False, False): _page(),
    (True, False): _page(_behind),
    (False, True): _page(_is_of_account),
    (True, True): _page(_behind, _is_of_account),
}
"""By whether it is a later page, and whether of one account."""


def page(
    s: Session, *, limit: int, before: tuple[int, str] | None, account_id: str
) -> list[EventRow]:
    """Events, the newest first, of one account or of all; `before` is (time, id)."""
    values: dict[str, object] = {"size": limit}
    if before is not None:
        values |= {"before": before[0], "before_id": before[1]}
    if account_id:
        values["whose"] = account_id
    statement = _PAGES[before is not None, bool(account_id)]
    return [EventRow._make(row) for row in s.run(statement, values)]


def sweep(s: Session, kept: int) -> bool:
    """Removes some of the events that are older than `kept` microseconds; says whether there may be
    more."""
    old = (
        select(AuditEvent.id)
        .where(AuditEvent.time < now(s) - kept)
        .order_by(AuditEvent.time, AuditEvent.id)
        .limit(_SWEPT_AT_ONCE)
    )
    ids = list(s.scalars(old))
    s.execute(delete(AuditEvent).where(AuditEvent.id.in_(ids)), execution_options=NO_SYNC)
    return len(ids) == _SWEPT_AT_ONCE

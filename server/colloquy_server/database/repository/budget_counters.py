"""Budgets as replies meet them: how far each is used, and what is reserved of it.

The rules, which hold however many processes work at once:

- Accepting a reply reserves an estimate of every budget that applies to it, and is refused if that
  is more than what is left; the end of the reply returns exactly that, and adds what was used. Both
  in the transactions that make the reply and end it.
- The counters of budgets are locked last in a transaction, in the order of their ids and periods.
- What was used counts in the period in which it ended, for all budgets that apply then. What was
  reserved is returned to the period in which it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any, Final, NamedTuple

import structlog
from sqlalchemy import Insert, bindparam, delete, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from colloquy_server.database.models import (
    MICROS,
    Budget,
    BudgetPeriod,
    Feature,
    Message,
    Period,
    Reservation,
    Role,
    Unit,
)
from colloquy_server.database.repository import outbox
from colloquy_server.database.repository.usage import NANOS, Payer, Spent
from colloquy_server.database.transactions import Session
from colloquy_server.errors import BudgetExceeded

log = structlog.get_logger()

_DAY_SECONDS: Final = 86_400


class Expected(NamedTuple):
    """What a reply may use."""

    tokens: int
    cost_nanos: int


Expect = Callable[[int], Expected]
"""Says what a reply may use, given about how many tokens the conversation has before it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A new reply that is to be reserved for."""

    reply_id: str
    conversation_id: str
    payer: Payer
    model: str
    expect: Expect


class BudgetRow(NamedTuple):
    """A budget; `max_amount` is in the API's unit."""

    id: str
    account_id: str
    user_id: str
    api_key_id: str
    model: str
    period: Period
    unit: Unit
    max_amount: float

    @property
    def limit(self) -> int:
        """How much may be used, as it is counted."""
        factor = NANOS if self.unit == Unit.USD else 1
        return int(Decimal(repr(self.max_amount)) * factor)

    def amount(self, counted: int) -> float:
        """What was counted, in the API's unit."""
        return counted / NANOS if self.unit == Unit.USD else counted

    def of(self, spent: Spent) -> int:
        """How much of this budget was used by that."""
        if self.unit == Unit.USD:
            return spent.cost_nanos
        if self.unit == Unit.TOKENS:
            return spent.input_tokens + spent.output_tokens
        return spent.replies

    def start(self, now: int) -> int:
        """The first day, counted from 1970, of the period in which a time is."""
        day = datetime.fromtimestamp(now // MICROS, UTC).date()
        first = day.replace(day=1) if self.period == Period.MONTH else day
        return (first - _EPOCH).days

    def renew_time(self, now: int) -> int:
        """When the next period begins, in microseconds since 1970."""
        start = self.start(now)
        length = 1
        if self.period == Period.MONTH:
            first = datetime.fromtimestamp(start * _DAY_SECONDS, UTC).date()
            december = first.month == 12
            after = first.replace(year=first.year + december, month=first.month % 12 + 1)
            length = (after - first).days
        return (start + length) * _DAY_SECONDS * MICROS

    @property
    def subject(self) -> str:
        """What it is for, the narrowest first."""
        for kind, value in (
            ("user", self.user_id),
            ("api_key", self.api_key_id),
            ("model", self.model),
        ):
            if value:
                return f"{kind}:{value}"
        return f"account:{self.account_id}"

    def says(self) -> str:
        """Its limit, for people."""
        each = self.period.name.lower()
        if self.unit == Unit.USD:
            return f"{self.max_amount:.12g} US dollars a {each}"
        one, many = ("reply", "replies") if self.unit == Unit.REPLIES else ("token", "tokens")
        return f"{self.limit:,} {one if self.limit == 1 else many} a {each}"


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC).date()
_WARNING, _EXCEEDED = 1, 2
_EVENTS = {_WARNING: ("budget.warning", 80), _EXCEEDED: ("budget.exceeded", 100)}
"""By their bits in `told`: the events, and from which part of a budget, in percent, they are."""

BUDGET = tuple(getattr(Budget, name) for name in BudgetRow._fields)


def budget(row: Sequence[Any]) -> BudgetRow:
    """A row of BUDGET."""
    found = BudgetRow._make(row)
    return found._replace(period=Period(found.period), unit=Unit(found.unit))


@dataclass(slots=True)
class _Change:
    """By how much a counter changes; without its budget nothing but a return."""

    budget: BudgetRow | None = None
    used: int = 0
    reserved: int = 0
    wanted: int = 0

    @property
    def is_there(self) -> bool:
        return bool(self.used or self.reserved or self.wanted)


_APPLYING = select(*BUDGET).where(
    or_(Budget.user_id == "", Budget.user_id == bindparam("user")),
    or_(Budget.api_key_id == "", Budget.api_key_id == bindparam("key")),
)
_RETURN = (
    delete(Reservation)
    .where(Reservation.message_id == bindparam("reply"))
    .returning(Reservation.budget_id, Reservation.start, Reservation.amount)
)
_RESERVE = insert(Reservation)


def settle(
    s: Session,
    account_id: str,
    now: int,
    features: int,
    used: Mapping[tuple[Payer, str], Spent],
    ended: Sequence[str],
    wanted: Wanted | None,
) -> None:
    """Returns what replies reserved that have ended, counts what was used, and reserves for a new
    reply. Raises BudgetExceeded when a budget has not so much left."""
    returning = [s.send(_RETURN, {"reply": reply_id}) for reply_id in ended]
    payers = sorted({payer for payer, _ in used} | ({wanted.payer} if wanted else set()))
    applying = [
        (payer, s.send(_APPLYING, {"user": payer.user_id, "key": payer.api_key_id}))
        for payer in payers
    ]
    changes: dict[tuple[str, int], _Change] = {}
    for returned in returning:
        for budget_id, start, amount in returned():
            changes.setdefault((budget_id, start), _Change()).reserved -= amount
    expected: Expected | None = None
    for payer, rows in applying:
        for row in map(budget, rows()):
            change = changes.setdefault((row.id, row.start(now)), _Change())
            change.budget = row
            change.used += sum(
                row.of(spent)
                for (whose, model), spent in used.items()
                if whose == payer and row.model in ("", model)
            )
            if wanted and wanted.payer == payer and row.model in ("", wanted.model):
                if expected is None and row.unit != Unit.REPLIES:
                    expected = wanted.expect(_known_tokens(s, wanted.conversation_id))
                change.wanted = _to_reserve(row, expected)
    _count(s, account_id, now, features, changes)
    if wanted:
        reserved = [
            {
                "account_id": account_id,
                "message_id": wanted.reply_id,
                "budget_id": budget_id,
                "start": start,
                "amount": change.wanted,
            }
            for (budget_id, start), change in sorted(changes.items())
            if change.wanted
        ]
        if reserved:
            s.send(_RESERVE, reserved)


_LAST = (
    select(Message.input_tokens, Message.output_tokens)
    .where(
        Message.conversation_id == bindparam("conversation"),
        Message.role == Role.ASSISTANT,
        Message.input_tokens.is_not(None),
    )
    .order_by(Message.position.desc())
    .limit(1)
)


def _known_tokens(s: Session, conversation_id: str) -> int:
    """About how many tokens a conversation has: what its last reply's model read and wrote."""
    last = s.run(_LAST, {"conversation": conversation_id}).one_or_none()
    return 0 if last is None else last[0] + (last[1] or 0)


def _to_reserve(row: BudgetRow, expected: Expected | None) -> int:
    """How much of a budget is reserved for a reply: what is expected, but no more than all of it,
    so that a small budget still lets one reply through at a time, and at least the least there is,
    so that a budget which is used up lets none through, not even one that costs nothing."""
    if row.unit == Unit.REPLIES or expected is None:
        return 1
    wanted = expected.cost_nanos if row.unit == Unit.USD else expected.tokens
    return max(1, min(wanted, row.limit))


_SUMS = "used", "reserved"
_COUNTERS = BudgetPeriod.used, BudgetPeriod.reserved, BudgetPeriod.told


@cache
def _upsert(is_sqlite: bool) -> Insert:
    insert: Any = (sqlite if is_sqlite else postgresql).insert(BudgetPeriod)
    added = {name: getattr(BudgetPeriod, name) + insert.excluded[name] for name in _SUMS}
    statement: Insert = insert.on_conflict_do_update(
        index_elements=["budget_id", "start"], set_=added
    ).returning(*_COUNTERS)
    return statement


_GIVE_BACK = (
    update(BudgetPeriod)
    .where(BudgetPeriod.budget_id == bindparam("counter"), BudgetPeriod.start == bindparam("since"))
    .values(reserved=BudgetPeriod.reserved + bindparam("more"))
)
_TELL = (
    update(BudgetPeriod)
    .where(BudgetPeriod.budget_id == bindparam("counter"), BudgetPeriod.start == bindparam("since"))
    .values(told=bindparam("now_told"))
)


def _count(
    s: Session,
    account_id: str,
    now: int,
    features: int,
    changes: Mapping[tuple[str, int], _Change],
) -> None:
    counting = []
    for (budget_id, start), change in sorted(changes.items(), key=lambda each: each[0]):
        if not change.is_there:
            continue
        if change.budget is None:  # of an older period, or of a budget that does not apply any more
            s.send(_GIVE_BACK, {"counter": budget_id, "since": start, "more": change.reserved})
            continue
        counted = {"used": change.used, "reserved": change.reserved + change.wanted, "told": 0}
        key = {"account_id": account_id, "budget_id": budget_id, "start": start}
        counting.append((start, change, s.send(_upsert(s.is_sqlite), {**key, **counted})))
    exceeded: list[BudgetRow] = []
    for start, change, result in counting:
        used, reserved, told = result().one()
        row = change.budget
        assert row is not None
        if change.wanted and not _has_room(row, used, reserved, change.wanted):
            exceeded.append(row)
        elif change.used:
            _tell(s, row, now, features, start, used, told)
    if exceeded:
        row = max(exceeded, key=lambda each: each.renew_time(now))
        renew = row.renew_time(now)
        raise BudgetExceeded(row.subject, row.says(), renew, (renew - now) / MICROS)


def _has_room(row: BudgetRow, used: int, reserved: int, wanted: int) -> bool:
    """Whether a budget holds what was just reserved of it too. A reply that is expected to use all
    of it is let through while it is the only one, until the budget is used up."""
    if wanted >= row.limit and reserved == wanted:
        return used < row.limit
    return used + reserved <= row.limit


_RESERVED = select(Reservation.budget_id).where(Reservation.message_id == bindparam("reply"))


def reserve_for_fallback(
    s: Session, account_id: str, now: int, reply_id: str, payer: Payer, model: str, expect: Expected
) -> bool:
    """Reserves of the budgets of a model that is asked in another's place, for a reply whose row
    this transaction holds; says whether they have so much left. May be repeated."""
    had = set(s.run(_RESERVED, {"reply": reply_id}).scalars())
    rows = map(budget, s.run(_APPLYING, {"user": payer.user_id, "key": payer.api_key_id}))
    for row in sorted(row for row in rows if row.model == model and row.id not in had):
        wanted = _to_reserve(row, expect)
        key = {"account_id": account_id, "budget_id": row.id, "start": row.start(now)}
        counted = {**key, "used": 0, "reserved": wanted, "told": 0}
        used, reserved, _ = s.run(_upsert(s.is_sqlite), counted).one()
        if not _has_room(row, used, reserved, wanted):
            return False
        s.send(_RESERVE, {**key, "message_id": reply_id, "amount": wanted})
    return True


def reached(row: BudgetRow, used: int) -> int:
    """The bits of what is to be told of a budget that is used so far."""
    return sum(bit for bit, (_, part) in _EVENTS.items() if used * 100 >= row.limit * part)


def _tell(
    s: Session, row: BudgetRow, now: int, features: int, start: int, used: int, told: int
) -> None:
    """Tells, once in a period, that a budget is used up, or soon will be."""
    news = reached(row, used) & ~told
    if not news:
        return
    s.send(_TELL, {"counter": row.id, "since": start, "now_told": told | news})
    for bit, (event, part) in _EVENTS.items():
        if not news & bit:
            continue
        log.warning("budget warning", account_id=row.account_id, budget_id=row.id, percent=part)
        if features & Feature.WEBHOOKS:
            data = {
                "budget_id": row.id,
                "user_id": row.user_id,
                "api_key_id": row.api_key_id,
                "model": row.model,
                "period": row.period.name.lower(),
                "unit": row.unit.name.lower(),
                "limit": row.max_amount,
                "used": row.amount(used),
                "renew_time": utc(row.renew_time(now)),
            }
            outbox.record(s, row.account_id, event, "", data)


def utc(time: int) -> str:
    """A time in microseconds, for people and programs."""
    return datetime.fromtimestamp(time // MICROS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

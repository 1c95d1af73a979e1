"""Budgets as administrators see them: setting, listing and taking them away, and mending their
counters, which a process that died between two versions of the server may have left wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    bindparam,
    delete,
    func,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute

from colloquy_server.database.models import (
    ApiKey,
    Budget,
    BudgetPeriod,
    Feature,
    Message,
    Period,
    Quota,
    Reservation,
    Unit,
    UsageDay,
    User,
    new_id,
)
from colloquy_server.database.repository.budget_counters import BUDGET, BudgetRow, budget, reached
from colloquy_server.database.repository.changes import hold_account, insert_new, is_unfinished, now
from colloquy_server.database.repository.quotas import set_feature
from colloquy_server.database.repository.usage import day_of
from colloquy_server.database.transactions import Session
from colloquy_server.errors import NotFound

_KEPT_DAYS = 62
"""Days for which counters are kept: of this month and of the one before."""


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A budget with its counters, and when it starts anew, in microseconds since 1970."""

    row: BudgetRow
    used: int
    reserved: int
    renew_time: int

    @property
    def id(self) -> str:
        """The budget's."""
        return self.row.id

    @property
    def account_id(self) -> str:
        """In which account it holds."""
        return self.row.account_id


# --- administration -------------------------------------------------------------------------------


def set_budget(
    s: Session,
    account_id: str,
    user_id: str,
    api_key_id: str,
    model: str,
    period: Period,
    unit: Unit,
    max_amount: float,
    check_model: Callable[[], object],
) -> BudgetState:
    """Makes a budget, or gives the one that is there for the same the new limit. What was used in
    its period before counts too. `check_model` raises what speaks against the model.

    Raises NotFound for an account, a user or a key that is not there.
    """
    hold_account(s, account_id)
    _hold(s, account_id)
    if user_id:
        of_user = (User.account_id == account_id, User.id == user_id, User.is_leaving.is_(False))
        if s.run(select(User.id).where(*of_user)).one_or_none() is None:
            raise NotFound("USER")
    if api_key_id:
        of_key = (ApiKey.account_id == account_id, ApiKey.id == api_key_id)
        if s.run(select(ApiKey.id).where(*of_key)).one_or_none() is None:
            raise NotFound("API_KEY")
    if model:
        check_model()
    key = {
        "account_id": account_id,
        "user_id": user_id,
        "api_key_id": api_key_id,
        "model": model,
        "period": period,
        "unit": unit,
    }
    insert_new(s, Budget, id=new_id(), max_amount=max_amount, **key)
    is_this = [getattr(Budget, name) == value for name, value in key.items()]
    changed = update(Budget).where(*is_this).values(max_amount=max_amount).returning(*BUDGET)
    row = budget(s.run(changed).one())
    set_feature(s, account_id, Feature.BUDGETS)
    time = now(s)
    counter = {"account_id": account_id, "budget_id": row.id, "start": row.start(time)}
    insert_new(s, BudgetPeriod, **counter, used=0, reserved=0, told=0)
    mend(s, row.id, row.start(time))
    return _state(s, row, time)


def _hold(s: Session, account_id: str) -> None:
    """Keeps others from changing what budgets an account has. Raises NotFound."""
    held = select(Quota.id).where(Quota.id == account_id, Quota.account_id == account_id)
    if s.run(held.with_for_update()).one_or_none() is None:
        raise NotFound("ACCOUNT")


def _state(s: Session, row: BudgetRow, time: int) -> BudgetState:
    counter = s.run(_COUNTER, {"counter": row.id, "since": row.start(time)}).one_or_none()
    used, reserved = counter or (0, 0)
    return BudgetState(row, used, reserved, row.renew_time(time))


_IS_COUNTER = (
    BudgetPeriod.budget_id == bindparam("counter"),
    BudgetPeriod.start == bindparam("since"),
)
_COUNTER = select(BudgetPeriod.used, BudgetPeriod.reserved).where(*_IS_COUNTER)


def budgets(s: Session, account_id: str, *, limit: int, after: str) -> list[BudgetState]:
    """An account's budgets, oldest first, behind the id `after`. Raises NotFound."""
    if s.run(select(Quota.id).where(Quota.id == account_id)).one_or_none() is None:
        raise NotFound("ACCOUNT")
    query = select(*BUDGET).where(Budget.account_id == account_id, Budget.id > after)
    time = now(s)
    rows = s.run(query.order_by(Budget.id).limit(limit))
    return [_state(s, budget(row), time) for row in rows]


def applying(s: Session, user_id: str | None, api_key_id: str) -> list[BudgetState]:
    """The budgets that apply to a user, with their key, oldest first; without a user all of the
    account."""
    query = select(*BUDGET).order_by(Budget.id)
    if user_id is not None:
        query = query.where(
            Budget.user_id.in_(["", user_id]), Budget.api_key_id.in_(["", api_key_id])
        )
    time = now(s)
    return [_state(s, budget(row), time) for row in s.run(query)]


def delete_budget(s: Session, budget_id: str) -> BudgetRow:
    """Takes a budget away, and returns it. Raises NotFound."""
    query = select(*BUDGET).where(Budget.id == budget_id)
    found = s.run(query).one_or_none()
    if found is None:
        raise NotFound("BUDGET")
    row = budget(found)
    _hold(s, row.account_id)
    if s.run(query).one_or_none() is None:  # somebody else has just done so
        raise NotFound("BUDGET")
    delete_all(s, row.account_id, [budget_id])
    return row


def hold_of_user(s: Session, account_id: str, user_id: str) -> list[str]:
    """The budgets of a user, for whom no more are made; if there are any, others are kept from
    changing what the account has."""
    query = select(Budget.id).where(Budget.user_id == user_id)
    ids: list[str] = s.run(query).scalars()
    if ids:
        _hold(s, account_id)
    return ids


def delete_all(s: Session, account_id: str, budget_ids: Sequence[str]) -> None:
    """Takes budgets away, of an account that is held."""
    if not budget_ids:
        return
    s.run(delete(Budget).where(Budget.id.in_(budget_ids)))
    counters = BudgetPeriod.budget_id.in_(budget_ids)
    in_order = select(BudgetPeriod.start).where(counters)
    s.run(in_order.order_by(BudgetPeriod.budget_id, BudgetPeriod.start).with_for_update())
    s.run(delete(BudgetPeriod).where(counters))
    _forget_reservations(s, Reservation.budget_id.in_(budget_ids))
    others = select(Budget.id).where(Budget.account_id == account_id).limit(1)
    if s.run(others).one_or_none() is None:
        set_feature(s, account_id, Feature.BUDGETS, has=False)


# --- counters -------------------------------------------------------------------------------------

_is_left_over = ~(
    select(literal_column("1"))
    .select_from(Message)
    .where(
        Message.id == Reservation.message_id,
        Message.account_id == Reservation.account_id,
        is_unfinished,
    )
    .exists()
)


def _used(row: BudgetRow, start: int) -> Select[Any]:
    counted: ColumnElement[int] | InstrumentedAttribute[int] = UsageDay.replies
    if row.unit == Unit.USD:
        counted = UsageDay.cost_nanos
    elif row.unit == Unit.TOKENS:
        counted = UsageDay.input_tokens + UsageDay.output_tokens
    query = select(func.coalesce(func.sum(counted), 0)).where(
        UsageDay.account_id == row.account_id, UsageDay.day >= start
    )
    for name in ("user_id", "api_key_id", "model"):
        if value := getattr(row, name):
            query = query.where(getattr(UsageDay, name) == value)
    return query


def _reserved(budget_id: str, start: int) -> Select[Any]:
    return select(func.coalesce(func.sum(Reservation.amount), 0)).where(
        Reservation.budget_id == budget_id, Reservation.start == start
    )


_FORGET = Reservation.__table__.delete().where(  # type: ignore[attr-defined]
    Reservation.message_id == bindparam("reply"), Reservation.budget_id == bindparam("counter")
)


def _forget_reservations(s: Session, *which: ColumnElement[bool]) -> None:
    """Deletes reservations, but for those that somebody returns at this moment: who does has their
    rows, and waits for the counters, which are held here."""
    found = s.run(
        select(Reservation.message_id, Reservation.budget_id)
        .where(*which)
        .with_for_update(skip_locked=True, of=Reservation)
    ).all()
    if found:
        s.run(_FORGET, [{"reply": reply_id, "counter": id_} for reply_id, id_ in found])


def mend(s: Session, budget_id: str, start: int) -> None:
    """Counts anew what is used and reserved of a budget, in the period from the day `start` on,
    without what was reserved for replies that have ended.

    Whoever changes the counters has their row locked: what others have entered that are not
    committed they add when this is.
    """
    counter = {"counter": budget_id, "since": start}
    s.run(select(BudgetPeriod.told).where(*_IS_COUNTER).with_for_update(), counter)
    of_period = (Reservation.budget_id == budget_id, Reservation.start == start)
    found = s.run(select(*BUDGET).where(Budget.id == budget_id)).one_or_none()
    if found is None:
        s.run(delete(BudgetPeriod).where(*_IS_COUNTER), counter)
        _forget_reservations(s, *of_period)
        return
    row = budget(found)
    _forget_reservations(s, *of_period, _is_left_over)
    values: dict[str, Any] = {"reserved": int(s.run(_reserved(budget_id, start)).scalar_one())}
    if start == row.start(now(s)):  # what is over is not told of any more
        used = int(s.run(_used(row, start)).scalar_one())
        # What a larger limit puts off is told again.
        told = BudgetPeriod.told.op("&")(reached(row, used))
        values |= {"used": used, "told": told}
    s.run(update(BudgetPeriod).where(*_IS_COUNTER).values(values), counter)


def wrong_counters(s: Session, after: str, limit: int) -> tuple[list[tuple[str, int]], str]:
    """(budget, start) of counters that are not what they should be, among the next `limit` budgets
    behind the id `after`, and of all from which something is left over; also returns the id to go
    on after, empty at the end. Of all accounts."""
    time = now(s)
    found = set(
        map(
            tuple,
            s.run(
                select(Reservation.budget_id, Reservation.start).where(
                    or_(
                        _is_left_over,
                        ~select(literal_column("1"))
                        .select_from(Budget)
                        .where(
                            Budget.id == Reservation.budget_id,
                            Budget.account_id == Reservation.account_id,
                        )
                        .exists(),
                    )
                )
            ),
        )
    )
    rows = [
        budget(row)
        for row in s.run(select(*BUDGET).where(Budget.id > after).order_by(Budget.id).limit(limit))
    ]
    for row in rows:
        start = row.start(time)
        counter = s.run(_COUNTER, {"counter": row.id, "since": start}).one_or_none()
        if counter is None:
            continue
        expected = (
            s.run(_used(row, start)).scalar_one(),
            s.run(_reserved(row.id, start)).scalar_one(),
        )
        if tuple(map(int, expected)) != tuple(counter):
            found.add((row.id, start))
    return sorted(found), rows[-1].id if len(rows) == limit else ""


def forget_counters(s: Session) -> None:
    """Forgets the counters of budgets that are gone, and of periods that are long over. Of all
    accounts."""
    is_gone = ~(
        select(literal_column("1"))
        .select_from(Budget)
        .where(Budget.id == BudgetPeriod.budget_id, Budget.account_id == BudgetPeriod.account_id)
        .exists()
    )
    is_old = BudgetPeriod.start < day_of(now(s)) - _KEPT_DAYS
    s.run(delete(BudgetPeriod).where(or_(is_gone, is_old)))

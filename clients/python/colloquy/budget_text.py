"""Budgets and what was used, as people read them: the same in a terminal and in Slack."""

from __future__ import annotations

import time
from collections.abc import Mapping

from colloquy.api.resources_pb2 import Budget

_PERIODS: Mapping[int, str] = {Budget.PERIOD_DAY: "a day", Budget.PERIOD_MONTH: "a month"}
_NAMES: Mapping[int, tuple[str, str]] = {
    Budget.UNIT_TOKENS: ("token", "tokens"),
    Budget.UNIT_REPLIES: ("reply", "replies"),
}
_NO_NAMES: Mapping[str, str] = {}
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


def describe_budget(budget: Budget, names: Mapping[str, str] = _NO_NAMES) -> str:
    """Return how far a budget is used, of what and for whom, and when it starts anew; `names` are
    those of users, by their ids."""
    is_money = budget.unit == Budget.UNIT_USD
    used = dollars(budget.used) if is_money else f"{round(budget.used):,}"
    of = f"{used} of {amount(budget.limit, budget.unit)}"
    period = _PERIODS.get(budget.period, "")
    told = [f"{of} {period}{_whose(budget, names)} ({100 * share(budget):.0f} %)"]
    if budget.reserved:
        told.append(f"{amount(budget.reserved, budget.unit)} more set aside for what is on its way")
    if budget.HasField("renew_time"):
        told.append(f"starts anew {in_time(budget.renew_time.seconds - time.time())}")
    return ", ".join(told)


def share(budget: Budget) -> float:
    """Return which part of a budget is used, 1 for all; more where the last reply took more than
    was left."""
    if budget.limit > 0:
        return budget.used / budget.limit
    return 1.0


def amount(value: float, unit: Budget.Unit.ValueType) -> str:
    """Return so much of a unit."""
    if unit == Budget.UNIT_USD:
        return dollars(value)
    one, many = _NAMES.get(unit, ("", ""))
    count = round(value)
    return f"{count:,} {one if count == 1 else many}".rstrip()


def dollars(value: float) -> str:
    """Return US dollars: cents, and of less than ten cents what it takes to tell them apart."""
    if value >= 0.1 or value == round(value, 2):
        return f"${value:,.2f}"
    return f"${value:.4f}" if value >= 0.0001 else "less than $0.0001"


def in_time(seconds: float) -> str:
    """Return when something is that comes after so many seconds, in the unit that fits."""
    for unit, name in ((_DAY, "days"), (_HOUR, "hours"), (_MINUTE, "minutes")):
        if seconds >= 2 * unit:
            return f"in {seconds / unit:.0f} {name}"
    return "in a minute"


def _whose(budget: Budget, names: Mapping[str, str]) -> str:
    parts = [
        f"for {names.get(budget.user_id, f'the user {budget.user_id}')}" if budget.user_id else "",
        f"for the key {budget.api_key_id}" if budget.api_key_id else "",
        f"for the model {budget.model}" if budget.model else "",
    ]
    return "".join(f" {part}" for part in parts if part)

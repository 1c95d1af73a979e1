"""What was used, summed up from the daily rows alone."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from sqlalchemy import bindparam, func, select

from colloquy_server.database.models import UsageDay, User
from colloquy_server.database.repository.changes import now
from colloquy_server.database.repository.usage import day_of
from colloquy_server.database.rows import USER, UserRow
from colloquy_server.database.transactions import Session
from colloquy_server.errors import NotFound

MAX_ROWS: Final = 10_000

GROUPS: Final = ("day", "user_id", "api_key_id", "model")
"""The columns by which usage can be apart."""


class UsageRow(NamedTuple):
    """What was used: of what is not apart all together, and `None` in its column."""

    day: int | None
    user_id: str | None
    api_key_id: str | None
    model: str | None
    replies: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_nanos: int
    estimated_tokens: int
    user: UserRow | None = None


_SUMS = UsageRow._fields[len(GROUPS) : -1]


def today(s: Session) -> int:
    """The day in UTC that it is by the database's clock, counted from 1970."""
    return day_of(now(s))


def report(
    s: Session, start: int, end: int, groups: Collection[str], user_id: str = ""
) -> list[UsageRow]:
    """What an account used, or what a viewer did, from one day to another; by day, then what cost
    most first. Raises NotFound for a user whom the account does not have."""
    if user_id and s.run(select(User.id).where(User.id == user_id)).one_or_none() is None:
        raise NotFound("USER")
    apart = [name for name in GROUPS if name in groups]
    columns = [getattr(UsageDay, name) for name in apart]
    sums = [func.coalesce(func.sum(getattr(UsageDay, name)), 0) for name in _SUMS]
    cost = sums[_SUMS.index("cost_nanos")]
    by_day = columns[: int("day" in groups)]
    query = (
        select(*columns, *sums)
        .where(UsageDay.day >= start, UsageDay.day <= end)
        .group_by(*columns)
        .order_by(*by_day, cost.desc(), *columns)
        .limit(MAX_ROWS)
    )
    if user_id:
        query = query.where(UsageDay.user_id == user_id)
    rows = []
    for row in s.run(query):
        key = dict(zip(apart, row, strict=False))
        counted = [int(value) for value in row[len(apart) :]]
        rows.append(UsageRow._make((*map(key.get, GROUPS), *counted, None)))
    users = _users(s, {row.user_id for row in rows if row.user_id})
    return [row._replace(user=users.get(row.user_id or "")) for row in rows]


_USERS = select(*USER).where(User.id.in_(bindparam("wanted", expanding=True)))


def _users(s: Session, ids: set[str]) -> dict[str, UserRow]:
    if not ids:
        return {}
    return {row[0]: UserRow._make(row) for row in s.run(_USERS, {"wanted": sorted(ids)})}

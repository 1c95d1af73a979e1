"""Binds statements to an account: each gets `account_id = …` for every table that is Owned, and a
member's what `audience.py` has for it.

What cannot be bound by itself has to be written so, and is refused otherwise: a nested SELECT and
the right side of an outer join say in their own conditions whose rows they are, by `of_account` or
by the `account_id` of a table beside them; an INSERT says it in its values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import (
    Alias,
    BindParameter,
    ColumnElement,
    Delete,
    Executable,
    FromClause,
    Insert,
    Join,
    Select,
    Table,
    Update,
    select,
)
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import BinaryExpression

from colloquy_server.database import audience
from colloquy_server.database.models import Owned

EVERY_ACCOUNT: Final = "*"
"""The scope of the server's own work: authentication, administration, leases."""

Values = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
"""What a statement is run with: for each of its parameters, or many times over."""

_ACCOUNT: Final[BindParameter[Any]] = audience.NAMED.account


class Unscoped(Exception):
    """A statement that could reach the rows of other accounts. This is a defect of the server."""


def of_account(table: type[Owned]) -> ColumnElement[bool]:
    """That a row is the account's for which the statement runs."""
    return table.account_id == _ACCOUNT


def bound(
    statement: Executable,
    account_id: str,
    values: Values,
    viewer_id: str = "",
    *,
    is_admitted: bool = False,
) -> tuple[Executable, Values]:
    """A statement and its values, for one account, or for a member who is its viewer; `is_admitted`
    as in `audience.condition_of`. Raises Unscoped."""
    if isinstance(statement, Insert):
        _check_values(statement, account_id, values)
        return statement, values
    whole, needs_account = _once(_bound, statement, _bind)
    if needs_account:
        values = _with(values, {"account": account_id})
    if viewer_id:
        part, needs_viewer = _seen(whole, is_admitted=is_admitted)
        return part, _with(values, {"viewer": viewer_id}) if needs_viewer else values
    return whole, values


def _with(values: Values, more: Mapping[str, str]) -> Values:
    if values is None:
        return more
    if isinstance(values, Mapping):
        return {**values, **more}
    return [{**each, **more} for each in values]


_Known = WeakKeyDictionary[Any, tuple[Executable | None, bool]]
"""What was made of statements: None for one that is left as it is, as it would never go from here
if it held itself."""


def _once(
    known: _Known, statement: Executable, make: Callable[[Executable], tuple[Executable, bool]]
) -> tuple[Executable, bool]:
    """What `make` makes of a statement. What is bound once stays so: its SQL is then made only
    once, too."""
    found = known.get(statement)
    if found is None:
        made, is_changed = make(statement)
        found = known[statement] = (None if made is statement else made), is_changed
    return found[0] if found[0] is not None else statement, found[1]


_bound: _Known = WeakKeyDictionary()
_seen_by_viewers: tuple[_Known, _Known] = WeakKeyDictionary(), WeakKeyDictionary()


def _seen(statement: Executable, *, is_admitted: bool) -> tuple[Executable, bool]:
    """A statement of an account with the conditions for a viewer, and whether it has any."""
    known = _seen_by_viewers[is_admitted]
    return _once(known, statement, lambda each: _limit(each, is_admitted=is_admitted))


def _limit(statement: Executable, *, is_admitted: bool) -> tuple[Executable, bool]:
    conditions = []
    for table in _tables_of(statement):
        owned = _owned(table)
        if owned is None:
            continue
        condition = audience.condition_of(owned, is_admitted=is_admitted)
        if condition is not None:
            conditions.append(condition(table, audience.NAMED))
    if conditions:
        return statement.where(*conditions), True  # type: ignore[attr-defined]
    if not is_admitted:
        for inner in _nested(statement):
            if any(_owned(table) in audience.CONVERSATIONS for table in inner.get_final_froms()):
                raise Unscoped("a nested SELECT alone does not say who sees it")
    return statement, False


def _tables_of(statement: Executable) -> Iterable[FromClause]:
    """The tables that a statement reads or changes itself."""
    if isinstance(statement, Select):
        return _open_tables(statement.get_final_froms())
    if isinstance(statement, Update | Delete):
        return dict.fromkeys((statement.table, *_tables_in(statement.whereclause)))
    raise Unscoped(f"{type(statement).__name__} cannot be bound to an account")


def _nested(statement: Executable) -> list[Select[Any]]:
    return [
        element
        for element in visitors.iterate(statement)  # type: ignore[arg-type]
        if isinstance(element, Select) and element is not statement
    ]


def _bind(statement: Executable) -> tuple[Executable, bool]:
    """The statement with its conditions, and whether it needs the account."""
    tables = _tables_of(statement)
    conditions = [table.c.account_id == _ACCOUNT for table in tables if _owned(table) is not None]
    if conditions:
        statement = statement.where(*conditions)  # type: ignore[attr-defined]
    nested = _nested(statement)
    for inner in nested:
        for table in _open_tables(inner.get_final_froms()):
            _require(table, inner.whereclause)
    for join in _outer_joins(statement, nested):
        for table in _tables(join.right):
            _require(table, join.onclause)
    return statement, bool(conditions or nested)


def _tables_in(condition: ColumnElement[bool] | None) -> Iterator[FromClause]:
    """The tables that a condition names, but for those of its nested SELECTs."""
    if condition is not None:
        yield from _open_tables(select(_ACCOUNT).where(condition).get_final_froms())


def _check_values(statement: Insert, account_id: str, values: Values) -> None:
    if _owned(statement.table) is None:
        return
    rows = [values] if isinstance(values, Mapping) else values or [{}]
    for row in rows:
        whose = {value for name, value in row.items() if name.endswith("account_id")}
        if whose != {account_id}:
            raise Unscoped(f"a row of {statement.table.description} is not this account's")


def _require(table: FromClause, condition: object) -> None:
    if _owned(table) is None:
        return
    for element in visitors.iterate(condition) if condition is not None else ():  # type: ignore[arg-type]
        if isinstance(element, BinaryExpression):
            sides = (element.left, element.right)
            keys = {getattr(side, "key", "") for side in sides}
            is_of_table = any(getattr(side, "table", None) == table for side in sides)
            if is_of_table and keys <= {"account_id", _ACCOUNT.key}:
                return
    raise Unscoped(f"{table.description} is read without saying whose it is")


def _owned(table: FromClause) -> Table | None:
    """The table that is Owned behind a name for it, if it is one."""
    while isinstance(table, Alias):
        table = table.element
    return table if isinstance(table, Table) and table in _OWNED else None


_OWNED = frozenset(table.__table__ for table in Owned.__subclasses__())  # type: ignore[attr-defined]


def _open_tables(froms: Iterable[FromClause]) -> Iterator[FromClause]:
    """The tables of a FROM, without the right sides of outer joins."""
    for element in froms:
        if isinstance(element, Join):
            yield from _open_tables([element.left])
            if not (element.isouter or element.full):
                yield from _open_tables([element.right])
        else:
            yield element


def _tables(element: FromClause) -> Iterator[FromClause]:
    if isinstance(element, Join):
        yield from _tables(element.left)
        yield from _tables(element.right)
    else:
        yield element


def _outer_joins(statement: Executable, nested: Iterable[Select[Any]]) -> Iterator[Join]:
    selects = [statement, *nested] if isinstance(statement, Select) else list(nested)
    for each in selects:
        for element in each.get_final_froms():
            for part in visitors.iterate(element):
                if isinstance(part, Join) and (part.isouter or part.full):
                    yield part

"""Binds statements to an account: each gets `account_id = …` for every table that is Owned.

What cannot be bound by itself has to be written so, and is refused otherwise: a nested SELECT and
the right side of an outer join say in their own conditions whose rows they are, by `of_account` or
by the `account_id` of a table beside them; an INSERT says it in its values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    bindparam,
    select,
)
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import BinaryExpression

from colloquy_server.database.models import Owned

EVERY_ACCOUNT: Final = "*"
"""The scope of the server's own work: authentication, administration, leases."""

Values = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
"""What a statement is run with: for each of its parameters, or many times over."""

_ACCOUNT: Final[BindParameter[Any]] = bindparam("account")


class Unscoped(Exception):
    """A statement that could reach the rows of other accounts. This is a defect of the server."""


def of_account(table: type[Owned]) -> ColumnElement[bool]:
    """That a row is the account's for which the statement runs."""
    return table.account_id == _ACCOUNT


def bound(statement: Executable, account_id: str, values: Values) -> tuple[Executable, Values]:
    """A statement and its values, for one account. Raises Unscoped."""
    if isinstance(statement, Insert):
        _check_values(statement, account_id, values)
        return statement, values
    known = _bound.get(statement)
    if known is None:
        known = _bound[statement] = _bind(statement)
    if not known[1]:
        return statement, values
    if values is None:
        return known[0], {"account": account_id}
    if isinstance(values, Mapping):
        return known[0], {**values, "account": account_id}
    return known[0], [{**each, "account": account_id} for each in values]


# What is bound once stays so: its SQL is then made only once, too.
_bound: WeakKeyDictionary[Any, tuple[Executable, bool]] = WeakKeyDictionary()


def _bind(statement: Executable) -> tuple[Executable, bool]:
    """The statement with its conditions, and whether it needs the account."""
    tables: Iterable[FromClause]
    if isinstance(statement, Select):
        tables = _open_tables(statement.get_final_froms())
    elif isinstance(statement, Update | Delete):
        tables = dict.fromkeys((statement.table, *_tables_in(statement.whereclause)))
    else:
        raise Unscoped(f"{type(statement).__name__} cannot be bound to an account")
    conditions = [table.c.account_id == _ACCOUNT for table in tables if _is_owned(table)]
    statement = statement.where(*conditions) if conditions else statement
    nested = [
        element
        for element in visitors.iterate(statement)
        if isinstance(element, Select) and element is not statement
    ]
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
    if not _is_owned(statement.table):
        return
    rows = [values] if isinstance(values, Mapping) else values or [{}]
    for row in rows:
        whose = {value for name, value in row.items() if name.endswith("account_id")}
        if whose != {account_id}:
            raise Unscoped(f"a row of {statement.table.description} is not this account's")


def _require(table: FromClause, condition: object) -> None:
    if not _is_owned(table):
        return
    for element in visitors.iterate(condition) if condition is not None else ():  # type: ignore[arg-type]
        if isinstance(element, BinaryExpression):
            sides = (element.left, element.right)
            keys = {getattr(side, "key", "") for side in sides}
            is_of_table = any(getattr(side, "table", None) == table for side in sides)
            if is_of_table and keys <= {"account_id", _ACCOUNT.key}:
                return
    raise Unscoped(f"{table.description} is read without saying whose it is")


def _is_owned(table: FromClause) -> bool:
    while isinstance(table, Alias):
        table = table.element
    return isinstance(table, Table) and table in _OWNED


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

"""Marks: by them it is found what has changed in an account, in no order but without a gap.

Every transaction that changes something of a conversation, or of what it is to somebody, leaves its
mark on that row, in the statement that writes it. A reader asks for the horizon in the same
snapshot in which it reads: whatever is not in that snapshot has, or will have, a mark that is not
below it. So who goes on from there misses nothing, however late a transaction commits; it may hear
twice of what was just being written.

On Postgres a mark is the transaction's id, and the horizon the oldest one that still runs: there is
no counter for which transactions would have to wait. On SQLite, where one transaction writes at a
time, it is the time, and more than all marks of the account.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, BindParameter
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.functions import FunctionElement

from colloquy_server.database.values import SQLITE_NOW

_MARKED = ("conversations", "conversation_removals", "personal_states")


class next_mark(FunctionElement[int]):
    """The mark of the transaction that is running, in the account that is given."""

    type = BigInteger()
    inherit_cache = True

    def __init__(self, account_id: InstrumentedAttribute[str] | BindParameter[Any]) -> None:
        super().__init__(account_id)


class horizon(FunctionElement[int]):
    """Below it nothing comes any more, of an account: all that has such a mark is seen."""

    type = BigInteger()
    inherit_cache = True

    def __init__(self, account_id: InstrumentedAttribute[str] | BindParameter[Any]) -> None:
        super().__init__(account_id)


class ceiling(FunctionElement[int]):
    """Above all marks of an account that can be seen, if they were given by this database."""

    type = BigInteger()
    inherit_cache = True

    def __init__(self, account_id: BindParameter[Any]) -> None:
        super().__init__(account_id)


class lineage(FunctionElement[int]):
    """Which database it is that gave a mark: one that was restored elsewhere begins other marks."""

    type = BigInteger()
    inherit_cache = True


@compiles(next_mark)
@compiles(horizon)
@compiles(ceiling)
@compiles(lineage)
def _some(element: FunctionElement[int], _compiler: Any, **_kw: Any) -> str:
    return (
        f"{type(element).__name__}()"  # for who looks at a statement, before it is any database's
    )


@compiles(next_mark, "postgresql")
def _postgresql_mark(_element: next_mark, _compiler: Any, **_kw: Any) -> str:
    return "CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT)"


@compiles(horizon, "postgresql")
def _postgresql_horizon(_element: horizon, _compiler: Any, **_kw: Any) -> str:
    return "CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS TEXT) AS BIGINT)"


@compiles(ceiling, "postgresql")
def _postgresql_ceiling(_element: ceiling, _compiler: Any, **_kw: Any) -> str:
    return "CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS TEXT) AS BIGINT)"


@compiles(lineage, "postgresql")
def _postgresql_lineage(_element: lineage, _compiler: Any, **_kw: Any) -> str:
    return "(SELECT system_identifier FROM pg_control_system())"


@compiles(next_mark, "sqlite")
def _sqlite_mark(element: next_mark, compiler: Any, **kw: Any) -> str:
    return f"max({SQLITE_NOW}, {_above_all(element, compiler, **kw)})"


@compiles(ceiling, "sqlite")
@compiles(horizon, "sqlite")
def _sqlite_horizon(element: FunctionElement[int], compiler: Any, **kw: Any) -> str:
    return _above_all(element, compiler, **kw)


@compiles(lineage, "sqlite")
def _sqlite_lineage(_element: lineage, _compiler: Any, **_kw: Any) -> str:
    return "0"


def _above_all(element: FunctionElement[int], compiler: Any, **kw: Any) -> str:
    (account_id,) = element.clauses
    # With its table: the tables below have a column of the same name.
    of = compiler.process(account_id, **{**kw, "include_table": True})
    marks = (
        f"coalesce((SELECT max(marked.change_mark) FROM {table} AS marked"  # noqa: S608 - names from here
        f" WHERE marked.account_id = {of}), 0)"
        for table in _MARKED
    )
    return f"1 + max({', '.join(marks)})"

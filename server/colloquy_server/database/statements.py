"""Runs statements by the driver itself, for what is asked so often that SQLAlchemy's own way there
costs more than the answer.

A statement is compiled once for each database, and its rows are plain tuples. Truth values are 0
and 1 on SQLite. What has to be compiled with its values, such as `IN` a list, goes SQLAlchemy's
way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Dialect, Executable, Insert
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import DBAPIError, NoResultFound
from sqlalchemy.sql.compiler import SQLCompiler

from colloquy_server.database.pipelines import Prepared
from colloquy_server.database.scope import Values


class Rows:
    """What a statement returned: tuples, and how many rows it changed."""

    __slots__ = ("_rows", "rowcount")

    def __init__(self, rows: Sequence[Any], rowcount: int) -> None:
        self._rows = rows
        self.rowcount = rowcount

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def all(self) -> Sequence[Any]:
        """All rows."""
        return self._rows

    def one_or_none(self) -> Any:
        """The first row, if there is one."""
        return self._rows[0] if self._rows else None

    def one(self) -> Any:
        """The first row. Raises NoResultFound."""
        if not self._rows:
            raise NoResultFound
        return self._rows[0]

    def scalars(self) -> list[Any]:
        """The first value of each row."""
        return [row[0] for row in self._rows]

    def scalar_one_or_none(self) -> Any:
        """The first value of the first row, if there is one."""
        return self._rows[0][0] if self._rows else None

    def scalar_one(self) -> Any:
        """The first value of the first row. Raises NoResultFound."""
        return self.one()[0]


class _Compiled:
    """A statement as one database takes it."""

    __slots__ = (
        "_is_positional",
        "_parameters",
        "is_complete",
        "prepared",
        "returns_rows",
        "sql",
    )

    def __init__(
        self,
        statement: Executable,
        connection: Connection,
        values: Mapping[str, Any],
        *,
        is_many: bool,
    ) -> None:
        dialect = connection.dialect
        is_pipelined = dialect.name == "postgresql"
        compiled = statement.compile(  # type: ignore[attr-defined]
            dialect=_NUMBERING if is_pipelined else dialect,
            column_keys=list(values) if isinstance(statement, Insert) else None,
            for_executemany=is_many,
        )
        assert isinstance(compiled, SQLCompiler)
        self.sql = compiled.string
        self.returns_rows = bool(compiled._result_columns)
        self._is_positional = compiled.positional
        given = compiled.params
        names = compiled.positiontup or list(given)
        processors: Mapping[str, Any] = compiled._bind_processors
        self._parameters = [(name, given[name], processors.get(name)) for name in names]
        self.is_complete = not (
            compiled.literal_execute_params
            or compiled.post_compile_params
            or compiled.insert_prefetch
            or compiled.update_prefetch
        )
        """Whether this is all: it needs nothing of SQLAlchemy when it is run."""
        self.prepared = Prepared(self.sql, len(names)) if is_pipelined else None
        """As a `PipelinedConnection` takes it, which all to Postgres are."""

    def parameters(self, values: Mapping[str, Any]) -> Any:
        """The values in the form in which the driver takes them."""
        made = [
            (name, process(values.get(name, default)) if process else values.get(name, default))
            for name, default, process in self._parameters
        ]
        return tuple(value for _, value in made) if self._is_positional else dict(made)


_NUMBERING: Final[Dialect] = PGDialect_psycopg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
"""A dialect that numbers parameters, as Postgres itself has them."""


_Key = tuple[str, bool, frozenset[str]]
_compiled: WeakKeyDictionary[Executable, dict[_Key, _Compiled]]
_compiled = WeakKeyDictionary()


def run(connection: Connection, statement: Executable, values: Values) -> Rows:
    """Runs a statement in the transaction in which the connection is, for no values not at all;
    raises what SQLAlchemy would."""
    return send(connection, statement, values)()


def send(connection: Connection, statement: Executable, values: Values) -> Callable[[], Rows]:
    """The same, but Postgres gets it with the next statement, or with the commit. What is returned
    waits for its rows, and raises what then goes wrong."""
    many = None if values is None or isinstance(values, Mapping) else values
    if many is not None and not many:
        return lambda: _NO_ROWS
    known = _compiled.get(statement)
    if known is None:  # made for this once, as far as is known: SQLAlchemy knows its like
        _compiled[statement] = {}
        return _run_by_sqlalchemy(connection, statement, values)
    one: Mapping[str, Any] = values if isinstance(values, Mapping) else many[0] if many else {}
    key = connection.dialect.name, many is not None, frozenset(one)
    compiled = known.get(key)
    if compiled is None:
        compiled = known[key] = _Compiled(statement, connection, one, is_many=many is not None)
    if not compiled.is_complete:
        return _run_by_sqlalchemy(connection, statement, values)
    run = _execute if compiled.prepared is None else _send
    return run(connection, compiled, [one] if many is None else many, is_many=many is not None)


_NO_ROWS: Final = Rows((), 0)


def _execute(
    connection: Connection,
    compiled: _Compiled,
    values: Sequence[Mapping[str, Any]],
    *,
    is_many: bool,
) -> Callable[[], Rows]:
    """At once, as any driver does."""
    sql, listeners = compiled.sql, connection.dispatch
    try:
        for told in listeners.before_cursor_execute:
            told(connection, None, sql, values, None, is_many)
        cursor = connection.connection.cursor()
        try:
            if is_many:
                cursor.executemany(sql, [compiled.parameters(each) for each in values])
            else:
                cursor.execute(sql, compiled.parameters(values[0]))
            rows = Rows(cursor.fetchall() if compiled.returns_rows else (), cursor.rowcount)
        finally:
            cursor.close()
        for told in listeners.after_cursor_execute:
            told(connection, None, sql, values, None, is_many)
        return lambda: rows
    except connection.dialect.loaded_dbapi.Error as error:
        raise _as_sqlalchemy_has_it(connection, sql, error) from error


def _send(
    connection: Connection,
    compiled: _Compiled,
    values: Sequence[Mapping[str, Any]],
    *,
    is_many: bool,
) -> Callable[[], Rows]:
    """With what comes after it."""
    sql, listeners = compiled.sql, connection.dispatch
    driver: Any = connection.connection.driver_connection
    try:
        for told in listeners.before_cursor_execute:
            told(connection, None, sql, values, None, is_many)
        sent = [driver.send(compiled.prepared, compiled.parameters(each)) for each in values]
    except connection.dialect.loaded_dbapi.Error as error:
        raise _as_sqlalchemy_has_it(connection, sql, error) from error

    def fetch() -> Rows:
        try:
            if is_many:
                rows = Rows((), sum(each.fetch()[1] for each in sent))
            else:
                rows = Rows(*sent[0].fetch())
        except connection.dialect.loaded_dbapi.Error as error:
            raise _as_sqlalchemy_has_it(connection, sql, error) from error
        for told in listeners.after_cursor_execute:
            told(connection, None, sql, values, None, is_many)
        return rows

    return fetch


def _run_by_sqlalchemy(
    connection: Connection, statement: Executable, values: Values
) -> Callable[[], Rows]:
    # SQLAlchemy says -1 of an INSERT unless it is asked.
    options = {"preserve_rowcount": True}
    result = connection.execute(statement, values, execution_options=options)
    rows = Rows(result.all() if result.returns_rows else (), result.rowcount)
    return lambda: rows


def _as_sqlalchemy_has_it(connection: Connection, sql: str, error: Any) -> BaseException:
    dialect = connection.dialect
    is_lost = dialect.is_disconnect(error, connection.connection.dbapi_connection, None)
    if is_lost:
        connection.invalidate(error)
    told: BaseException = DBAPIError.instance(
        sql,
        None,  # without the values, which hold what people say
        error,
        dialect.loaded_dbapi.Error,
        connection_invalidated=is_lost,
        dialect=dialect,
    )
    return told

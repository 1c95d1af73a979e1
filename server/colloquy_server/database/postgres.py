"""Postgres: transactions side by side, on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from psycopg import IsolationLevel
from psycopg.errors import ReadOnlySqlTransaction
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from colloquy_server.database.greenlets import Connection as DriverConnection
from colloquy_server.database.greenlets import Lane, Sockets, run_elsewhere
from colloquy_server.database.pipelines import connect_pipelined
from colloquy_server.database.threads import KeptConnections, Threads
from colloquy_server.database.transactions import Database, Scope, Session, commit, translated

P = ParamSpec("P")
T = TypeVar("T")

CONNECT_TIMEOUT = 5
_IDLE_IN_TRANSACTION = 3.0
_CLOSE_TIMEOUT = 5.0
"""Seconds to wait for Postgres, that a transaction may pause, and for those that still run at the
end."""

KEEPALIVE: Final[dict[str, Any]] = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""libpq's settings by which a connection whose other end is silent is over after some ten seconds;
the last one is in milliseconds."""

_FIRST = 4
"""Connections for what goes first, beside the others."""


class PostgresDatabase(Database):
    """Postgres. A transaction that waits for it holds up nobody."""

    def __init__(self, url: URL, *, pool_size: int) -> None:
        self._engine = _postgres_engine(url, pool_size + _FIRST)
        self._connectors = Threads(_FIRST, "postgres-connect")
        self._connections = KeptConnections(
            lambda: run_elsewhere(self._connectors, self._engine.connect)
        )
        self._sockets = Sockets()
        self._then, self._first = Lane(pool_size, self._sockets), Lane(_FIRST, self._sockets)

    async def read(
        self,
        scope: Scope,
        fn: Callable[Concatenate[Session, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """On one snapshot of the database."""
        return await self._then.run(
            lambda: self._run(scope, lambda s: fn(s, *args, **kwargs), is_read=True)
        )

    async def write(
        self,
        scope: Scope,
        fn: Callable[Concatenate[Session, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Again, if Postgres ends it before its commit: for a deadlock, or because it restarts."""
        return await self._then.run(lambda: self._run(scope, lambda s: fn(s, *args, **kwargs)))

    async def write_first(
        self,
        scope: Scope,
        fn: Callable[Concatenate[Session, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """The same, on connections of its own."""
        return await self._first.run(lambda: self._run(scope, lambda s: fn(s, *args, **kwargs)))

    async def erase_deleted(self) -> bool:
        """Does nothing: Postgres reuses the room by itself, by its autovacuum, and nothing that is
        done from here would overwrite it."""
        return True

    def _run(self, scope: Scope, fn: Callable[[Session], T], *, is_read: bool = False) -> T:
        for is_last in (False, False, True):
            with translated():
                try:
                    with self._connections.use() as connection:
                        _prepare(connection, is_read=is_read)
                        return commit(connection, scope, fn, self.on_events)
                except DBAPIError as error:
                    if error.connection_invalidated:
                        # Those that were kept are most likely lost too, with the same Postgres:
                        # the pool, to which they go back, makes all of them anew.
                        self._connections.close()
                    if is_last or not _is_undone(error):
                        raise
        raise AssertionError

    async def close(self) -> None:
        """Lets running transactions end, for a few seconds, then closes all connections that are
        not in use."""
        await asyncio.gather(self._then.close(_CLOSE_TIMEOUT), self._first.close(_CLOSE_TIMEOUT))
        await self._connectors.close(_CLOSE_TIMEOUT)
        self._connections.close()
        self._sockets.close()
        self._engine.dispose()


def _prepare(connection: Connection, *, is_read: bool) -> None:
    """Says how the next transaction begins; that is the driver's own matter, and asks nobody."""
    driver: Any = connection.connection.driver_connection
    level = IsolationLevel.REPEATABLE_READ if is_read else None
    if driver.isolation_level != level:
        driver.isolation_level = level
        driver.read_only = is_read or None


def _is_undone(error: DBAPIError) -> bool:
    """Whether the transaction is known to have had no effect, and may do better a second time.

    A connection that is lost in the middle of a statement is such a case; one that is lost in the
    middle of the commit is not, as nobody knows what became of it.
    """
    code = getattr(error.orig, "sqlstate", None)
    # serialization_failure, deadlock_detected, and a transaction that this process let wait for
    # too long: it was stopped, or had no processor
    if code in ("40001", "40P01", "25P03"):
        return True
    return error.connection_invalidated and error.statement is not None


def _postgres_engine(url: URL, pool_size: int) -> Engine:
    # A process that is stopped in the middle of a transaction must not hold its locks for long.
    milliseconds = int(_IDLE_IN_TRANSACTION * 1_000)
    options = f"-c idle_in_transaction_session_timeout={milliseconds} -c jit=off"
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        hide_parameters=True,  # errors would carry what people said into logs
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT,
            "application_name": "colloquy",
            "options": options,
            **KEEPALIVE,
        },
    )
    knows_as_lost = engine.dialect.is_disconnect

    def is_lost(error: Any, connection: Any, cursor: Any) -> bool:
        # To a server that takes no writes: after a failover another one does, which only a new
        # connection finds.
        return isinstance(error, ReadOnlySqlTransaction) or knows_as_lost(error, connection, cursor)

    engine.dialect.is_disconnect = is_lost  # type: ignore[assignment, method-assign]

    connect_pipelined(engine, DriverConnection)
    return engine

"""Postgres, through the async driver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from sqlalchemy import Connection
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from colloquy_server.concurrency import shielded
from colloquy_server.database.transactions import Database, Session, commit, translated

P = ParamSpec("P")
T = TypeVar("T")

CONNECT_TIMEOUT = 5
_POOL_TIMEOUT = 10.0
_IDLE_IN_TRANSACTION = 3.0
_CLOSE_TIMEOUT = 5.0
"""Seconds to wait for Postgres, for a free connection to it, that a transaction may pause, and for
those that still run at the end."""

KEEPALIVE: Final[dict[str, Any]] = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""libpq's settings by which a connection whose other end is silent is over after some ten seconds;
the last one is in milliseconds."""

_FIRST_POOL_SIZE = 3
"""Connections for what goes first, beside those of the pool."""

_SNAPSHOT: Final = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


class PostgresDatabase(Database):
    """Postgres, through the async driver. A transaction gives way to others while it waits for the
    database; what it computes meanwhile stops everything else, so it had better be little."""

    def __init__(self, url: URL, *, pool_size: int) -> None:
        self._engine = _postgres_engine(url, pool_size)
        self._first = _postgres_engine(url, _FIRST_POOL_SIZE)
        self._running = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    async def read(
        self,
        account_id: str,
        fn: Callable[Concatenate[Session, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """On one snapshot of the database; to its end, also when the caller is cancelled: else the
        pool gets back a connection that is still read-only, or that is lost."""

        def run(connection: Connection) -> T:
            with connection.begin(), Session(connection, account_id) as session:
                return fn(session, *args, **kwargs)

        return await shielded(self._run(self._engine, run, _SNAPSHOT))

    async def write(
        self,
        account_id: str,
        fn: Callable[Concatenate[Session, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Again, if Postgres ends it before its commit: for a deadlock, or because it restarts."""
        return await self._commit(self._engine, account_id, lambda s: fn(s, *args, **kwargs))

    async def write_first(
        self,
        account_id: str,
        fn: Callable[Concatenate[Session, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """The same, on connections of its own."""
        return await self._commit(self._first, account_id, lambda s: fn(s, *args, **kwargs))

    async def _commit(self, engine: AsyncEngine, account_id: str, fn: Callable[[Session], T]) -> T:
        def run(connection: Connection) -> T:
            return commit(connection, account_id, fn)

        return await shielded(self._run(engine, run, {}))

    async def _run(
        self, engine: AsyncEngine, run: Callable[[Connection], T], options: Mapping[str, Any]
    ) -> T:
        self._running += 1
        self._is_idle.clear()
        try:
            return await self._try(engine, run, options)
        finally:
            self._running -= 1
            if not self._running:
                self._is_idle.set()

    async def _try(
        self, engine: AsyncEngine, run: Callable[[Connection], T], options: Mapping[str, Any]
    ) -> T:
        for is_last in (False, False, True):
            with translated():
                try:
                    async with engine.connect() as connection:
                        await connection.execution_options(**options)
                        return await connection.run_sync(run)
                except DBAPIError as error:
                    if is_last or not _is_undone(error):
                        raise
        raise AssertionError

    async def close(self) -> None:
        """Lets running transactions end, for a few seconds, then closes all connections."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self._is_idle.wait()
        await self._engine.dispose()
        await self._first.dispose()


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


def _postgres_engine(url: URL, pool_size: int) -> AsyncEngine:
    # A process that is stopped in the middle of a transaction must not hold its locks for long.
    milliseconds = int(_IDLE_IN_TRANSACTION * 1_000)
    options = f"-c idle_in_transaction_session_timeout={milliseconds} -c jit=off"
    return create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=_POOL_TIMEOUT,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT,
            "application_name": "colloquy",
            "options": options,
            **KEEPALIVE,
        },
    )

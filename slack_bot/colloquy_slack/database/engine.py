"""The bot's database: `await db.run(fn, …)` runs a plain function of a Session as one transaction.

SQLite or Postgres; the functions are the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from alembic import command
from alembic.config import Config
from colloquy.operations.private_files import make_private_database
from colloquy.operations.sqlite_erasure import SECURE_DELETE, erase_deleted
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import Session

P = ParamSpec("P")
T = TypeVar("T")

_MIGRATIONS = "colloquy_slack:migrations"
_CONNECTIONS = 8
"""Connections to Postgres."""

_CONNECT_TIMEOUT = 10
"""Seconds that Postgres may take to be there, unless the address says."""

_READ_ONLY = "25006"
"""SQLSTATE read_only_sql_transaction."""

_BUSY_TIMEOUT = 10.0
"""Seconds to wait for another process's write lock on the SQLite file."""


class Database:
    """A database that is open."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._engine = create_engine(_with_driver(url, "pysqlite"), hide_parameters=True)
        _begin_immediate(self._engine)
        _leave_read_only(self._engine)
        self._is_sqlite = self._engine.dialect.name == "sqlite"
        self._threads = ThreadPoolExecutor(1 if self._is_sqlite else _CONNECTIONS, "slack-database")
        # SQLite: what waits for the transaction that is being committed, to share the next one.
        self._waiting: list[tuple[Callable[[Session], Any], asyncio.Future[Any]]] = []
        self._commit_task: asyncio.Task[None] | None = None
        # Text was deleted, perhaps by a process that died then, and may still be in the files.
        self._is_erasure_owed = True

    @cached_property
    def async_engine(self) -> AsyncEngine:
        """The same database, for slack_sdk's stores."""
        engine = create_async_engine(_with_driver(self._url, "aiosqlite"), hide_parameters=True)
        _begin_immediate(engine.sync_engine)
        _leave_read_only(engine.sync_engine)
        return engine

    async def run(
        self, fn: Callable[Concatenate[Session, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `fn` in a transaction, which is committed when this returns.

        It goes on to its end when the caller is cancelled, and what is run after that sees it.
        """

        def call(session: Session) -> T:
            return fn(session, *args, **kwargs)

        loop = asyncio.get_running_loop()
        if not self._is_sqlite:
            running = loop.run_in_executor(self._threads, self._transaction, [call])
            try:
                (result,) = await asyncio.shield(running)
            except asyncio.CancelledError:
                await asyncio.gather(running, return_exceptions=True)
                raise
            return result()
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.append((call, future))
        if self._commit_task is None:
            self._commit_task = asyncio.create_task(self._commit_all())
        return await future

    def note_deletion(self) -> None:
        """Have `erase_deleted` look again: something was deleted."""
        self._is_erasure_owed = True

    async def erase_deleted(self) -> None:
        """Take what was deleted out of the files of a SQLite database, if anything was since that
        was done; what somebody is reading is left for the next time. Raises sqlite3.Error."""
        file = make_url(self._url).database
        if self._is_sqlite and file and self._is_erasure_owed:
            self._is_erasure_owed = False
            is_done = False
            try:
                is_done = await asyncio.to_thread(erase_deleted, Path(file))
            finally:
                self._is_erasure_owed |= not is_done

    async def close(self) -> None:
        """Close all connections."""
        if self._commit_task is not None:
            await self._commit_task
        await asyncio.to_thread(self._threads.shutdown)
        self._engine.dispose()
        if "async_engine" in self.__dict__:
            await self.async_engine.dispose()

    async def _commit_all(self) -> None:
        """Commit what waits, together: the disk is waited for once."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            calls, futures = zip(*self._waiting, strict=True)
            self._waiting = []
            try:
                results = await loop.run_in_executor(self._threads, self._transaction, calls)
            except Exception as error:
                results = [_failed(error)] * len(calls)
            for future, result in zip(futures, results, strict=True):
                if future.cancelled():
                    continue
                try:
                    future.set_result(result())
                except Exception as error:
                    future.set_exception(error)
        self._commit_task = None

    def _transaction(self, calls: Sequence[Callable[[Session], T]]) -> list[Callable[[], T]]:
        """Run all in one transaction; one that fails does not touch the others."""
        results: list[Callable[[], T]] = []
        with self._engine.begin() as connection:
            for call in calls:
                session = Session(
                    connection, expire_on_commit=False, join_transaction_mode="create_savepoint"
                )
                try:
                    with session, session.begin():
                        results.append(_succeeded(call(session)))
                except Exception as error:
                    results.append(_failed(error))
        return results


def _succeeded(value: T) -> Callable[[], T]:
    return lambda: value


def _failed(error: Exception) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


def migrate(url: str) -> None:
    """Bring the database to the present schema; two processes may do so at once."""
    parsed = _with_driver(url, "pysqlite")
    _make_private(parsed)
    engine = create_engine(parsed, hide_parameters=True)
    _begin_immediate(engine)
    try:
        with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(5210736)")
            config = Config()
            config.set_main_option("script_location", _MIGRATIONS)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()


def _with_driver(url: str, sqlite_driver: str) -> URL:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return parsed.set(drivername=f"sqlite+{sqlite_driver}")
    query = {"connect_timeout": str(_CONNECT_TIMEOUT), **parsed.query}
    return parsed.set(drivername="postgresql+psycopg", query=query)


def _make_private(url: URL) -> None:
    if url.get_backend_name() == "sqlite" and url.database:
        make_private_database(Path(url.database))


def _begin_immediate(engine: Any) -> None:
    """Take SQLite's write lock when a transaction begins, so that none fails halfway."""
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(_BUSY_TIMEOUT * 1_000)}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute(SECURE_DELETE)
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _leave_read_only(engine: Engine) -> None:
    """Give up a connection to a Postgres that takes no writes: after a failover another one does,
    which only a new connection finds."""

    @event.listens_for(engine, "handle_error")
    def _note(context: ExceptionContext) -> None:
        if getattr(context.original_exception, "sqlstate", None) == _READ_ONLY:
            context.is_disconnect = True

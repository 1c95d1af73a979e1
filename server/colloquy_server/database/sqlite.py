"""SQLite: a file in WAL mode."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL

from colloquy_server.database.transactions import Database, ScopedSession, Session, translated

P = ParamSpec("P")
T = TypeVar("T")

_BUSY_TIMEOUT = 10.0
"""Seconds to wait for another process's write lock on the SQLite file, a migration's say."""

_Job = tuple[Future[Any], Callable[[], Any]]


class SqliteDatabase(Database):
    """A SQLite file in WAL mode: writers queue up in one thread, readers never wait for them."""

    def __init__(self, url: URL, *, readers: int = 2) -> None:
        self.engine = sqlite_engine(url)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="sqlite-writer")
        self._first: deque[_Job] = deque()
        self._then: deque[_Job] = deque()
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="sqlite-reader")

    async def read(
        self,
        account_id: str,
        fn: Callable[Concatenate[Session, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """In a reader thread."""

        def run() -> T:
            with translated(), ScopedSession(self.engine, account_id) as session:
                session.connection(execution_options={"sqlite_begin": "DEFERRED"})
                return fn(session, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    async def write(
        self,
        account_id: str,
        fn: Callable[Concatenate[Session, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """In the writer thread."""
        return await self._submit(self._then, account_id, lambda s: fn(s, *args, **kwargs))

    async def write_first(
        self,
        account_id: str,
        fn: Callable[Concatenate[Session, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """In the writer thread, as soon as the transaction that runs there has ended."""
        return await self._submit(self._first, account_id, lambda s: fn(s, *args, **kwargs))

    async def _submit(self, queue: deque[_Job], account_id: str, fn: Callable[[Session], T]) -> T:
        def run() -> T:
            with translated(), ScopedSession(self.engine, account_id) as session, session.begin():
                return fn(session)

        result: Future[T] = Future()
        queue.append((result, run))
        self._writer.submit(self._run_next)
        return await asyncio.wrap_future(result)

    def _run_next(self) -> None:
        # As many calls of this as there are jobs: each finds one.
        result, run = (self._first or self._then).popleft()
        if not result.set_running_or_notify_cancel():
            return
        try:
            result.set_result(run())
        except BaseException as error:
            result.set_exception(error)

    async def close(self) -> None:
        """Lets running transactions end, then closes all connections."""
        loop = asyncio.get_running_loop()
        for pool in (self._writer, self._readers):
            await loop.run_in_executor(None, pool.shutdown)
        self.engine.dispose()


def sqlite_engine(url: URL) -> Engine:
    """An engine for a SQLite file; its folder is made if it is missing."""
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url, connect_args={"timeout": _BUSY_TIMEOUT, "check_same_thread": False}, pool_size=8
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # transactions begin where we say, below
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        # A write transaction takes the lock at its start: it could not take it later without
        # failing when another process wrote in between.
        mode = connection.get_execution_options().get("sqlite_begin", "IMMEDIATE")
        connection.exec_driver_sql(f"BEGIN {mode}")

    return engine

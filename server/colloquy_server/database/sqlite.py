"""SQLite: a file in WAL mode."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import structlog
from colloquy.operations.log_safety import name_error
from colloquy.operations.private_files import make_private_database
from colloquy.operations.sqlite_erasure import SECURE_DELETE, erase_deleted
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL

from colloquy_server.concurrency import fail
from colloquy_server.database.threads import KeptConnections, Threads
from colloquy_server.database.transactions import Database, Scope, Session, translated

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger()

_BUSY_TIMEOUT = 10.0
"""Seconds to wait for another process's write lock on the SQLite file, a migration's say."""

_FULL_TEXT = "search_words"
"""The table that holds the terms of search."""

_BATCH_SIZE = 64
_BATCH_SECONDS = 0.01
"""Transactions that are committed together, and how long one that waits for its commit lets others
join it. What goes first has to wait for no more than that, and one commit."""


@dataclass(slots=True, eq=False)
class _Job:
    """A transaction that somebody waits for."""

    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    scope: Scope
    fn: Callable[[Session], Any]
    result: Any = None
    error: BaseException | None = None
    has_events: bool = False

    def deliver(self) -> None:
        """Tells who waits, in the loop's thread."""
        if self.future.done():  # the caller has gone
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            fail(self.future, self.error)


class SqliteDatabase(Database):
    """A SQLite file in WAL mode: writers queue up in one thread, readers never wait for them.

    The writers that wait are committed together, as a commit's wait for the disk costs more than
    what most of them do. Each stands in a savepoint of its own: one that fails leaves nothing
    behind, and takes nothing from the others. None hears of its end before the commit of all.
    """

    def __init__(self, url: URL, *, readers: int = 2) -> None:
        self._file = Path(url.database or "")
        self._engine = sqlite_engine(url)
        self._written = KeptConnections(self._engine.connect)
        self._read = KeptConnections(
            lambda: self._engine.connect().execution_options(sqlite_begin="DEFERRED")
        )
        self._writer = Threads(1, "sqlite-writer")
        self._first: deque[_Job] = deque()
        self._then: deque[_Job] = deque()
        self._is_writing = False
        self._lock = threading.Lock()
        self._readers = Threads(readers, "sqlite-reader")
        self._eraser = Threads(1, "sqlite-eraser")

    async def read(
        self,
        scope: Scope,
        fn: Callable[Concatenate[Session, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """In a reader thread."""

        def run() -> T:
            with (
                translated(),
                self._read.use() as connection,
                connection.begin(),
                Session(connection, scope) as session,
            ):
                return fn(session, *args, **kwargs)

        return await self._readers.run(run)

    async def write(
        self,
        scope: Scope,
        fn: Callable[Concatenate[Session, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """In the writer thread."""
        return await self._submit(self._then, scope, lambda s: fn(s, *args, **kwargs))

    async def write_first(
        self,
        scope: Scope,
        fn: Callable[Concatenate[Session, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """In the writer thread, before all that waits in `write`."""
        return await self._submit(self._first, scope, lambda s: fn(s, *args, **kwargs))

    async def erase_deleted(self) -> bool:
        """In a thread of its own, beside the others."""
        try:
            return await self._eraser.run(lambda: erase_deleted(self._file, full_text=_FULL_TEXT))
        except sqlite3.Error as error:
            log.warning("deleted text is not taken out", error=name_error(error))
            return False

    async def _submit(self, queue: deque[_Job], scope: Scope, fn: Callable[[Session], T]) -> T:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        queue.append(_Job(loop, future, scope, fn))
        with self._lock:
            if not self._is_writing:
                self._is_writing = True
                self._writer.start(self._write)
        return await future

    def _next(self) -> _Job | None:
        while queue := self._first or self._then:
            job = queue.popleft()
            if not job.future.cancelled():
                return job
        return None

    # --- in the writer thread -----------------------------------------------------------------

    def _write(self) -> None:
        """Runs what waits, batch by batch, until nothing does."""
        while True:
            job = self._next()
            if job is None:
                with self._lock:
                    if not (self._first or self._then):
                        self._is_writing = False
                        return
                continue
            batch = [job]
            try:
                with translated():
                    self._run_batch(batch)
            except BaseException as error:
                for one in batch:
                    one.result, one.error = None, one.error or error
            for loop in {one.loop for one in batch}:
                with suppress(RuntimeError):  # the loop has ended, and with it those who waited
                    own = [one for one in batch if one.loop is loop]
                    loop.call_soon_threadsafe(self._deliver, own)

    def _run_batch(self, batch: list[_Job]) -> None:
        """Commits the first transaction of the batch, and with it those that come meanwhile."""
        with self._written.use() as connection, connection.begin():
            driver: Any = connection.connection.driver_connection
            until = time.monotonic() + _BATCH_SECONDS
            self._run(connection, driver, batch[0])
            while len(batch) < _BATCH_SIZE and time.monotonic() < until:
                job = self._next()
                if job is None:
                    return
                batch.append(job)
                self._run(connection, driver, job)

    def _run(self, connection: Connection, driver: sqlite3.Connection, job: _Job) -> None:
        driver.execute("SAVEPOINT job")
        is_kept = False
        try:
            shared = Session(connection, job.scope, shares_transaction=True)
            with translated(), shared as session:
                job.result = job.fn(session)
                session.complete()
                if session.in_transaction():  # the ORM's savepoint
                    session.commit()
                is_kept = not session.is_undone
                job.has_events = is_kept and session.has_events
        except BaseException as error:
            job.error = error
            if not driver.in_transaction:  # SQLite has rolled all of it back: the disk is full, say
                raise
        if not is_kept:
            driver.execute("ROLLBACK TO job")
        driver.execute("RELEASE job")

    # --- in the event loop --------------------------------------------------------------------

    def _deliver(self, jobs: list[_Job]) -> None:
        for job in jobs:
            job.deliver()
        if any(job.has_events and job.error is None for job in jobs):
            self.on_events()

    async def close(self) -> None:
        """Lets running transactions end, then closes all connections."""
        await self._writer.close()
        await self._readers.close()
        await self._eraser.close()
        self._written.close()
        self._read.close()
        self._engine.dispose()


def sqlite_engine(url: URL) -> Engine:
    """An engine for a SQLite file, which is made if it is missing, with its folder, and which only
    this user may read."""
    if url.database and url.database != ":memory:":
        make_private_database(Path(url.database))
    engine = create_engine(
        url,
        connect_args={"timeout": _BUSY_TIMEOUT, "check_same_thread": False},
        pool_size=8,
        hide_parameters=True,  # errors would carry what people said into logs
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # transactions begin where we say, below
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute(SECURE_DELETE)
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        # A write transaction takes the lock at its start: it could not take it later without
        # failing when another process wrote in between.
        mode = connection.get_execution_options().get("sqlite_begin", "IMMEDIATE")
        connection.exec_driver_sql(f"BEGIN {mode}")

    return engine

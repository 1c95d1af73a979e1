"""The one way to the database: `await db.read(fn)` and `await db.write(fn)` run a plain function of
a Session as one whole transaction.

On SQLite the function runs in the one writer thread, or in a reader thread; on Postgres on the
event loop through the async driver. The functions are the same.

Here, and nowhere else, queries are bound to an account: every statement on a table that is Owned
gets `account_id = …` added, and a transaction says whose it is, or that it is the server's own.
"""

from __future__ import annotations

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import structlog
from sqlalchemy import Connection, Engine, bindparam, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria

from colloquy_server.concurrency import shielded
from colloquy_server.database.models import Owned
from colloquy_server.errors import Unavailable

__all__ = [
    "EVERY_ACCOUNT",
    "Database",
    "DatabaseUnavailable",
    "PostgresDatabase",
    "Session",
    "SqliteDatabase",
    "open_database",
    "sync_engine",
]

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger()

EVERY_ACCOUNT: Final = "*"
"""The scope of the server's own work: authentication, administration, leases."""

_BUSY_TIMEOUT = 10.0
"""Seconds to wait for another process's write lock on the SQLite file, a migration's say."""

_CONNECT_TIMEOUT = 5
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


class DatabaseUnavailable(Unavailable):
    """The database cannot be reached at the moment. Try again."""


class ScopedSession(Session):
    """A Session whose statements see one account only."""

    def __init__(self, bind: Any, account_id: str) -> None:
        super().__init__(bind, expire_on_commit=False, autoflush=False)
        self.account_id = account_id


@event.listens_for(ScopedSession, "do_orm_execute")
def _bind_to_account(state: ORMExecuteState) -> None:
    session = state.session
    assert isinstance(session, ScopedSession)
    if session.account_id == EVERY_ACCOUNT or state.is_relationship_load:
        return
    _account.set(session.account_id)
    statement = state.statement
    bound = _bound.get(statement)
    if bound is None:
        bound = _bound[statement] = statement.options(*_belongs_to_account)
    state.statement = bound


_account: ContextVar[str] = ContextVar("account")
_belongs_to_account = tuple(
    with_loader_criteria(
        table,
        table.account_id == bindparam("account", callable_=_account.get, unique=True),
        include_aliases=True,
    )
    for table in Owned.__subclasses__()
)
# A statement that is built once is also bound once; its cache key then is made only once.
_bound: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, PoolTimeoutError) as error:
        if isinstance(error, DBAPIError):
            is_away = isinstance(error, OperationalError | InterfaceError)
            if _is_too_much(error) or not (is_away or error.connection_invalidated):
                raise
        cause = getattr(error, "orig", None) or error
        log.warning("database does not answer", cause=type(cause).__name__, detail=str(cause))
        raise DatabaseUnavailable from error


def _is_too_much(error: DBAPIError) -> bool:
    """Whether Postgres refuses what it was given for its size, which trying again cannot change."""
    return str(getattr(error.orig, "sqlstate", None) or "").startswith("54")


class Database(ABC):
    """Runs transactions."""

    @abstractmethod
    async def read(
        self,
        account_id: str,
        fn: Callable[Concatenate[Session, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Runs `fn(session, …)` on one snapshot, and changes nothing."""

    @abstractmethod
    async def write(
        self,
        account_id: str,
        fn: Callable[Concatenate[Session, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Runs `fn(session, …)` and commits; an exception rolls everything back.

        When the caller is cancelled the transaction still runs to its end.
        """

    @abstractmethod
    async def write_first(
        self,
        account_id: str,
        fn: Callable[Concatenate[Session, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """The same, before all that waits in `write`: for what renews, saves and ends replies,
        which no number of requests may delay for as long as a lease."""

    @abstractmethod
    async def close(self) -> None:
        """Lets running transactions end, then closes all connections."""


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
            with _translated(), ScopedSession(self.engine, account_id) as session:
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
            with _translated(), ScopedSession(self.engine, account_id) as session, session.begin():
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
            with ScopedSession(connection, account_id) as session:
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
            with ScopedSession(connection, account_id) as session, session.begin():
                return fn(session)

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
            with _translated():
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
            "connect_timeout": _CONNECT_TIMEOUT,
            "application_name": "colloquy",
            "options": options,
            **KEEPALIVE,
        },
    )


def sync_engine(database_url: str) -> Engine:
    """A plain engine, for migrations."""
    url = _with_driver(database_url)
    if url.get_backend_name() == "sqlite":
        return sqlite_engine(url)
    return create_engine(url, connect_args={"connect_timeout": _CONNECT_TIMEOUT})


def _with_driver(database_url: str) -> URL:
    url = make_url(database_url)
    is_postgres = url.get_backend_name() == "postgresql"
    return url.set(drivername="postgresql+psycopg") if is_postgres else url


def open_database(database_url: str, pool_size: int) -> Database:
    """The database that DATABASE_URL names; `pool_size` is for Postgres."""
    url = _with_driver(database_url)
    if url.get_backend_name() == "sqlite":
        return SqliteDatabase(url)
    return PostgresDatabase(url, pool_size=pool_size)

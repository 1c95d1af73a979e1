"""The bot's database: `await db.run(fn, …)` runs a plain function of a Session as one transaction.

SQLite or Postgres; the functions are the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

P = ParamSpec("P")
T = TypeVar("T")

_MIGRATIONS = Path(__file__).parent.parent / "migrations" / "slack"
_BUSY_TIMEOUT = 10.0
"""Seconds to wait for another process's write lock on the SQLite file."""


class Database:
    """A database that is open."""

    def __init__(self, url: str) -> None:
        self.engine = _async_engine(url)
        # SQLite takes one writer at a time: whoever waits here does not spin on its lock.
        self._lock = asyncio.Lock() if self.engine.dialect.name == "sqlite" else None

    async def run(
        self, fn: Callable[Concatenate[Session, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `fn` in a transaction, which is committed when this returns."""
        if self._lock is None:
            return await self._transaction(lambda s: fn(s, *args, **kwargs))
        async with self._lock:
            return await self._transaction(lambda s: fn(s, *args, **kwargs))

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()

    async def _transaction(self, fn: Callable[[Session], T]) -> T:
        async with AsyncSession(self.engine, expire_on_commit=False) as session, session.begin():
            return await session.run_sync(fn)


def migrate(url: str) -> None:
    """Bring the database to the present schema; two processes may do so at once."""
    parsed = _with_driver(url, "pysqlite")
    _make_folder(parsed)
    engine = create_engine(parsed)
    _begin_at_once(engine)
    try:
        with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(5_210_736)")
            config = Config()
            config.set_main_option("script_location", str(_MIGRATIONS))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()


def _async_engine(url: str) -> AsyncEngine:
    engine = create_async_engine(_with_driver(url, "aiosqlite"))
    _begin_at_once(engine.sync_engine)
    return engine


def _with_driver(url: str, sqlite_driver: str) -> URL:
    parsed = make_url(url)
    is_sqlite = parsed.get_backend_name() == "sqlite"
    return parsed.set(drivername=f"sqlite+{sqlite_driver}" if is_sqlite else "postgresql+psycopg")


def _make_folder(url: URL) -> None:
    if url.get_backend_name() == "sqlite" and url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)


def _begin_at_once(engine: Any) -> None:
    """Take SQLite's write lock when a transaction begins, so that none fails halfway."""
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(_BUSY_TIMEOUT * 1_000)}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

"""Opens the database that a URL names."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL, make_url

from colloquy_server.database.pipelines import PipelinedConnection, connect_pipelined
from colloquy_server.database.postgres import CONNECT_TIMEOUT, PostgresDatabase
from colloquy_server.database.sqlite import SqliteDatabase, sqlite_engine
from colloquy_server.database.timing import OnWait, TimedDatabase
from colloquy_server.database.transactions import Database


def sync_engine(database_url: str) -> Engine:
    """A plain engine, for migrations."""
    url = _with_driver(database_url)
    if url.get_backend_name() == "sqlite":
        return sqlite_engine(url)
    engine = create_engine(
        url, connect_args={"connect_timeout": CONNECT_TIMEOUT}, hide_parameters=True
    )
    connect_pipelined(engine, PipelinedConnection)
    return engine


def database_file(database_url: str) -> Path | None:
    """The file of a SQLite database; None for Postgres."""
    url = make_url(database_url)
    if url.get_backend_name() != "sqlite" or not url.database:
        return None
    return Path(url.database)


def _with_driver(database_url: str) -> URL:
    url = make_url(database_url)
    is_postgres = url.get_backend_name() == "postgresql"
    return url.set(drivername="postgresql+psycopg") if is_postgres else url


def open_database(database_url: str, pool_size: int, on_wait: OnWait | None = None) -> Database:
    """The database that DATABASE_URL names; `pool_size` is for Postgres. `on_wait` hears how long
    each transaction waited."""
    url = _with_driver(database_url)
    database: Database
    if url.get_backend_name() == "sqlite":
        database = SqliteDatabase(url)
    else:
        database = PostgresDatabase(url, pool_size=pool_size)
    return database if on_wait is None else TimedDatabase(database, on_wait)

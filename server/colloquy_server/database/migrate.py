"""Brings a database to the present schema with Alembic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from colloquy_server.database.engine import sync_engine
from colloquy_server.settings import SettingsError

_LOCK = 0x636F6C6C6F7179
"""The advisory lock ("colloqy") that makes replicas that start at once migrate one by one."""

_MIGRATIONS = "colloquy_server:migrations"


def upgrade(database_url: str) -> None:
    """Applies the migrations that are missing, in one transaction; others wait for it.

    Raises SettingsError when the database cannot be used.
    """
    with _connected(database_url) as connection, _told_in_words(), connection.begin():
        if connection.dialect.name == "postgresql":  # on SQLite the transaction is the lock
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def is_current(database_url: str) -> bool:
    """Whether the database has all migrations. Raises SettingsError when it cannot be used."""
    with _connected(database_url) as connection:
        applied = MigrationContext.configure(connection).get_current_heads()
    return set(applied) == set(ScriptDirectory.from_config(_config()).get_heads())


@contextmanager
def _told_in_words() -> Iterator[None]:
    """As when the database is read-only: a standby, say."""
    try:
        yield
    except DBAPIError as error:
        raise SettingsError(f"DATABASE_URL cannot be migrated: {_first_line(error)}") from None


@contextmanager
def _connected(database_url: str) -> Iterator[Connection]:
    try:
        engine = sync_engine(database_url)
        connection = engine.connect()
    except (SQLAlchemyError, OSError) as error:
        raise SettingsError(f"DATABASE_URL cannot be used: {_first_line(error)}") from None
    try:
        with connection:
            yield connection
    finally:
        engine.dispose()


def _first_line(error: Exception) -> str:
    """The driver's own words, which never hold the password; SQLAlchemy adds lines to them, and
    Postgres the values of rows."""
    return str(getattr(error, "orig", None) or error).partition("\n")[0]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", _MIGRATIONS)
    return config

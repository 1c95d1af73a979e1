"""Brings a database to the present schema with Alembic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, inspect, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from colloquy_server.database.engine import sync_engine
from colloquy_server.database.schema_tables import SchemaFloor
from colloquy_server.settings import SettingsError

_LOCK = 0x636F6C6C6F7179
"""The advisory lock ("colloqy") that makes replicas that start at once migrate one by one."""

_MIGRATIONS = "colloquy_server:migrations"


_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '10s'"
"""How long a migration waits for a table that somebody uses, a dump say: whoever asks for the table
after it waits behind it. Then it fails, nothing is changed, and it is to be run again."""


class Fit(Enum):
    """How a database's schema stands to this server's."""

    CURRENT = auto()
    OLDER = auto()
    """It has to be migrated before this server can serve from it."""
    NEWER = auto()
    """A newer version migrated it, and this server may serve from it all the same."""
    TOO_NEW = auto()
    """A newer version took away what this server needs."""


def upgrade(database_url: str) -> None:
    """Applies the migrations that are missing, in one transaction; others wait for it. Does nothing
    where a newer version did so from which this one can serve.

    Raises SettingsError when the database cannot be used, or is too new.
    """
    with _migrating(database_url) as connection:
        found = _fit(connection)
        if found is Fit.TOO_NEW:
            raise SettingsError(TOO_NEW)
        if found is Fit.OLDER:
            command.upgrade(_config(connection), "head")


def migrate_to(database_url: str, revision: str) -> None:
    """Brings a database to this revision, forwards or back; what only later ones have is lost.

    Raises SettingsError when the database cannot be used, or there is no such revision.
    """
    known = {script.revision for script in _scripts().walk_revisions()}
    if revision not in known:
        raise SettingsError(f"there is no revision {revision}: the newest is {head()}")
    with _migrating(database_url) as connection:
        if _fit(connection) in (Fit.NEWER, Fit.TOO_NEW):
            raise SettingsError("a newer version migrated this database: use that one's command")
        before = {script.revision for script in _scripts().iterate_revisions(revision, "base")}
        goes_back = not before.issuperset(_applied(connection))
        move = command.downgrade if goes_back else command.upgrade
        move(_config(connection), revision)


def fit(database_url: str) -> Fit:
    """How the database stands to this server. Raises SettingsError when it cannot be used."""
    with _connected(database_url) as connection, _told_in_words():
        return _fit(connection)


def revision(database_url: str) -> str:
    """The database's revision; empty when it has none. Raises SettingsError when it cannot be
    used."""
    with _connected(database_url) as connection, _told_in_words():
        return ", ".join(_applied(connection))


def head() -> str:
    """The revision of this server."""
    return ", ".join(_scripts().get_heads())


TOO_NEW = (
    "a newer version has migrated the database, and this one can no longer serve from it: start"
    " that version, or go back with its `colloquy migrate --to REVISION`"
)


def _fit(connection: Connection) -> Fit:
    scripts = _scripts()
    known = {script.revision for script in scripts.walk_revisions()}
    applied = _applied(connection)
    if set(applied) == set(scripts.get_heads()):
        return Fit.CURRENT
    if known.issuperset(applied):
        return Fit.OLDER
    if not inspect(connection).has_table(SchemaFloor.__tablename__):
        return Fit.TOO_NEW
    floor = connection.execute(select(SchemaFloor.revision)).scalar_one_or_none()
    return Fit.NEWER if floor in known else Fit.TOO_NEW


def _applied(connection: Connection) -> tuple[str, ...]:
    return MigrationContext.configure(connection).get_current_heads()


@contextmanager
def _migrating(database_url: str) -> Iterator[Connection]:
    """A transaction in which nobody else migrates."""
    with _connected(database_url) as connection, _told_in_words(), connection.begin():
        if connection.dialect.name == "postgresql":  # on SQLite the transaction is the lock
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            connection.exec_driver_sql(_LOCK_TIMEOUT)
        yield connection


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


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", _MIGRATIONS)
    config.attributes["connection"] = connection
    return config

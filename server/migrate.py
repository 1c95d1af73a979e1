"""Brings a database to the present schema with Alembic."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import func, select

from server.database import sync_engine

_LOCK = 0x636F6C6C6F7179
"""The advisory lock ("colloqy") that makes replicas that start at once migrate one by one."""

_MIGRATIONS = Path(__file__).parent.parent / "migrations"


def upgrade(database_url: str) -> None:
    """Applies the migrations that are missing, in one transaction; others wait for it."""
    engine = sync_engine(database_url)
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":  # on SQLite the transaction is the lock
                connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()


def is_current(database_url: str) -> bool:
    """Whether the database has all migrations."""
    engine = sync_engine(database_url)
    try:
        with engine.connect() as connection:
            applied = MigrationContext.configure(connection).get_current_heads()
    finally:
        engine.dispose()
    return set(applied) == set(ScriptDirectory.from_config(_config()).get_heads())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config

"""What a database says of itself."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select, text

from colloquy_server.database.transactions import Session
from colloquy_server.database.values import MICROS, db_now


@dataclass(frozen=True)
class Health:
    """`now` is its clock, in seconds since 1970."""

    version: str
    now: float
    is_read_only: bool
    max_connections: int | None
    """How many it takes, of all who use it; None where there is no limit."""


def examine(s: Session) -> Health:
    """Asks the database."""
    now = s.execute(select(db_now())).scalar_one() / MICROS
    if s.get_bind().dialect.name == "sqlite":
        version = s.execute(text("SELECT sqlite_version()")).scalar_one()
        return Health(f"SQLite {version}", now, is_read_only=False, max_connections=None)
    version, limit = (
        str(s.execute(text(f"SHOW {name}")).scalar_one())
        for name in ("server_version", "max_connections")
    )
    # Of this transaction it says nothing: reads are read-only.
    standby = "SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool"
    return Health(
        f"Postgres {version.split()[0]}",
        now,
        is_read_only=bool(s.execute(text(standby)).scalar_one()),
        max_connections=int(limit),
    )

"""What the stateful tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from server import live, migrate
from server.database import sync_engine
from tests.stateful.machine import ReplyMachine


@pytest.fixture
def database() -> str:
    """The kind of database."""
    return "sqlite"


@pytest.fixture
def engine(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A database with the present schema."""
    if database == "postgres":
        engine = sync_engine(request.getfixturevalue("postgres_url"))
    else:
        url = f"sqlite:///{tmp_path}/conversations.db"
        migrate.upgrade(url)
        engine = sync_engine(url)
        event.listen(engine, "connect", _hurry)
    yield engine
    engine.dispose()


def _hurry(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA synchronous = OFF")  # nobody pulls the plug here


@pytest.fixture
def machine(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> type[ReplyMachine]:
    """The machine, on this database."""
    # A few changes are as many as matter: what is kept ends soon, what is read has pages.
    monkeypatch.setattr(live, "_RECENT", 3)
    monkeypatch.setattr(live, "_PAGE", 2)

    class Machine(ReplyMachine):
        pass

    Machine.engine = engine
    return Machine

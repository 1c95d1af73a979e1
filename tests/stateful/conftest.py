"""What the stateful tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from server import migrate
from server.database import sync_engine
from tests.stateful.machine import ReplyMachine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A database with the present schema."""
    url = f"sqlite:///{tmp_path}/conversations.db"
    migrate.upgrade(url)
    engine = sync_engine(url)

    @event.listens_for(engine, "connect")
    def hurry(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")  # nobody pulls the plug here

    yield engine
    engine.dispose()


@pytest.fixture
def machine(engine: Engine) -> type[ReplyMachine]:
    """The machine, on this database."""

    class Machine(ReplyMachine):
        pass

    Machine.engine = engine
    return Machine

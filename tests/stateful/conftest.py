"""What the stateful tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.stateful.machine import ReplyMachine
from tests.stateful.setting import few_changes_matter, machine_on, open_engine


@pytest.fixture
def database() -> str:
    """The kind of database."""
    return "sqlite"


@pytest.fixture
def engine(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A database with the present schema."""
    url = request.getfixturevalue("postgres_url") if database == "postgres" else None
    with open_engine(tmp_path, url) as engine:
        yield engine


@pytest.fixture
def machine(engine: Engine) -> Iterator[type[ReplyMachine]]:
    """The machine, on this database."""
    with few_changes_matter():
        yield machine_on(engine)

"""What a machine is played on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from colloquy_server.database import migrate
from colloquy_server.database.engine import sync_engine
from colloquy_server.replies import feeds
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import Engine, event

from tests.stateful.machine import ReplyMachine


@contextmanager
def open_engine(folder: Path, postgres_url: str | None = None) -> Iterator[Engine]:
    """That Postgres, or else a new SQLite database in the folder, with the present schema."""
    if postgres_url:
        engine = sync_engine(postgres_url)
    else:
        url = f"sqlite:///{folder}/conversations.db"
        migrate.upgrade(url)
        engine = sync_engine(url)
        event.listen(engine, "connect", _hurry)
    try:
        yield engine
    finally:
        engine.dispose()


def _hurry(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA synchronous = OFF")  # nobody pulls the plug here


@contextmanager
def few_changes_matter() -> Iterator[None]:
    """What is kept ends soon, and what is read has pages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feeds, "_RECENT", 3)
        patch.setattr(feeds, "_PAGE", 2)
        yield


def play_any(machine: type[ReplyMachine], number: int, examples: int, steps: int) -> None:
    """So many orders of so many steps, of which `number` is the seed. Raises what is wrong; the
    order that fails is the last one that is played."""
    run_state_machine_as_test(
        seed(number)(machine),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


def machine_on(engine: Engine) -> type[ReplyMachine]:
    """The machine, on this database."""

    class Machine(ReplyMachine):
        pass

    Machine.engine = engine
    return Machine

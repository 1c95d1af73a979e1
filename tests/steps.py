"""How much SQLite does for something, in steps of its machine: the same each time, on any machine.

with counted(connection) as steps:
    connection.execute(statement)
assert steps.taken < 1_000
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection


@dataclass
class Steps:
    """Steps that were taken so far."""

    taken: int = 0


@contextmanager
def counted(connection: Connection) -> Iterator[Steps]:
    """The steps that a connection takes meanwhile."""
    steps = Steps()

    def step() -> int:
        steps.taken += 1
        return 0

    driver = connection.connection.driver_connection
    assert driver is not None
    driver.set_progress_handler(step, 1)
    try:
        yield steps
    finally:
        driver.set_progress_handler(None, 1)

"""The life of a reply, in any order, on SQLite and on Postgres.

STATEFUL_EXAMPLES makes a longer run, with a new seed. What a failure prints can be played again in
`test_found.py`, step by step; hypothesis does not shorten it, which would take an hour.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.stateful.machine import ReplyMachine
from tests.stateful.setting import play_any

EXAMPLES = int(os.environ.get("STATEFUL_EXAMPLES", "12"))
STEPS = 60
IS_LONG = "STATEFUL_EXAMPLES" in os.environ


@pytest.mark.timeout(36_000 if IS_LONG else 900)
@pytest.mark.parametrize(("database", "number"), [("sqlite", 1), ("sqlite", 2), ("postgres", 3)])
def test_all_orders(machine: type[ReplyMachine], database: str, number: int) -> None:
    if IS_LONG:
        number = random.getrandbits(64)
        print(f"seed {number}")  # noqa: T201 - to repeat it
    examples = EXAMPLES if IS_LONG or database == "sqlite" else EXAMPLES // 3
    play_any(machine, number, examples, STEPS)

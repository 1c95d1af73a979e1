"""The life of a reply, in any order, on SQLite.

STATEFUL_EXAMPLES makes a longer run, with new seeds.
"""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.stateful.machine import ReplyMachine

EXAMPLES = int(os.environ.get("STATEFUL_EXAMPLES", "75"))
STEPS = 60
IS_LONG = "STATEFUL_EXAMPLES" in os.environ
PHASES = (Phase.generate, Phase.shrink) if os.environ.get("SHRINK") else (Phase.generate,)


@pytest.mark.timeout(36_000 if IS_LONG else 300)
@pytest.mark.parametrize("number", [1, 2])
def test_all_orders(machine: type[ReplyMachine], number: int) -> None:
    if IS_LONG:
        number = random.getrandbits(64)
        print(f"seed {number}")  # noqa: T201 - to repeat it
    run_state_machine_as_test(
        seed(number)(machine),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            database=None,
            deadline=None,
            phases=PHASES,
            suppress_health_check=list(HealthCheck),
        ),
    )

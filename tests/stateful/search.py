"""Looks for an order of events that goes wrong, and shows the shortest that it finds.

    python -m tests.stateful.search GUARD EXAMPLES

Run on code without that guard, by `guards --find`. Prints one line of JSON, or nothing.
"""

from __future__ import annotations

import random
import signal
import sys
import tempfile
from pathlib import Path
from typing import ClassVar

from tests.stateful.machine import ReplyMachine
from tests.stateful.orders import Order
from tests.stateful.setting import few_changes_matter, machine_on, open_engine, play_any

_STEPS = 50
_PATIENCE = 20
"""Seconds after which an order that does not end counts as one that fails."""


class Endless(Exception):
    """An order does not end."""


def main(guard: str, examples: int) -> None:
    """Looks, and prints what it finds."""
    signal.signal(signal.SIGALRM, _give_up)
    with (
        tempfile.TemporaryDirectory() as folder,
        open_engine(Path(folder)) as engine,
        few_changes_matter(),
    ):

        class Machine(machine_on(engine)):  # type: ignore[misc]
            latest: ClassVar[ReplyMachine]

            def __init__(self) -> None:
                super().__init__()
                Machine.latest = self
                signal.alarm(_PATIENCE)

        if fails(Machine, examples):
            found = Order(guard, Machine.latest.setup, tuple(Machine.latest.played))
            print(found.shortened(Machine).line, flush=True)  # noqa: T201 - for `guards --find`
        signal.alarm(0)


def fails(machine: type[ReplyMachine], examples: int) -> bool:
    """Whether one of so many orders fails."""
    try:
        play_any(machine, random.getrandbits(64), examples, _STEPS)
    except Exception:
        return True
    return False


def _give_up(_signal: int, _frame: object) -> None:
    raise Endless


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

"""Orders of events that are kept, one for each guard that only an order shows.

An order was found by playing without its guard until something went wrong, and then shortened.
`orders.jsonl` has them; a step that is not possible any more is left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.stateful.machine import ACTIONS, ReplyMachine

FILE = Path(__file__).with_name("orders.jsonl")

_ACTIONS = {action.name: action for action in ACTIONS}


@dataclass(frozen=True)
class Order:
    """How a machine is set up, and what is done with it, in turn."""

    guard: str
    """The guard whose absence it shows."""
    setup: dict[str, int]
    steps: tuple[tuple[str, dict[str, Any]], ...]

    @staticmethod
    def of(line: str) -> Order:
        """The order that this line of JSON holds."""
        held = json.loads(line)
        steps = tuple((name, arguments) for name, arguments in held["steps"])
        return Order(held["guard"], held["setup"], steps)

    @property
    def line(self) -> str:
        """The order as a line of JSON."""
        return json.dumps({"guard": self.guard, "setup": self.setup, "steps": self.steps})

    def play(self, machine: type[ReplyMachine]) -> None:
        """Raises what is wrong."""
        state = machine()
        try:
            state.begin(**self.setup, absent=set())
            for name, arguments in self.steps:
                if _ACTIONS[name].is_possible(state):
                    getattr(state, name)(**arguments)
                    state.rows_are_as_the_model_says()
            state.settle()
        finally:
            state.close()

    def shortened(self, machine: type[ReplyMachine]) -> Order:
        """The order without the steps that its failure does not need."""
        kept, size = self, max(len(self.steps) // 2, 1)
        while True:
            start = 0
            while start < len(kept.steps):
                steps = kept.steps[:start] + kept.steps[start + size :]
                fewer = replace(kept, steps=steps)
                if fewer.fails(machine):
                    kept = fewer
                else:
                    start += size
            if size == 1:
                return kept
            size = max(size // 2, 1)

    def fails(self, machine: type[ReplyMachine]) -> bool:
        """Whether something is wrong."""
        try:
            self.play(machine)
        except Exception:
            return True
        return False


def load() -> list[Order]:
    """The orders that are kept."""
    return [Order.of(line) for line in FILE.read_text().splitlines()]


def keep(orders: list[Order]) -> None:
    """Keeps these orders, and no others."""
    FILE.write_text("".join(f"{order.line}\n" for order in orders))

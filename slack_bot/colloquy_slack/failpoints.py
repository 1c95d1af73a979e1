"""The steps of a message's way, between any two of which the process may die.

Tests kill it there. Elsewhere `nothing` is what a step does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

Step = Literal[
    "event received",
    "event stored",
    "message prepared",
    "reply accepted",
    "post intended",
    "posted",
    "post recorded",
    "edited",
    "text complete",
    "reply delivered",
]
STEPS: tuple[Step, ...] = get_args(Step)
Reached = Callable[[Step], None]


def nothing(_step: Step) -> None:
    """Do nothing."""

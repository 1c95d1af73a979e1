"""Failpoints: moments of a request's life after which tests kill the process.

Between any two of them the process may die, and a next one has to finish the request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

Failpoint = Literal[
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
FAILPOINTS: tuple[Failpoint, ...] = get_args(Failpoint)
FailpointHook = Callable[[Failpoint], None]


def no_failpoint(_reached: Failpoint) -> None:
    """The hook outside of tests."""

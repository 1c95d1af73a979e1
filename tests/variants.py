"""Variants of a test: the same on another kind of fleet, by another protocol, or of another case.

They come last, the cheap ones first, and are left out when the time for all is over: TEST_UNTIL, in
seconds since 1970, which `.ci/run` sets. Which variant is no repeat of the others is by chance, the
same each time. pytest says how many were left out.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterable
from pathlib import Path

import pytest

UNTIL = float(os.environ.get("TEST_UNTIL", "inf"))

_RANKS = ("unit", "integration", "stateful", "e2e", "browser")
"""The folders, by what a test in them costs."""

_HERE = Path(__file__).resolve().parent

_IS_REPEAT = pytest.StashKey[bool]()


def mark(items: Iterable[pytest.Item]) -> None:
    """Marks those that repeat others."""
    shown = set()
    for item in sorted(items, key=chance):
        test = item.nodeid.partition("[")[0]
        if test in shown:
            item.stash[_IS_REPEAT] = True
        shown.add(test)


def chance(item: pytest.Item) -> int:
    """A number that is the same each time."""
    return zlib.crc32(item.nodeid.encode())


def rank(item: pytest.Item) -> int:
    """How late a test comes: above 0 for those that repeat others."""
    if not item.stash.get(_IS_REPEAT, False):
        return 0
    return 1 + _RANKS.index(item.path.relative_to(_HERE).parts[0])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leaves a repeat out when there is no time."""
    if rank(item) and time.time() > UNTIL:
        pytest.skip("no time is left for more variants of what was shown")

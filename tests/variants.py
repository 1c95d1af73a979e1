"""What is left out where a machine is too slow for all tests: TEST_UNTIL, in seconds since 1970, is
when the time is over. `.ci/run` sets it, nothing else does.

Variants of a test, the same on another kind of fleet, by another protocol or of another case, come
last, the cheap ones first; which one of them is no repeat of the others is by chance, the same each
time. When the time is over, no more variants begin, and a minute later no other test. pytest says
how many were left out, and fails when that is three quarters of those other tests.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterable
from pathlib import Path

import pytest

UNTIL = float(os.environ.get("TEST_UNTIL", "inf"))

_GRACE = 60

_NO_VARIANTS = "no time is left for more variants of what was shown"
_NO_TIME = "no time is left: this machine is too slow for all tests"

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
    """Leaves a test out when there is no time for it."""
    if rank(item) and time.time() > UNTIL:
        pytest.skip(_NO_VARIANTS)
    if time.time() > UNTIL + _GRACE:
        pytest.skip(_NO_TIME)


class Count:
    """Counts, in the process that gathers what the others found."""

    def __init__(self) -> None:
        self._run = self._left_out = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._run += report.when == "call"
        self._left_out += report.skipped and _NO_TIME in str(report.longrepr)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._left_out > 3 * self._run:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

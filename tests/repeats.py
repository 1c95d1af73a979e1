"""Tests that show again, on another kind of fleet or by another protocol, what one has shown.

They come last, and are left out when the time for all is over: TEST_UNTIL, in seconds since 1970,
which `.ci/run` sets. Which kind comes first is by chance, the same each time, so that each is the
first for about as many tests. pytest says how many were left out.
"""

from __future__ import annotations

import os
import re
import time
import zlib
from collections.abc import Iterable

import pytest

from tests.http_channel import PROTOCOLS

UNTIL = float(os.environ.get("TEST_UNTIL", "inf"))

_KIND = re.compile(rf"(?<=[\[-])(sqlite|postgres)(-2)?( by ({'|'.join(PROTOCOLS)}))?(?=[-\]])")


def chance(item: pytest.Item) -> int:
    """A number that is the same each time."""
    return zlib.crc32(item.nodeid.encode())


def mark(items: Iterable[pytest.Item]) -> None:
    """Marks those that repeat others."""
    shown = set()
    for item in sorted(items, key=chance):
        what = _KIND.sub("*", item.nodeid)
        if what in shown:
            item.stash[_IS_REPEAT] = True
        shown.add(what)


def is_repeat(item: pytest.Item) -> bool:
    """Whether it repeats another one."""
    return item.stash.get(_IS_REPEAT, False)


_IS_REPEAT = pytest.StashKey[bool]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leaves a repeat out when there is no time."""
    if is_repeat(item) and time.time() > UNTIL:
        pytest.skip("no time is left to show it on other kinds of fleets")

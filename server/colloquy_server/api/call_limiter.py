"""How many calls are served at once, of everybody and of each who calls."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from colloquy_server.errors import Overloaded


class CallLimiter:
    """Counts the calls that are being served: no more than `most` in all, and `most_of_one` of one
    caller, so that nobody keeps the others out."""

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._count = 0
        self._counts: dict[Hashable, int] = {}

    @contextmanager
    def call(self, caller: Hashable) -> Iterator[None]:
        """Around a call of a caller. Raises Overloaded."""
        count = self._counts.get(caller, 0)
        if self._count >= self._most or count >= self._most_of_one:
            # Not all come back at once.
            raise Overloaded(random.uniform(0.5, 1.5))  # noqa: S311
        self._count += 1
        self._counts[caller] = count + 1
        try:
            yield
        finally:
            self._count -= 1
            count = self._counts[caller] - 1
            if count:
                self._counts[caller] = count
            else:
                del self._counts[caller]

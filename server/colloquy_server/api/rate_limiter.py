"""How often something may be done."""

from __future__ import annotations

import time


class RateLimiter:
    """A token bucket: `burst` times at once, and once more each 1/rate seconds.

    The `limits` library would start a thread to forget old entries; this is all that is needed.
    """

    __slots__ = ("_burst", "_level", "_rate", "_time")

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._level = self._burst
        self._time = time.monotonic()

    def acquire(self) -> float:
        """Takes one token; returns the seconds to wait for it when there is none."""
        now = time.monotonic()
        self._level = min(self._burst, self._level + (now - self._time) * self._rate)
        self._time = now
        if self._level < 1:
            return (1 - self._level) / self._rate
        self._level -= 1
        return 0.0

    def refund(self) -> None:
        """Gives a token back."""
        self._level = min(self._burst, self._level + 1)

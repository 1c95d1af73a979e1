"""The double's time: real, faster, or only moving when a test says so."""

from __future__ import annotations

import asyncio
import time


class Clock:
    """Real time."""

    def time(self) -> float:
        """Seconds since the epoch, as the double's Slack sees them."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait so many of the double's seconds."""
        await asyncio.sleep(seconds)


class ScaledClock(Clock):
    """Time that passes `factor` times as fast as it does outside."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self._began = time.time()
        self._mark = time.monotonic()

    def time(self) -> float:
        return self._began + (time.monotonic() - self._mark) * self.factor

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.factor)


class ManualClock(Clock):
    """Time that stands still until `advance`."""

    def __init__(self) -> None:
        self._now = time.time()
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def time(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.Event()
        sleeper = (self._now + seconds, woken)
        self._sleepers.append(sleeper)
        try:
            await woken.wait()
        finally:
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)

    async def advance(self, seconds: float) -> None:
        """Move time on, waking who slept until then, the earliest first."""
        end = self._now + seconds
        while due := [s for s in self._sleepers if s[0] <= end and not s[1].is_set()]:
            wake_at, woken = min(due, key=lambda sleeper: sleeper[0])
            self._now = max(self._now, wake_at)
            woken.set()
            # What wakes may go to sleep again within the time that is passing.
            for _ in range(10):
                await asyncio.sleep(0)
        self._now = end

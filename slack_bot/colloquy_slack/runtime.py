"""What every part of the bot runs on: the database, clocks, sleep and failpoints."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from colloquy_slack.database.engine import Database
from colloquy_slack.failpoints import FailpointHook, no_failpoint
from colloquy_slack.telemetry import Telemetry


@dataclass(frozen=True)
class Runtime:
    """Tests give their own clocks, sleep and failpoints."""

    db: Database
    clock: Callable[[], float] = time.monotonic
    """Seconds that never go back."""
    now: Callable[[], float] = time.time
    """Seconds since 1970."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    failpoint: FailpointHook = no_failpoint
    telemetry: Telemetry = field(default_factory=Telemetry)

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Wait for an event, for so long at most. Returns whether it came."""
        if seconds <= 0:
            return event.is_set()
        waiting = [
            asyncio.ensure_future(event.wait()),
            asyncio.ensure_future(self.sleep(seconds)),
        ]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
        return event.is_set()

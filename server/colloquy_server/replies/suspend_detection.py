"""Notices that this process did not run for a while: it was stopped, or the machine slept.

Its replies may have been cancelled over its head meanwhile. So it asks the database first, and
shows nothing until it knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from colloquy_server.clock import boottime

_INTERVAL = 0.1
_SUSPENDED = 0.4
"""Seconds without running after which a process must look whether it still owns its replies: less
than a cancel waits for an owner, before it ends a reply over the head of a process that sleeps."""


class SuspendDetector:
    """Whether this process has run ever since it claimed its first live reply."""

    def __init__(
        self,
        is_needed: Callable[[], object],
        verify: Callable[[], Awaitable[None]],
        on_verified: Callable[[], None],
    ) -> None:
        """`is_needed` says whether there is anything to watch over; `verify` finds out what became
        of it during a suspension; `on_verified` is called when that is known."""
        self._is_needed = is_needed
        self._verify = verify
        self._on_verified = on_verified
        self._seen_running_at = boottime()
        self._timer: asyncio.TimerHandle | None = None
        self._verification: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """There is something to watch over from now on."""
        if self._timer is None and self._verification is None:
            self._seen_running_at = boottime()
            self._note_running()

    def is_in_doubt(self) -> bool:
        """Whether what this process knows may be old."""
        if self._verification is None and boottime() - self._seen_running_at > _SUSPENDED:
            self._verification = asyncio.create_task(self._run_verification())
        return self._verification is not None

    def stop(self) -> None:
        """Watches no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _note_running(self) -> None:
        """Notes again and again that this process runs."""
        self._timer = None
        if self._is_needed() and not self.is_in_doubt():
            self._seen_running_at = boottime()
            self._timer = asyncio.get_running_loop().call_later(_INTERVAL, self._note_running)

    async def _run_verification(self) -> None:
        try:
            await self._verify()
        finally:
            self._verification = None
            self._seen_running_at = boottime()
            if self._timer is None:
                self._note_running()
            self._on_verified()

"""Times the waits for a provider's bytes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any


class Watchdog:
    """Times the waits for bytes with one timer that is seldom set anew.

    `asyncio.timeout` around every read would set and cancel a timer for each token; around all of
    them it would also time the consumer's work between two reads, and cancel it there.
    """

    def __init__(self, first_deadline: float, idle_timeout: float) -> None:
        """The first wait ends at `first_deadline` (in loop time), others after `idle_timeout`."""
        self._loop = asyncio.get_running_loop()
        self._idle_timeout = idle_timeout
        self._whole_idle_timeout = idle_timeout
        self._deadline = first_deadline
        self._is_first = True
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._waiting: asyncio.Task[Any] | None = None
        self._expired = False

    async def next(self, read: Callable[[], Awaitable[bytes]]) -> bytes:
        """What `read` gives, in time. Raises TimeoutError."""
        if self._is_first:
            self._is_first = False
        else:
            self._deadline = self._loop.time() + self._idle_timeout
        if self._deadline < self._timer_at:
            self.stop()
            self._set_timer()
        task = asyncio.current_task()
        assert task is not None
        cancelling = task.cancelling()
        self._waiting = task
        try:
            return await read()
        except asyncio.CancelledError:
            if self._expired and task.uncancel() <= cancelling:
                raise TimeoutError from None
            raise
        finally:
            self._waiting = None

    def shorten(self, idle_timeout: float) -> None:
        """Wait less from now on."""
        self._idle_timeout = min(self._idle_timeout, idle_timeout)

    def restore(self) -> None:
        """Wait as long as at first again."""
        self._idle_timeout = self._whole_idle_timeout

    def stop(self) -> None:
        """Forget the timer; the next wait sets it again."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._timer_at = math.inf

    def _set_timer(self) -> None:
        self._timer = self._loop.call_at(self._deadline, self._check)
        self._timer_at = self._deadline

    def _check(self) -> None:
        self.stop()
        if self._waiting is None:
            return  # the consumer is at work; the next wait sets the timer again
        if self._loop.time() >= self._deadline:
            self._expired = True
            self._waiting.cancel()
        else:
            self._set_timer()

"""Times the waits for a provider's bytes."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Callable
from typing import Any

_COMMENTS = 10
"""How many times its length a wait may last while nothing but comments comes: a provider that
sends them is alive, but it does not answer."""

_SAYS_NOTHING = re.compile(rb"(?::[^\r\n]*|[\r\n]+)*")


class TotalTimeout(TimeoutError):
    """The whole answer took too long."""


class Comments:
    """Tells packets of a stream that hold nothing but comments and blank lines, as proxies send to
    keep a connection open, from those that hold an event."""

    def __init__(self) -> None:
        self._at_line_start = True
        self._in_comment = False

    def alone(self, data: bytes) -> bool:
        """Whether the next packet holds nothing else."""
        if not data:
            return False
        goes_on, was_comment = not self._at_line_start, self._in_comment
        self._at_line_start = data[-1] in b"\r\n"
        self._in_comment = False
        if goes_on:
            if not was_comment:
                return False
            data = b":" + data
        if not self._at_line_start:
            last_line = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
            self._in_comment = data.startswith(b":", last_line)
        # Nearly every packet begins with a field, and is not looked through.
        return data[0] in b":\r\n" and _SAYS_NOTHING.fullmatch(data) is not None


class Watchdog:
    """Times the waits for bytes with one timer that is seldom set anew.

    `asyncio.timeout` around every read would set and cancel a timer for each token; around all of
    them it would also time the consumer's work between two reads, and cancel it there.
    """

    def __init__(
        self, started: float, first_timeout: float, idle_timeout: float, total_timeout: float
    ) -> None:
        """The wait for the first event began when the request was `started` (in loop time); it and
        the whole end so many seconds later, a wait between two events after `idle_timeout`."""
        self._loop = asyncio.get_running_loop()
        self._timeout = first_timeout
        self._idle_timeout = idle_timeout
        self._whole_idle_timeout = idle_timeout
        self._deadline = started + first_timeout
        self._patience = started + first_timeout * _COMMENTS
        self._end = started + total_timeout
        self._comments = Comments()
        self._is_first = True
        self._only_comments = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._waiting: asyncio.Task[Any] | None = None
        self._expired = False

    async def next(self, read: Callable[[], Awaitable[bytes]]) -> bytes:
        """What `read` gives, in time. Raises TimeoutError, and TotalTimeout."""
        now = self._loop.time()
        if now >= self._end:  # bytes that are always there let no timer come to its turn
            raise TotalTimeout
        if self._is_first:
            self._is_first = False
        else:
            if not self._only_comments:
                self._timeout = self._idle_timeout
                self._patience = now + self._timeout * _COMMENTS
            self._deadline = min(now + self._timeout, self._patience)
        self._deadline = min(self._deadline, self._end)
        if self._deadline < self._timer_at:
            self.stop()
            self._set_timer()
        task = asyncio.current_task()
        assert task is not None
        cancelling = task.cancelling()
        self._waiting = task
        try:
            data = await read()
        except asyncio.CancelledError:
            if self._expired and task.uncancel() <= cancelling:
                raise TotalTimeout if self._deadline >= self._end else TimeoutError from None
            raise
        finally:
            self._waiting = None
        self._only_comments = self._comments.alone(data)
        return data

    def shorten(self, idle_timeout: float) -> None:
        """Wait less from now on."""
        self._idle_timeout = min(self._idle_timeout, idle_timeout)
        self._timeout = min(self._timeout, idle_timeout)

    def restore(self) -> None:
        """Wait as long as at first again."""
        self._timeout = self._idle_timeout = self._whole_idle_timeout

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

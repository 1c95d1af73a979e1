"""When to try again: the same rules for calls and for streams, without a clock of its own."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from colloquy.errors import (
    ColloquyError,
    DeadlineExceeded,
    OutOfOrder,
    ResourceExhausted,
    ServerError,
)

# The first backoff is short, because a server that restarts or a replica that takes over is mostly
# there at once; the longest bounds how late a client notices that the server is back.
_FIRST_BACKOFF = 0.1
_MAX_BACKOFF = 5.0
# An error inside the server may be a passing one. One that comes so many times in a row is not.
_MAX_SERVER_ERRORS = 5

# How long a call may take, its repetitions included, and how long a server that cannot be reached
# is borne when nothing was accepted: a crashed one is back within 10 s.
DEFAULT_TIMEOUT = 20.0
DEFAULT_PATIENCE = 10.0


@dataclass(frozen=True)
class Timing:
    """What the waiting depends on; tests give their own."""

    clock: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random


class Retry:
    """Decides after each failure how long to wait, or that it is no use."""

    def __init__(
        self,
        *,
        patience: float,
        timeout: float | None = None,
        timing: Timing = Timing(),
    ) -> None:
        """Begin now.

        `patience` is how many seconds of failures in a row are borne; `timeout` is how long all of
        it may take, None for any time.
        """
        self._patience = patience
        self._persistent = False
        self._timing = timing
        self._deadline = None if timeout is None else timing.clock() + timeout
        self._failures = 0
        self._server_errors = 0
        self._failing_since: float | None = None

    @property
    def remaining(self) -> float | None:
        """Seconds left of the timeout, never negative; None without one."""
        if self._deadline is None:
            return None
        return max(0.0, self._deadline - self._timing.clock())

    def persist(self) -> None:
        """From now on bear any number of seconds, and a few errors inside the server."""
        self._persistent = True

    def reset(self) -> None:
        """Something came of it: the next failure is the first again."""
        self._failures = self._server_errors = 0
        self._failing_since = None

    def backoff(self, error: ColloquyError) -> float:
        """Return the seconds to wait before the next try. Raises `error` when it is no use."""
        if not self._may_pass(error):
            raise error
        now = self._timing.clock()
        self._failing_since = now if self._failing_since is None else self._failing_since
        # Full jitter: clients that lost the same server do not come back in step.
        longest = min(_MAX_BACKOFF, _FIRST_BACKOFF * 2.0 ** min(self._failures, 16))
        wait = max(self._timing.random() * longest, error.retry_after or 0.0)
        self._failures += 1
        if not self._persistent and now + wait > self._failing_since + self._patience:
            raise error
        if self._deadline is not None and now + wait > self._deadline:
            raise DeadlineExceeded(f"no answer in time; the last error: {error.message}") from error
        return wait

    def _may_pass(self, error: ColloquyError) -> bool:
        if isinstance(error, ServerError | OutOfOrder):
            self._server_errors += 1
            return self._persistent and self._server_errors <= _MAX_SERVER_ERRORS
        if isinstance(error, ResourceExhausted):
            return error.retry_after is not None
        return error.transient

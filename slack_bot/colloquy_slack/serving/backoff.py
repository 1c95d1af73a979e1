"""How failures of the server are retried, and what people see meanwhile."""

from __future__ import annotations

from colloquy import ColloquyError
from colloquy.errors import DeadlineExceeded, ResourceExhausted, ServerError

from colloquy_slack.outgoing.reply_view import Phase

MAX_SERVER_ERRORS = 5
"""An error inside the server may be a passing one. One that comes more often in a row is not."""

BUDGET_EXCEEDED = "BUDGET_EXCEEDED"
"""The reason of a refusal that says when it ends, and that lasts days."""

_FIRST_DELAY = 0.5
_MAX_DELAY = 10.0
"""Seconds between two tries to reach the server."""


class Backoff:
    """Decides after each failure in a row when to try again."""

    def __init__(self) -> None:
        self._failures = 0
        self._server_errors = 0

    def next_delay(self, error: ColloquyError) -> float | None:
        """Return the seconds to wait before the next try, None when it is no use."""
        is_servers = isinstance(error, ServerError)
        self._server_errors = self._server_errors + 1 if is_servers else 0
        if not (is_transient(error) or 0 < self._server_errors <= MAX_SERVER_ERRORS):
            return None
        delay = max(error.retry_after or 0, _FIRST_DELAY * 2.0 ** min(self._failures, 10))
        self._failures += 1
        return min(delay, _MAX_DELAY)


def is_transient(error: ColloquyError) -> bool:
    """Whether an error is about the moment: what the request itself is guilty of does not pass,
    and a budget starts anew when nobody waits any more."""
    if isinstance(error, ResourceExhausted):
        return error.retry_after is not None and error.reason != BUDGET_EXCEEDED
    return error.transient or isinstance(error, DeadlineExceeded)


def phase_during(error: ColloquyError) -> Phase:
    """Return what people see until the next try."""
    if isinstance(error, ResourceExhausted):
        return Phase.WAITING
    return Phase.THINKING if isinstance(error, ServerError) else Phase.OFFLINE

"""How long failures of the server are borne, and what people are told meanwhile."""

from __future__ import annotations

from colloquy import ColloquyError
from colloquy.errors import DeadlineExceeded, ResourceExhausted, ServerError

from colloquy_slack.outgoing.rendering import Phase

SERVER_ERRORS = 5
"""An error inside the server may be a passing one. One that comes more often in a row is not."""

_FIRST_WAIT = 0.5
_LONGEST_WAIT = 10.0
"""Seconds between two tries to reach the server."""


class Patience:
    """Decides after each failure in a row when to try again."""

    def __init__(self) -> None:
        self._failures = 0
        self._server_errors = 0

    def wait_after(self, error: ColloquyError) -> float | None:
        """Return the seconds to wait before the next try, None when it is no use."""
        is_servers = isinstance(error, ServerError)
        self._server_errors = self._server_errors + 1 if is_servers else 0
        if not (passes(error) or 0 < self._server_errors <= SERVER_ERRORS):
            return None
        wait = max(error.retry_after or 0, _FIRST_WAIT * 2.0 ** min(self._failures, 10))
        self._failures += 1
        return min(wait, _LONGEST_WAIT)


def passes(error: ColloquyError) -> bool:
    """Whether an error is about the moment: what the request itself is guilty of does not pass."""
    if isinstance(error, ResourceExhausted):
        return error.retry_after is not None
    return error.transient or isinstance(error, DeadlineExceeded)


def phase_while(error: ColloquyError) -> Phase:
    """Return what people see until the next try."""
    if isinstance(error, ResourceExhausted):
        return Phase.WAITING
    return Phase.THINKING if isinstance(error, ServerError) else Phase.OFFLINE

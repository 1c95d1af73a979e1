"""Calls of Slack's Web API, with its answers as exceptions that say what to do.

SlackProblem
 ├── RateLimited   it was not done; `retry_after` says when to come back
 ├── Refused       it was not done and will not be; `error` is Slack's word for why
 ├── NotLetIn      it was not done: the token is not, or no longer, taken
 └── InDoubt       it may or may not have been done: the connection broke, Slack stumbled
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

import aiohttp
import structlog
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web.async_client import AsyncWebClient

log = structlog.get_logger()

TIMEOUT = 30.0
"""Seconds that a call may take."""

# Slack's own troubles, given as errors with status 200.
_STUMBLES = {"internal_error", "fatal_error", "service_unavailable", "request_timeout"}
# The workspace or channel is being moved: nothing is done there until that is over.
_MOVING = {"team_added_to_org", "external_channel_migrating"}
_MOVING_FOR = 5.0
_TOKEN_ERRORS = {
    *("account_inactive", "ekm_access_denied", "enterprise_is_restricted", "invalid_auth"),
    *("not_authed", "org_login_required", "token_expired", "token_revoked"),
}
_SHORTEST_WAIT = 0.1
_LONGEST_WAIT = 30.0
"""Seconds between two tries."""


class SlackProblem(Exception):
    """A call of Slack did not go well."""


class RateLimited(SlackProblem):
    """Too many calls, or Slack is busy with the place. Nothing was done."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"not before {retry_after:.0f} s have passed")
        self.retry_after = retry_after


class Refused(SlackProblem):
    """Slack refuses the call. Nothing was done."""

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


class NotLetIn(SlackProblem):
    """Slack does not take the token. Nothing was done; with another token it may be."""


class InDoubt(SlackProblem):
    """Nobody knows whether it was done."""


class SlackApi:
    """The Web API with one workspace's token. It never repeats a call by itself."""

    def __init__(self, client: AsyncWebClient, sleep: Callable[[float], Awaitable[None]]) -> None:
        """`client` must have no retry handlers: a post that is repeated blindly comes twice."""
        self.client = client
        self._sleep = sleep

    async def call(self, method: str, /, **arguments: Any) -> dict[str, Any]:
        """Call a method that takes JSON. Raises SlackProblem."""
        return await self._run(method, json=_given(arguments))

    async def read(self, method: str, /, **arguments: Any) -> dict[str, Any]:
        """Call a method that takes a form: those that read, mostly. Raises SlackProblem."""
        return await self._run(method, data=_given(arguments))

    async def call_patiently(
        self, method: str, /, patience: float = inf, **arguments: Any
    ) -> dict[str, Any]:
        """Call what may be done twice, through limits and outages.

        Raises Refused and NotLetIn, and what went wrong last when it would have to wait for more
        than `patience` seconds in all.
        """
        return await self._patiently(self.call, method, patience, arguments)

    async def read_patiently(
        self, method: str, /, patience: float = inf, **arguments: Any
    ) -> dict[str, Any]:
        """Read through limits and outages. Raises as `call_patiently` does."""
        return await self._patiently(self.read, method, patience, arguments)

    async def _patiently(
        self,
        run: Callable[..., Awaitable[dict[str, Any]]],
        method: str,
        patience: float,
        arguments: dict[str, Any],
    ) -> dict[str, Any]:
        failures, waited = 0, 0.0
        while True:
            try:
                return await run(method, **arguments)
            except (RateLimited, InDoubt) as problem:
                failures += 1
                wait = min(_LONGEST_WAIT, 0.5 * 2.0 ** min(failures, 10))
                if isinstance(problem, RateLimited):
                    wait = max(problem.retry_after, _SHORTEST_WAIT)
                waited += wait
                if waited > patience:
                    raise
                log.info("Slack is asked again", problem=str(problem), failures=failures)
            await self._sleep(wait)

    async def _run(self, method: str, **how: Any) -> dict[str, Any]:
        try:
            response = await self.client.api_call(method, **how)
        except SlackApiError as error:
            raise _problem(error) from None
        except (TimeoutError, aiohttp.ClientError, SlackClientError, OSError) as error:
            raise InDoubt(f"{method}: {type(error).__name__}") from None
        data = response.data
        return data if isinstance(data, dict) else {}


def _given(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def _problem(error: SlackApiError) -> SlackProblem:
    response = error.response
    status = getattr(response, "status_code", 0)
    if status == 429:
        return RateLimited(_seconds(response.headers.get("Retry-After")))
    data = getattr(response, "data", None)
    name = str(data.get("error") or "") if isinstance(data, dict) else ""
    if name in {"ratelimited", "rate_limited"}:
        return RateLimited(_seconds(response.headers.get("Retry-After")))
    if name in _MOVING:
        return RateLimited(_MOVING_FOR)
    if name in _TOKEN_ERRORS:
        return NotLetIn(name)
    if not name or name in _STUMBLES or status >= 500:
        return InDoubt(name or f"status {status}")
    return Refused(name)


def _seconds(value: Any) -> float:
    """Return what Retry-After says; without it, what Slack mostly says."""
    if isinstance(value, list):
        value = value[0] if value else None
    try:
        return max(0.0, float(value))
    except (TypeError, ValueError):
        return 30.0

"""Calls of Slack's Web API, with its answers as exceptions that say what to do.

SlackError
 ├── RateLimited     it was not done; `retry_after` says when to come back
 ├── Refused         it was not done and will not be; `error` is Slack's word for why
 ├── TokenRejected   it was not done: the token is not, or no longer, taken
 └── InDoubt         it may or may not have been done: the connection broke, Slack stumbled
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

import aiohttp
import structlog
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web.async_client import AsyncWebClient

from colloquy_slack.telemetry import Telemetry

log = structlog.get_logger()

TIMEOUT = 30.0
"""Seconds that a call may take."""

# Slack's own troubles, given as errors with status 200.
_SERVER_ERRORS = {"internal_error", "fatal_error", "service_unavailable", "request_timeout"}
# The workspace or channel is being moved: nothing is done there until that is over.
_MIGRATING = {"team_added_to_org", "external_channel_migrating"}
_MIGRATION_DELAY = 5.0
_TOKEN_ERRORS = {
    *("account_inactive", "ekm_access_denied", "enterprise_is_restricted", "invalid_auth"),
    *("not_authed", "org_login_required", "token_expired", "token_revoked"),
}
_MIN_DELAY = 0.1
_MAX_DELAY = 30.0
"""Seconds between two tries."""


class SlackError(Exception):
    """A call of Slack failed."""


class RateLimited(SlackError):
    """Too many calls, or Slack is busy with the place. Nothing was done."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"not before {retry_after:.0f} s have passed")
        self.retry_after = retry_after


class Refused(SlackError):
    """Slack refuses the call. Nothing was done."""

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


class TokenRejected(SlackError):
    """Slack does not take the token. Nothing was done; with another token it may be."""


class InDoubt(SlackError):
    """Nobody knows whether it was done."""


_NAMES: dict[type[SlackError], str] = {
    RateLimited: "rate_limited",
    Refused: "refused",
    TokenRejected: "token_rejected",
    InDoubt: "in_doubt",
}
"""What metrics call them."""


class SlackApi:
    """The Web API with one workspace's token. It never repeats a call by itself."""

    def __init__(
        self,
        client: AsyncWebClient,
        sleep: Callable[[float], Awaitable[None]],
        telemetry: Telemetry | None = None,
    ) -> None:
        """`client` must have no retry handlers: a post that is repeated blindly comes twice."""
        self.client = client
        self.scopes: frozenset[str] = frozenset()
        """What the token may do, as Slack said the last time; empty while it did not."""
        self._sleep = sleep
        self._telemetry = telemetry or Telemetry()

    async def call(self, method: str, /, **arguments: Any) -> dict[str, Any]:
        """Call a method that takes JSON. Raises SlackError."""
        return await self._run(method, json=_without_none(arguments))

    async def read(self, method: str, /, **arguments: Any) -> dict[str, Any]:
        """Call a method that takes a form: those that read, mostly. Raises SlackError."""
        return await self._run(method, data=_without_none(arguments))

    async def call_with_retries(
        self, method: str, /, max_wait: float = inf, **arguments: Any
    ) -> dict[str, Any]:
        """Call what may be done twice, through limits and outages.

        Raises Refused and TokenRejected, and what went wrong last when it would have to wait for
        more than `max_wait` seconds in all.
        """
        return await self._with_retries(self.call, method, max_wait, arguments)

    async def read_with_retries(
        self, method: str, /, max_wait: float = inf, **arguments: Any
    ) -> dict[str, Any]:
        """Read through limits and outages. Raises as `call_with_retries` does."""
        return await self._with_retries(self.read, method, max_wait, arguments)

    async def _with_retries(
        self,
        run: Callable[..., Awaitable[dict[str, Any]]],
        method: str,
        max_wait: float,
        arguments: dict[str, Any],
    ) -> dict[str, Any]:
        failures, waited = 0, 0.0
        while True:
            try:
                return await run(method, **arguments)
            except (RateLimited, InDoubt) as error:
                failures += 1
                wait = min(_MAX_DELAY, 0.5 * 2.0 ** min(failures, 10))
                if isinstance(error, RateLimited):
                    wait = max(error.retry_after, _MIN_DELAY)
                waited += wait
                if waited > max_wait:
                    raise
                log.info("Slack call retried", error=str(error), failures=failures)
            await self._sleep(wait)

    async def _run(self, method: str, **how: Any) -> dict[str, Any]:
        started, error = time.monotonic(), ""
        try:
            return await self._ask(method, **how)
        except SlackError as failed:
            error = _NAMES[type(failed)]
            if isinstance(failed, RateLimited):
                self._telemetry.rate_limited(method, failed.retry_after)
            raise
        finally:
            self._telemetry.called(method, time.monotonic() - started, error)

    async def _ask(self, method: str, **how: Any) -> dict[str, Any]:
        try:
            response = await self.client.api_call(method, **how)
        except SlackApiError as error:
            raise _error_of(error) from None
        except (TimeoutError, aiohttp.ClientError, SlackClientError, OSError) as error:
            raise InDoubt(f"{method}: {type(error).__name__}") from None
        granted = response.headers.get("x-oauth-scopes")
        if granted:
            self.scopes = frozenset(granted.replace(" ", "").split(","))
        data = response.data
        return data if isinstance(data, dict) else {}


def _without_none(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def _error_of(error: SlackApiError) -> SlackError:
    response = error.response
    status = getattr(response, "status_code", 0)
    if status == 429:
        return RateLimited(_seconds(response.headers.get("Retry-After")))
    data = getattr(response, "data", None)
    name = str(data.get("error") or "") if isinstance(data, dict) else ""
    if name in {"ratelimited", "rate_limited"}:
        return RateLimited(_seconds(response.headers.get("Retry-After")))
    if name in _MIGRATING:
        return RateLimited(_MIGRATION_DELAY)
    if name in _TOKEN_ERRORS:
        return TokenRejected(name)
    if not name or name in _SERVER_ERRORS or status >= 500:
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

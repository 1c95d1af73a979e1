"""What callers show of themselves, once it was looked up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from colloquy_server.api.callers import Principal
from colloquy_server.api.rate_limiter import RateLimiter
from colloquy_server.errors import Unauthenticated

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class IdentifiedCaller:
    """Whose a token of the identity provider is."""

    principal: Principal
    expire_time: float
    """Seconds since 1970, with the skew of clocks."""
    rate_limiter: RateLimiter
    """The one of the user, for all tokens that it has."""


class Tokens(Protocol):
    """Knows the tokens of an identity provider; see identity_access.py."""

    def now(self) -> float:
        """Seconds since 1970."""
        ...

    def takes(self, secret: str) -> bool:
        """Whether a bearer is a token, be it good or bad."""
        ...

    async def identify(self, token: str, digest: str) -> IdentifiedCaller:
        """Who calls with a token. Raises Unauthenticated, PermissionDenied and Unavailable."""
        ...


@dataclass(slots=True)
class Credential:
    """A key, a token or a session that was looked up: good until `until` (monotonic seconds), then
    looked up again. A token's `expire_time` is in seconds since 1970."""

    principal: Principal
    until: float
    rate_limiter: RateLimiter
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    """Those that are cancelled when it ends."""
    has_ended: bool = False
    expire_time: float | None = None

    async def while_good(self, do: Callable[[], Awaitable[T]]) -> T:
        """Does what may last, in the running task. Raises Unauthenticated when this ends first."""
        if self.has_ended:  # so nobody would end what begins now
            raise self._ended()
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            result = await do()
            if self.has_ended:  # its cancellation is still to come
                await asyncio.sleep(0)
            return result
        except (Exception, asyncio.CancelledError):  # a write raises what it likes
            if not self.has_ended or task.uncancel():
                raise
            raise self._ended() from None
        finally:
            self.tasks.discard(task)

    def _ended(self) -> Unauthenticated:
        what = "session" if self.principal.session_id else "API key or token"
        return Unauthenticated(f"This {what} has ended.")

    def end(self) -> None:
        """Ends what is done with it."""
        self.has_ended = True
        for task in self.tasks:
            task.cancel()

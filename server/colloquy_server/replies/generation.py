"""One reply being written: the requests to its provider, and the text that comes of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from colloquy_server.database.models import Message, State
from colloquy_server.database.repository.leases import Outcome
from colloquy_server.providers.catalog import Model
from colloquy_server.providers.client import ProviderError, Providers, TokenUsage
from colloquy_server.replies.mirrors import LiveText

MAX_REPLY_BYTES = 1 << 20
"""Where a reply ends, in bytes of UTF-8."""

MAX_RETRY_AFTER = 60.0
"""Seconds of a provider's Retry-After that are waited for."""


@dataclass(slots=True, eq=False)
class LiveReply(LiveText):
    """A reply that this process owns. `text` is what watchers may see, `pending` what came since.

    `deadline` is the time, by this process's own clock, at which its lease is over unless it was
    renewed: from then on it must not write or send anything.
    """

    conversation_id: str
    account_id: str
    model: str
    epoch: int
    deadline: float
    is_first_request: bool
    """Whether no provider was asked yet: the first text then needs no new attempt."""
    pending: list[str] = field(default_factory=list)
    size: int = 0
    """Bytes of UTF-8 that came in this attempt."""
    saved: int = 0
    """Code points of this attempt that are stored."""
    finish_reason: str = ""
    usage: TokenUsage | None = None
    """What the provider counted for the last request, as it knows it in the end."""
    receipt: str = ""
    """What the model was given, as it is stored in the end."""
    told: int = 0
    """Code points that other processes were told of over the bus."""
    wanted_until: float = 0.0
    """Until when, in loop time, other processes want to be told."""
    is_cancelled: bool = False
    is_lost: bool = False
    generation: asyncio.Task[Outcome] | None = None
    task: asyncio.Task[None] | None = None

    @staticmethod
    def of(row: Message, deadline: float, *, is_new: bool) -> LiveReply:
        """The reply of a row that this process has just come to own."""
        return LiveReply(
            message_id=row.id,
            attempt=row.attempt,
            text=row.content,
            conversation_id=row.conversation_id,
            account_id=row.account_id,
            model=row.model,
            epoch=row.epoch,
            deadline=deadline,
            is_first_request=is_new,
            saved=len(row.content),
        )

    def whole_text(self) -> str:
        """All text that came."""
        return self.text + "".join(self.pending)

    def publish(self) -> None:
        """Lets watchers see all text that came."""
        self.text = self.whole_text()
        self.pending.clear()

    def begin(self, attempt: int, text: str) -> None:
        """Replaces the last attempt's text by the first text of a new one."""
        self.attempt = attempt
        self.text = text
        self.pending.clear()
        self.size = len(text.encode())
        self.saved = self.told = len(text)


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a provider is asked, and how long to wait in between: `base` seconds times the
    square of the number of failures, give or take a half."""

    attempts: int
    base: float

    def delay(self, failures: int, retry_after: float | None) -> float:
        """Seconds to wait after this many failures."""
        own = self.base * failures**2 * random.uniform(0.5, 1.5)  # noqa: S311 - only jitter
        return max(own, min(retry_after or 0.0, MAX_RETRY_AFTER))


class Writer:
    """Asks the provider of one reply until it is finished or given up."""

    def __init__(
        self,
        providers: Providers,
        retries: Retries,
        *,
        on_attempt: Callable[[LiveReply, str], Awaitable[None]],
        on_text: Callable[[LiveReply, str], None],
        on_retry: Callable[[LiveReply, ProviderError, float], None],
    ) -> None:
        """`on_attempt` stores that a new attempt came to its first text, `on_text` takes what
        follows, `on_retry` hears of a failure and the seconds until the next request."""
        self._providers = providers
        self._retries = retries
        self._on_attempt = on_attempt
        self._on_text = on_text
        self._on_retry = on_retry

    async def write(
        self,
        reply: LiveReply,
        model: Model,
        messages: list[dict[str, Any]],
        instead: Callable[[ProviderError], Awaitable[list[dict[str, Any]] | None]],
    ) -> Outcome:
        """Writes the reply. Provider trouble becomes an Outcome too.

        When the provider does not take the messages, `instead` is asked once for others; it returns
        None when there are none to be tried.
        """
        failures = 0
        may_change = True
        while True:
            try:
                return await self._ask(reply, model, messages)
            except ProviderError as error:
                if error.is_about_content and may_change:
                    may_change = False
                    others = await instead(error)
                    if others is not None:
                        messages = others
                        continue
                failures += 1
                if not error.retryable or failures >= self._retries.attempts:
                    return _ended(reply, model, error)
                delay = self._retries.delay(failures, error.retry_after)
                self._on_retry(reply, error, delay)
            await asyncio.sleep(delay)

    async def _ask(self, reply: LiveReply, model: Model, messages: list[dict[str, Any]]) -> Outcome:
        continues = reply.is_first_request
        reply.is_first_request = False
        reply.finish_reason = ""
        reply.usage = None
        async with self._providers.open(model, messages) as stream:
            try:
                async for piece in stream:
                    text = fit(piece, MAX_REPLY_BYTES - (reply.size if continues else 0))
                    if continues:
                        self._on_text(reply, text)
                    else:
                        await self._on_attempt(reply, text)
                        continues = True
                    if len(text) < len(piece):
                        reply.finish_reason = "length"
                        break
            finally:
                reply.finish_reason = reply.finish_reason or stream.finish_reason or ""
                reply.usage = stream.usage
        if not continues:  # an empty answer: the text of the attempt before does not stand
            await self._on_attempt(reply, "")
        return _ended(reply, model)


def fit(text: str, room: int) -> str:
    """The longest beginning of a text that takes no more than `room` bytes of UTF-8."""
    data = text.encode()
    return text if len(data) <= room else data[: max(room, 0)].decode(errors="ignore")


def _ended(reply: LiveReply, model: Model, error: ProviderError | None = None) -> Outcome:
    usage = reply.usage
    return Outcome(
        State.FAILED if error else State.COMPLETED,
        reply.whole_text(),
        finish_reason=reply.finish_reason,
        error_reason=error.reason if error else "",
        error_message=error.message if error else "",
        input_tokens=usage.input_tokens if usage else None,
        output_tokens=usage.output_tokens if usage else None,
        cost_usd=model.cost_usd(usage.input_tokens, usage.output_tokens) if usage else None,
    )

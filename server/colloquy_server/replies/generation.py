"""Generates one reply: the requests to its provider, with retries, and the text that comes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from colloquy_server.database.models import State
from colloquy_server.database.repository.leases import Outcome
from colloquy_server.database.repository.usage import estimate
from colloquy_server.providers.catalog import Model
from colloquy_server.providers.client import ProviderError, Providers
from colloquy_server.replies.live_reply import LiveReply
from colloquy_server.replies.prices import priced

MAX_REPLY_BYTES = 1 << 20
"""Where a reply ends, in bytes of UTF-8."""

MAX_RETRY_AFTER = 60.0
"""Seconds of a provider's Retry-After that are waited for."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a provider is asked, and how long to wait in between: `base` seconds times the
    square of the number of failures, give or take a half."""

    attempts: int
    base: float

    def backoff(self, failures: int, retry_after: float | None) -> float:
        """Seconds to wait after this many failures."""
        own = self.base * failures**2 * random.uniform(0.5, 1.5)  # noqa: S311 - only jitter
        return max(own, min(retry_after or 0.0, MAX_RETRY_AFTER))


class Generator:
    """Asks the provider of one reply until it is finished or given up."""

    def __init__(
        self,
        providers: Providers,
        retries: RetryPolicy,
        *,
        on_attempt: Callable[[LiveReply, str], Awaitable[None]],
        on_text: Callable[[LiveReply, str], None],
        on_failure: Callable[[LiveReply, ProviderError, float | None], None],
    ) -> None:
        """`on_attempt` stores that a new attempt came to its first text, `on_text` takes what
        follows, `on_failure` hears of each failure and the seconds until the next request, None
        when there is none."""
        self._providers = providers
        self._retries = retries
        self._on_attempt = on_attempt
        self._on_text = on_text
        self._on_failure = on_failure

    async def generate(
        self,
        reply: LiveReply,
        model: Model,
        messages: bytes,
        reduce: Callable[[ProviderError], Awaitable[bytes | None]],
    ) -> Outcome:
        """Generates the reply by this model; `messages` is a JSON array. Raises ProviderError when
        the model is given up.

        When the provider does not take the messages, `reduce` is asked once for others; it returns
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
                    others = await reduce(error)
                    if others is not None:
                        self._on_failure(reply, error, 0.0)
                        messages = others
                        continue
                failures += 1
                if not error.retryable or failures >= self._retries.attempts:
                    self._on_failure(reply, error, None)
                    raise
                delay = self._retries.backoff(failures, error.retry_after)
                self._on_failure(reply, error, delay)
            await asyncio.sleep(delay)

    async def _ask(self, reply: LiveReply, model: Model, messages: bytes) -> Outcome:
        continues = reply.is_first_request
        reply.is_first_request = False
        reply.finish_reason = ""
        reply.usage = None
        answer = _Answer()
        try:
            await self._take(reply, model, messages, answer, continues=continues)
        except ProviderError as error:
            answer.may_cost = answer.may_cost and _may_cost(error, answer)
            raise
        finally:
            if reply.usage is None and answer.may_cost:
                asked = reply.asked.given.estimated_tokens if reply.asked else 0
                reply.owe(priced(model, estimate(model.id, asked, "".join(answer.pieces))))
        return outcome_of(reply, State.COMPLETED)

    async def _take(
        self, reply: LiveReply, model: Model, messages: bytes, answer: _Answer, *, continues: bool
    ) -> None:
        """Takes an answer in."""
        async with self._providers.open(model, messages) as stream:
            answer.has_begun = True
            try:
                async for piece in stream:
                    answer.pieces.append(piece)
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
                if (usage := stream.usage) is not None:
                    reply.spend(model, usage)


@dataclass(slots=True)
class _Answer:
    """What came of an answer: its text, and whether the provider began one. An estimate stands for
    what one `may_cost` of which no usage is told."""

    pieces: list[str] = field(default_factory=list)
    has_begun: bool = False
    may_cost: bool = True


def _may_cost(error: ProviderError, answer: _Answer) -> bool:
    """Whether a request that failed may cost all the same: one that is refused does not."""
    if answer.pieces or error.is_blank:
        return True
    is_refused = error.status is not None or bool(error.codes)
    is_cut = answer.has_begun and error.reason == "PROVIDER_UNAVAILABLE"
    return not is_refused and (is_cut or error.reason == "PROVIDER_TIMEOUT")


def fit(text: str, room: int) -> str:
    """The longest beginning of a text that takes no more than `room` bytes of UTF-8."""
    data = text.encode()
    return text if len(data) <= room else data[: max(room, 0)].decode(errors="ignore")


def outcome_of(reply: LiveReply, state: State, reason: str = "", message: str = "") -> Outcome:
    """How a reply ended, with what it has of text and has cost; `reason` and `message` say why it
    failed."""
    spent = reply.spent
    return Outcome(
        state,
        reply.whole_text(),
        finish_reason=reply.finish_reason,
        error_reason=reason,
        error_message=message,
        input_tokens=spent.input_tokens if spent else None,
        output_tokens=spent.output_tokens if spent else None,
        cost_usd=reply.cost_usd if spent else None,
        spent=tuple(reply.unbooked.values()),
    )

"""Which model writes a reply: the one that was asked for or, where that cannot, one of its
fallbacks."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import structlog

from colloquy_server.context.builder import ContextBuilder
from colloquy_server.database.models import State
from colloquy_server.database.repository import accounting
from colloquy_server.database.repository.history import History
from colloquy_server.database.repository.leases import Outcome
from colloquy_server.database.transactions import Database
from colloquy_server.providers.catalog import Model, ModelError
from colloquy_server.providers.client import ProviderError
from colloquy_server.providers.discovery import Discovery
from colloquy_server.replies.generation import Generator, outcome_of
from colloquy_server.replies.live_reply import LiveReply
from colloquy_server.replies.ownership import Ownership
from colloquy_server.replies.prices import expected_of

log = structlog.get_logger()

_ANOTHER_MAY = frozenset(
    {
        "PROVIDER_UNAVAILABLE",
        "PROVIDER_TIMEOUT",
        "PROVIDER_RATE_LIMITED",
        # The operator's trouble with one provider, of which who asks knows nothing.
        "PROVIDER_AUTHENTICATION",
        "PROVIDER_QUOTA",
    }
)
"""Reasons for which a model fails that another one may not have. What was refused for what it says
is not taken to the next."""


class _Failure(NamedTuple):
    """Why a model wrote no whole reply, as an Outcome says it."""

    model: str
    reason: str
    message: str


class Fallbacks:
    """Has replies generated, by the first model that can."""

    def __init__(
        self,
        db: Database,
        discovery: Discovery,
        contexts: ContextBuilder,
        ownership: Ownership,
        generator: Generator,
    ) -> None:
        self._db = db
        self._discovery = discovery
        self._contexts = contexts
        self._while_owner = ownership.while_owner
        self._generator = generator

    async def generate(self, reply: LiveReply, history: History | None) -> Outcome:
        """Generates a reply; provider trouble becomes an Outcome too. `history` is what the model
        that was asked for may know, if that was read already. Raises Fenced.

        Where all fail, the first one's failure is the reply's.
        """
        failures: list[_Failure] = []
        for model_id in self._in_order(reply):
            try:
                model = await self._discovery.resolve(model_id)
            except ModelError as error:
                if not failures:
                    failures.append(_Failure(model_id, error.reason, error.fields["model"]))
                continue
            try:
                outcome = await self._ask(
                    reply, model, None if failures else history, is_fallback=bool(failures)
                )
            except ProviderError as error:
                # A fallback that refuses what the first one took is not the last word.
                goes_on = error.reason in _ANOTHER_MAY or (
                    bool(failures) and error.reason == "PROVIDER_REJECTED"
                )
                failures.append(_Failure(model_id, error.reason, error.message))
                if not goes_on:
                    break
            else:
                if outcome is not None:
                    return outcome
        first = failures[0]
        return outcome_of(reply, State.FAILED, first.reason, _told(failures))

    def _in_order(self, reply: LiveReply) -> tuple[str, ...]:
        """The models to ask. After a takeover, which says nothing against a provider, the one whose
        text readers have begins, then come those after it, and at last those that failed before."""
        order = (
            reply.requested_model,
            *self._discovery.catalog.fallbacks(reply.requested_model),
        )
        if reply.model not in order:  # the catalogue is another one now
            return reply.model, *order
        begin = order.index(reply.model)
        return order[begin:] + order[:begin]

    async def _ask(
        self, reply: LiveReply, model: Model, history: History | None, *, is_fallback: bool
    ) -> Outcome | None:
        """Has one model write the reply; None when it is a fallback whose window is too small, or
        whose own budget has no room. Raises ProviderError when it is given up, and Fenced."""
        contexts, while_owner = self._contexts, self._while_owner
        request = await while_owner(reply, contexts.build, reply.message_id, model, history)
        if is_fallback:
            if contexts.is_over(reply.account_id, model, request):
                return None
            expected = expected_of(model, request.given.estimated_tokens)
            reserve = accounting.reserve_for_fallback
            reply_and_owner = reply.message_id, reply.epoch
            if not await while_owner(
                reply, self._db.write, reserve, *reply_and_owner, model.id, expected
            ):
                return None
            log.warning(
                "fallback asked",
                **reply.ids,
                model=model.id,
                requested_model=reply.requested_model,
            )
        reply.asked_model = model.id
        reply.ask(request)

        async def reduce(error: ProviderError) -> bytes | None:
            nonlocal request
            other = await while_owner(
                reply,
                partial(contexts.reduce, is_too_long=error.is_too_long),
                reply.message_id,
                model,
                request,
            )
            if other is None:
                return None
            request = other
            reply.ask(request)
            return request.messages

        try:
            return await self._generator.generate(reply, model, request.messages, reduce)
        finally:
            if reply.usage is not None:
                contexts.learn(reply.account_id, model, request, reply.usage.input_tokens)


def _told(failures: list[_Failure]) -> str:
    """Why there is no reply, for people."""
    message = failures[0].message
    if len(failures) == 1:
        return message
    names = [failure.model for failure in failures]
    return f"{message} {', '.join(names[:-1])} and {names[-1]} were asked, and none could answer."

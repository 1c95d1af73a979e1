"""Runs the replies that this process owns, each as a task that is tied to nobody's call: builds
the context, has it generated, and stores the attempts and the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Concatenate, ParamSpec

import structlog

from colloquy_server.concurrency import shielded
from colloquy_server.context.builder import ContextBuilder
from colloquy_server.database.models import State
from colloquy_server.database.repository import leases
from colloquy_server.database.repository.changes import Fenced, Transition
from colloquy_server.database.repository.history import History
from colloquy_server.database.repository.leases import Outcome
from colloquy_server.database.rows import MessageRow
from colloquy_server.database.transactions import Database, Session
from colloquy_server.providers.catalog import ModelError
from colloquy_server.providers.client import ProviderError, Providers
from colloquy_server.providers.discovery import Discovery
from colloquy_server.replies.feeds import Feeds
from colloquy_server.replies.generation import Generator, RetryPolicy, outcome_of
from colloquy_server.replies.live_reply import LiveReply
from colloquy_server.replies.ownership import Ownership
from colloquy_server.replies.publishing import Publisher

P = ParamSpec("P")

log = structlog.get_logger()

_WENT_WRONG = "Something went wrong in the server. Try again."


class Executor:
    """Claims replies and sees them through."""

    def __init__(
        self,
        db: Database,
        feeds: Feeds,
        discovery: Discovery,
        providers: Providers,
        contexts: ContextBuilder,
        retries: RetryPolicy,
        ownership: Ownership,
        publisher: Publisher,
    ) -> None:
        self._db = db
        self._feeds = feeds
        self._discovery = discovery
        self._contexts = contexts
        self._ownership = ownership
        self._publisher = publisher
        self._generator = Generator(
            providers,
            retries,
            on_attempt=self._begin_attempt,
            on_text=publisher.receive,
            on_failure=_log_failure,
        )

    # --- claiming -----------------------------------------------------------------------------

    async def claim(
        self,
        account_id: str,
        transaction: Callable[Concatenate[Session, P], Transition | None],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Transition | None:
        """Runs a transaction that may make this process the owner of a reply, and starts on it."""
        ownership = self._ownership

        async def claim() -> Transition | None:
            deadline = ownership.new_deadline()
            try:
                transition = await self._db.write_first(account_id, transaction, *args, **kwargs)
            finally:
                ownership.reserved -= 1
            if transition is not None:
                self._adopt(transition, deadline)
            return transition

        ownership.reserved += 1
        return await shielded(claim())

    def _adopt(self, transition: Transition, deadline: float) -> None:
        self._feeds.apply(transition.change)
        if transition.owned is not None:
            is_new = transition.owned.epoch == 1
            self.launch(transition.owned, deadline, is_new=is_new)

    def launch(
        self, row: MessageRow, deadline: float, *, is_new: bool, history: History | None = None
    ) -> None:
        """Begins to generate a reply that this process has come to own. `history` is what its
        model may know, if that was read already."""
        if self._ownership.has_ended:  # too late to release it: its lease runs out
            return
        reply = LiveReply.of(row, deadline, is_new=is_new)
        self._ownership.add(reply)
        self._publisher.suspend_detector.begin()
        reply.generation = asyncio.create_task(self._generate(reply, history))
        reply.task = asyncio.create_task(self._see_through(reply))

    # --- generating ---------------------------------------------------------------------------

    async def _generate(self, reply: LiveReply, history: History | None) -> Outcome:
        try:
            model = await self._discovery.resolve(reply.model)
        except ModelError as error:
            return outcome_of(reply, State.FAILED, error.reason, error.fields["model"])
        while_owner = self._ownership.while_owner
        request = await while_owner(reply, self._contexts.build, reply.message_id, model, history)
        reply.request = request

        async def fall_back(error: ProviderError) -> bytes | None:
            nonlocal request
            other = await while_owner(
                reply,
                partial(self._contexts.fall_back, is_too_long=error.is_too_long),
                reply.message_id,
                model,
                request,
            )
            if other is None:
                return None
            request = reply.request = other
            return request.messages

        outcome = await self._generator.generate(reply, model, request.messages, fall_back)
        if reply.usage is not None:
            self._contexts.learn(reply.account_id, model, request, reply.usage.input_tokens)
        return outcome

    async def _see_through(self, reply: LiveReply) -> None:
        """Waits for a reply's end, whatever it is, and stores it."""
        assert reply.generation is not None
        try:
            outcome = await reply.generation
        except Fenced:
            return self._ownership.fence(reply)
        except asyncio.CancelledError:
            if reply.is_fenced or (self._ownership.is_draining and not reply.is_cancelled):
                return None  # somebody else's now, or released
            if not reply.is_cancelled:
                log.error("reply was cut off", message_id=reply.message_id)
                outcome = outcome_of(reply, State.FAILED, "INTERNAL", _WENT_WRONG)
            else:
                outcome = outcome_of(reply, State.CANCELLED)
        except Exception:
            log.exception("reply failed", message_id=reply.message_id)
            outcome = outcome_of(reply, State.FAILED, "INTERNAL", _WENT_WRONG)
        try:
            await self._finish(reply, outcome)
        except Fenced:
            self._ownership.fence(reply)
        except Exception:  # its lease runs out, and it is taken over
            log.exception("reply not stored", message_id=reply.message_id)
            self._ownership.fence(reply)
        return None

    async def _begin_attempt(self, reply: LiveReply, text: str) -> None:
        async def begin() -> None:
            transition = await self._ownership.while_owner(
                reply,
                self._db.write_first,
                leases.begin_attempt,
                reply.conversation_id,
                reply.message_id,
                reply.epoch,
                text,
            )
            assert transition.owned is not None
            reply.begin(transition.owned.attempt, text)
            self._feeds.apply(transition.change)

        await shielded(begin())

    async def _finish(self, reply: LiveReply, outcome: Outcome) -> None:
        ownership = self._ownership
        # The slot of this reply goes to the next one here, unless others wait for it longer.
        gives_away = ownership.is_draining or ownership.others_wait
        next_lease = None if gives_away else ownership.lease
        deadline = ownership.new_deadline()
        transition = await ownership.while_owner(
            reply,
            self._db.write_first,
            leases.finish,
            reply.conversation_id,
            reply.message_id,
            reply.epoch,
            replace(outcome, receipt=reply.request.given.dump() if reply.request else ""),
            next_lease,
        )
        ownership.remove(reply)
        self._adopt(transition, deadline)
        # If nothing changed since the request was read, the next one goes on from it.
        is_next = transition.change.version == reply.version + 1
        if reply.request is not None and transition.is_last and is_next:
            self._contexts.keep(
                reply.conversation_id,
                transition.change.version,
                reply.request,
                outcome,
                reply.position,
            )
        ownership.has_work.set()
        if outcome.state != State.COMPLETED:  # the others are told by their calls' lines
            log.info(
                "reply not completed",
                message_id=reply.message_id,
                account_id=reply.account_id,
                model=reply.model,
                state=outcome.state.name,
                attempt=reply.attempt,
                error=outcome.error_reason or None,
            )


def _log_failure(reply: LiveReply, error: ProviderError, delay: float | None) -> None:
    log.warning(
        "provider failed",
        message_id=reply.message_id,
        model=reply.model,
        retry_in=None if delay is None else round(delay, 1),
        **error.log_fields(),
    )

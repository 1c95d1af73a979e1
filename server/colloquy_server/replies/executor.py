"""Runs the replies that this process owns, each as a task that is tied to nobody's call: has them
generated, and stores the attempts and the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextvars import Context
from dataclasses import replace
from typing import Concatenate, ParamSpec

import structlog

from colloquy_server import tracing
from colloquy_server.concurrency import shielded
from colloquy_server.context.builder import ContextBuilder
from colloquy_server.database.models import Role, State
from colloquy_server.database.repository import leases
from colloquy_server.database.repository.changes import Change, Fenced, Transition
from colloquy_server.database.repository.history import History
from colloquy_server.database.repository.leases import Outcome
from colloquy_server.database.repository.usage import NANOS, Spent
from colloquy_server.database.rows import MessageRow
from colloquy_server.database.transactions import Database, Session
from colloquy_server.providers.client import ProviderError, Providers
from colloquy_server.providers.discovery import Discovery
from colloquy_server.replies.fallbacks import Fallbacks
from colloquy_server.replies.feeds import Feeds
from colloquy_server.replies.generation import Generator, RetryPolicy, outcome_of
from colloquy_server.replies.live_reply import LiveReply
from colloquy_server.replies.ownership import Ownership
from colloquy_server.replies.publishing import Publisher
from colloquy_server.telemetry import Telemetry

P = ParamSpec("P")

log = structlog.get_logger()

_ASKED_BY = 10_000
"""Replies that wait whose calls' ids are kept, those that came last."""

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
        telemetry: Telemetry,
    ) -> None:
        self._db = db
        self._feeds = feeds
        self._contexts = contexts
        self._ownership = ownership
        self._publisher = publisher
        self._telemetry = telemetry
        generator = Generator(
            providers,
            retries,
            on_attempt=self._begin_attempt,
            on_text=publisher.receive,
            on_failure=self._note_failure,
        )
        self._asked_by: dict[str, str] = {}
        """The ids of the calls that asked for replies which wait, by these."""
        self._fallbacks = Fallbacks(db, discovery, contexts, ownership, generator)

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
                self._count_ended(transition.change)
            return transition

        ownership.reserved += 1
        return await shielded(claim())

    def _adopt(self, transition: Transition, deadline: float) -> None:
        self._feeds.apply(transition.change)
        if transition.owned is not None:
            is_new = transition.owned.epoch == 1
            self.launch(transition.owned, deadline, is_new=is_new)

    def launch(
        self,
        row: MessageRow,
        deadline: float,
        *,
        is_new: bool,
        history: History | None = None,
        is_called: bool = False,
    ) -> None:
        """Begins to generate a reply that this process has come to own. `history` is what its
        model may know, if that was read already; `is_called` where the call that is served here
        asked for it."""
        if self._ownership.has_ended:  # too late to release it: its lease runs out
            return
        context = None
        followed_by = tracing.request_id.get()
        if not is_called:  # whatever led to it here, another call or another reply's end
            context = Context()
            followed_by = self._asked_by.pop(row.id, row.id)
            context.run(tracing.request_id.set, followed_by)
        reply = LiveReply.of(row, deadline, is_new=is_new, followed_by=followed_by)
        self._ownership.add(reply)
        self._publisher.suspend_detector.begin()
        generation = self._fallbacks.generate(reply, history)
        reply.generation = asyncio.create_task(generation, context=context)
        reply.task = asyncio.create_task(self._see_through(reply), context=context)

    def note_waiting(self, message_id: str) -> None:
        """A reply waits that the call which is served here asked for: it is followed by the call's
        id, should its turn come in this process."""
        self._asked_by[message_id] = tracing.request_id.get() or message_id
        if len(self._asked_by) > _ASKED_BY:
            del self._asked_by[next(iter(self._asked_by))]

    # --- seeing it through --------------------------------------------------------------------

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
                log.error("reply was cut off", **reply.ids)
                outcome = outcome_of(reply, State.FAILED, "INTERNAL", _WENT_WRONG)
            else:
                outcome = outcome_of(reply, State.CANCELLED)
        except Exception:
            log.exception("reply failed", **reply.ids)
            outcome = outcome_of(reply, State.FAILED, "INTERNAL", _WENT_WRONG)
        try:
            await self._finish(reply, outcome)
        except Fenced:
            self._ownership.fence(reply)
        except Exception:  # its lease runs out, and it is taken over
            log.exception("reply not stored", **reply.ids)
            self._ownership.fence(reply)
        return None

    async def _begin_attempt(self, reply: LiveReply, text: str) -> None:
        spent = tuple(reply.unbooked.values())

        async def begin() -> None:
            transition = await self._ownership.while_owner(
                reply,
                self._db.write_first,
                leases.begin_attempt,
                reply.conversation_id,
                reply.message_id,
                reply.epoch,
                text,
                reply.asked_model,
                reply.attempt,
                spent,
            )
            assert transition.owned is not None
            self._count_used(spent)
            reply.unbooked.clear()
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
        self._telemetry.reply_ended(
            reply.model,
            outcome.state.name.lower(),
            outcome.error_reason,
            attempts=reply.attempt,
        )
        self._count_used(outcome.spent)
        self._adopt(transition, deadline)
        keep_for_next(self._contexts, reply, transition, outcome)
        ownership.has_work.set()
        if outcome.state != State.COMPLETED:  # the others are told by their calls' lines
            log.info(
                "reply not completed",
                **reply.ids,
                account_id=reply.account_id,
                model=reply.model,
                state=outcome.state.name,
                attempt=reply.attempt,
                error=outcome.error_reason or None,
            )

    def _count_ended(self, change: Change) -> None:
        """Of replies that ended over their owners' heads; what they used, nobody knows."""
        for row in change.messages:
            if row.role == Role.ASSISTANT and row.state >= State.COMPLETED:
                self._telemetry.reply_ended(
                    row.model,
                    State(row.state).name.lower(),
                    row.error_reason,
                    attempts=row.attempt,
                )

    def _count_used(self, booked: Iterable[Spent]) -> None:
        for spent in booked:
            tokens = {
                "input": spent.input_tokens,
                "cached": spent.cached_tokens,
                "output": spent.output_tokens,
            }
            self._telemetry.used(spent.model, tokens, spent.cost_nanos / NANOS)

    def _note_failure(self, reply: LiveReply, error: ProviderError, delay: float | None) -> None:
        model = reply.asked_model
        self._telemetry.provider_failed(model, error.reason, is_retried=delay is not None)
        log.warning(
            "provider failed",
            **reply.ids,
            model=model,
            retry_in=None if delay is None else round(delay, 1),
            **error.log_fields(),
        )


def keep_for_next(
    contexts: ContextBuilder, reply: LiveReply, ended: Transition, outcome: Outcome
) -> None:
    """Keeps what a reply's model was told, for the next one to go on from, if nothing changed since
    that was read."""
    version = ended.change.version
    if reply.request is not None and ended.is_last and version == reply.version + 1:
        contexts.keep(reply.conversation_id, version, reply.request, outcome, reply.position)

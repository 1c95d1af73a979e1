"""Takes prompts in: stores them with their replies, and starts those for which there is room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from colloquy_server.concurrency import FairSemaphore, KeyedLocks
from colloquy_server.context.builder import ContextBuilder
from colloquy_server.database.models import Attachment, State
from colloquy_server.database.repository import sending
from colloquy_server.database.repository.changes import Lease
from colloquy_server.database.repository.quotas import Charge, Limits
from colloquy_server.database.repository.sending import Choice, Prompt, Sent
from colloquy_server.database.transactions import Database, Scope, Session, account_of
from colloquy_server.providers.discovery import Discovery
from colloquy_server.replies.bus import Bus
from colloquy_server.replies.cancellation import Cancellation
from colloquy_server.replies.executor import Executor
from colloquy_server.replies.feeds import Feed, Feeds
from colloquy_server.replies.ownership import Ownership
from colloquy_server.replies.prices import expectation

_STORED_AT_ONCE = 8
_STORED_AT_ONCE_EACH = 4
"""Requests that are stored at the same time, and of these how many of one account."""


@dataclass(frozen=True, slots=True)
class Started:
    """A prompt and its reply, stored, and the feed to watch them in: to be closed by the caller."""

    sent: Sent
    feed: Feed


class Admission:
    """Sends and regenerates."""

    def __init__(
        self,
        db: Database,
        feeds: Feeds,
        bus: Bus,
        discovery: Discovery,
        contexts: ContextBuilder,
        ownership: Ownership,
        executor: Executor,
        cancellation: Cancellation,
        max_queued: int,
        limits: Limits,
    ) -> None:
        """`max_queued` is how many replies may wait in one conversation; `limits` are those of
        accounts that have none of their own."""
        self._db = db
        self._feeds = feeds
        self._bus = bus
        self._discovery = discovery
        self._contexts = contexts
        self._ownership = ownership
        self._executor = executor
        self._cancellation = cancellation
        self._max_queued = max_queued
        self._limits = limits
        self._locks = KeyedLocks()
        self._slots = FairSemaphore(_STORED_AT_ONCE, each=_STORED_AT_ONCE_EACH)

    async def send(self, scope: Scope, prompt: Prompt, charge: Charge) -> Started:
        """Stores a prompt and its reply. Raises NotFound, InvalidField, RequestIdReused,
        ConversationBusy, QueueFull, QuotaExceeded, BudgetExceeded."""
        account_id = account_of(scope)
        check = self._check(account_id, "")
        charge = replace(charge, default=self._limits)
        return await self._admit(
            scope,
            prompt.conversation_id,
            lambda s, lease: sending.send(
                s, account_id, prompt, check, lease, self._max_queued, charge
            ),
        )

    async def regenerate(
        self,
        scope: Scope,
        message_id: str,
        model: str,
        request_id: str | None,
        charge: Charge,
    ) -> Started:
        """Stores a new reply to the same prompt. Raises NotFound, InvalidField, RequestIdReused,
        QueueFull, QuotaExceeded, BudgetExceeded."""
        account_id = account_of(scope)
        check = self._check(account_id, model)
        charge = replace(charge, default=self._limits)
        return await self._admit(
            scope,
            message_id,
            lambda s, lease: sending.regenerate(
                s, account_id, message_id, model, request_id, check, lease, self._max_queued, charge
            ),
        )

    def _check(self, account_id: str, model_id: str) -> sending.Check:
        """A check that the model, or else the conversation's, can be used and takes the prompt."""

        def check(
            usual_model: str, system_prompt: str, content: str, files: Sequence[Attachment]
        ) -> Choice:
            model = self._discovery.catalog.resolve(model_id or usual_model)
            self._contexts.check_fits(account_id, model, system_prompt, content, files)
            expect = expectation(model, system_prompt, content, files)
            return Choice(model.id, self._contexts.reader(account_id, model), expect)

        return check

    async def _admit(
        self, scope: Scope, key: str, store: Callable[[Session, Lease | None], Sent]
    ) -> Started:
        """Stores a request and starts what it made; also when its caller goes away meanwhile.

        Those of one `key` wait for each other here, not at the lock of their conversation's row:
        there each would hold a connection that others need. Accounts take turns, so that a thousand
        requests of one delay another's by those that are being stored.
        """
        # By its account too: who only knows a conversation's id delays nobody in it.
        lock = self._locks.of(f"{account_of(scope)}/{key}")

        async def in_turn() -> Started:
            async with lock, self._slots.slot(account_of(scope)):
                return await self._store(scope, store)

        # While servers are asked for new models nobody waits behind it.
        task = asyncio.create_task(self._discovery.choosing(in_turn))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._close_unwatched)
            raise

    async def _store(self, scope: Scope, store: Callable[[Session, Lease | None], Sent]) -> Started:
        account_id = account_of(scope)
        ownership = self._ownership
        has_room = ownership.room > 0
        ownership.reserved += has_room
        lease = ownership.lease if has_room else None
        deadline = ownership.new_deadline()
        try:
            sent = await self._db.write(scope, store, lease)
        finally:
            ownership.reserved -= has_room
        feed = self._feeds.open_at(account_id, sent.change)
        if sent.owned:
            self._executor.launch(
                sent.reply, deadline, is_new=True, history=sent.history, is_called=True
            )
        elif lease is None:
            self._bus.publish({"kind": "work"})  # another process may have room
        if sent.reply.state == State.QUEUED:
            self._executor.note_waiting(sent.reply.id)
        if sent.interrupted is not None:
            self._cancellation.interrupt(account_id, sent.interrupted)
        return Started(sent, feed)

    def _close_unwatched(self, task: asyncio.Task[Started]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._feeds.close(task.result().feed)

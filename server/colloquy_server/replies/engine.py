"""The reply engine: all that callers may ask of replies, and the parts that do it.

    Admission ───┐               ┌ Generator ── providers
    Cancellation ┼─ Executor ────┤
    (Scheduler) ─┘     │         └ Publisher ── Feeds
    Drain ──────── Ownership

The scheduler belongs to `upkeep`, which goes on by itself.

A reply is a task of this process, tied to nobody's call. Its row is its job: what this process
owns it generates, and its lease it renews (`upkeep`); what other processes left it takes over.
"""

from __future__ import annotations

from colloquy_server.concurrency import shielded
from colloquy_server.context.builder import ContextBuilder
from colloquy_server.database.repository import access, conversations
from colloquy_server.database.repository.changes import Change
from colloquy_server.database.repository.sending import Prompt
from colloquy_server.database.rows import MessageRow
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database
from colloquy_server.providers.client import Providers
from colloquy_server.providers.discovery import Discovery
from colloquy_server.replies.admission import Admission, Started
from colloquy_server.replies.bus import Bus, Event
from colloquy_server.replies.cancellation import Cancellation
from colloquy_server.replies.drain import Drain
from colloquy_server.replies.executor import Executor
from colloquy_server.replies.feeds import Feeds
from colloquy_server.replies.generation import RetryPolicy
from colloquy_server.replies.ownership import Ownership
from colloquy_server.replies.publishing import Publisher
from colloquy_server.settings import Settings


class Replies:
    """All replies of this process."""

    def __init__(
        self,
        db: Database,
        feeds: Feeds,
        discovery: Discovery,
        providers: Providers,
        contexts: ContextBuilder,
        bus: Bus,
        settings: Settings,
    ) -> None:
        self.ownership = Ownership(db, feeds, settings)
        self.publisher = Publisher(self.ownership, feeds, bus)
        self.executor = Executor(
            db,
            feeds,
            discovery,
            providers,
            contexts,
            RetryPolicy(settings.provider_attempts, settings.retry_base),
            self.ownership,
            self.publisher,
        )
        self._cancellation = Cancellation(db, feeds, bus, self.ownership, self.executor)
        self._admission = Admission(
            db,
            feeds,
            bus,
            discovery,
            contexts,
            self.ownership,
            self.executor,
            self._cancellation,
            settings.max_queued_per_conversation,
        )
        self._drain = Drain(db, bus, self.ownership, self.publisher)
        self._db = db
        self._contexts = contexts
        self._feeds = feeds
        self._bus = bus
        bus.subscribe(self._on_event)

    async def send(self, account_id: str, prompt: Prompt) -> Started:
        """Stores a prompt and its reply, and sees to it that the reply is generated.

        Raises NotFound, InvalidField, RequestIdReused, ConversationBusy, QueueFull.
        """
        return await self._admission.send(account_id, prompt)

    async def regenerate(
        self, account_id: str, message_id: str, model: str, request_id: str | None
    ) -> Started:
        """Stores a new reply to the same prompt, and sees to it that it is generated.

        Raises NotFound, InvalidField, RequestIdReused, QueueFull.
        """
        return await self._admission.regenerate(account_id, message_id, model, request_id)

    async def cancel(self, account_id: str, message_id: str) -> MessageRow:
        """Stops a reply; returns it as it then stands. Raises NotFound, InvalidField."""
        return await self._cancellation.cancel(account_id, message_id)

    async def cancel_request(
        self, account_id: str, conversation_id: str, request_id: str
    ) -> MessageRow | None:
        """Stops the reply of a request; None when the request has not come. Raises NotFound."""
        return await self._cancellation.cancel_request(account_id, conversation_id, request_id)

    async def delete_conversation(self, account_id: str, conversation_id: str) -> None:
        """Deletes a conversation and stops its replies. Raises NotFound."""
        change, live = await shielded(
            self._db.write(account_id, conversations.delete, conversation_id)
        )
        self._fence_deleted(live)
        self._feeds.apply(change)
        self._contexts.forget(conversation_id)
        self.ownership.has_work.set()

    async def delete_account(self, account_id: str) -> None:
        """Deletes an account with all that is in it. Raises NotFound."""
        gone, live = await shielded(
            self._db.write(EVERY_ACCOUNT, access.delete_account, account_id)
        )
        self._fence_deleted(live)
        for conversation_id in gone:
            self._feeds.apply(Change(conversation_id, 0, deleted=True))
            self._contexts.forget(conversation_id)
        self.ownership.has_work.set()

    def _fence_deleted(self, message_ids: list[str]) -> None:
        """Lets go of replies whose rows are deleted, and has their owners elsewhere do so."""
        for message_id in message_ids:
            self._bus.publish({"kind": "cancel", "message": message_id})
            reply = self.ownership.live.get(message_id)
            if reply is not None:
                self.ownership.fence(reply)

    async def drain(self, grace: float) -> None:
        """Shuts down: `grace`, in seconds, is for live replies to finish."""
        await self._drain.run(grace)

    def end_grace(self) -> None:
        """Has a drain go on without waiting for live replies."""
        self._drain.end_grace()

    def _on_event(self, event: Event) -> None:
        kind = event["kind"]
        if kind == "work":
            self.ownership.has_work.set()
            return
        reply = self.ownership.live.get(event.get("message", ""))
        if reply is None:
            return
        if kind == "cancel":
            self.ownership.stop(reply)
        elif kind == "want":
            self.publisher.want(reply, event)

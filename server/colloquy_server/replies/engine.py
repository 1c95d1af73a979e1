"""The reply engine: all that callers may ask of replies, and the parts that do it.

    Admission ───┐               ┌ Fallbacks ── Generator ── providers
    Cancellation ┼─ Executor ────┤
    (Scheduler) ─┘     │         └ Publisher ── Feeds
    Drain ──────── Ownership

The scheduler belongs to `upkeep`, which goes on by itself.

A reply is a task of this process, tied to nobody's call. Its row is its job: what this process
owns it generates, and its lease it renews (`upkeep`); what other processes left it takes over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from colloquy_server.concurrency import shielded
from colloquy_server.context.builder import ContextBuilder
from colloquy_server.database.repository import access, conversations, deletion, retention
from colloquy_server.database.repository.audit import audited
from colloquy_server.database.repository.changes import Change
from colloquy_server.database.repository.deletion import Deletion, Leaving
from colloquy_server.database.repository.quotas import FREE, Charge, Limits
from colloquy_server.database.repository.sending import Prompt
from colloquy_server.database.repository.usage import Spent
from colloquy_server.database.rows import MessageRow
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database, Scope
from colloquy_server.errors import NotFound
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
from colloquy_server.replies.prices import priced
from colloquy_server.replies.publishing import Publisher
from colloquy_server.settings import Settings
from colloquy_server.telemetry import Telemetry

log = structlog.get_logger()


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
        telemetry: Telemetry,
    ) -> None:
        self.ownership = Ownership(db, feeds, settings, telemetry)
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
            telemetry,
        )
        self._discovery = discovery
        self._cancellation = Cancellation(db, feeds, bus, self.ownership, self.executor, self.price)
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
            Limits.of_server(settings),
        )
        self.has_erased = asyncio.Event()
        """Set when something was deleted; `erasure` clears it."""
        self._drain = Drain(db, bus, self.ownership, self.publisher)
        self._db = db
        self._contexts = contexts
        self._feeds = feeds
        self._bus = bus
        bus.subscribe(self._on_event)

    def price(self, spent: Spent) -> Spent:
        """What an answer that was cut off may have cost."""
        return priced(self._discovery.catalog.find(spent.model), spent)

    async def send(self, scope: Scope, prompt: Prompt, charge: Charge = FREE) -> Started:
        """Stores a prompt and its reply, and sees to it that the reply is generated. `charge` says
        whom that counts for.

        Raises NotFound, InvalidField, RequestIdReused, ConversationBusy, QueueFull, QuotaExceeded,
        BudgetExceeded.
        """
        return await self._admission.send(scope, prompt, charge)

    async def regenerate(
        self,
        scope: Scope,
        message_id: str,
        model: str,
        request_id: str | None,
        charge: Charge = FREE,
    ) -> Started:
        """Stores a new reply to the same prompt, and sees to it that it is generated. `charge` is
        as in `send`.

        Raises NotFound, InvalidField, RequestIdReused, QueueFull, QuotaExceeded, BudgetExceeded.
        """
        return await self._admission.regenerate(scope, message_id, model, request_id, charge)

    async def cancel(self, scope: Scope, message_id: str) -> MessageRow:
        """Stops a reply; returns it as it then stands. Raises NotFound, InvalidField."""
        return await self._cancellation.cancel(scope, message_id)

    async def cancel_request(
        self, scope: Scope, conversation_id: str, request_id: str
    ) -> MessageRow | None:
        """Stops the reply of a request; None when the request has not come. Raises NotFound."""
        return await self._cancellation.cancel_request(scope, conversation_id, request_id)

    async def delete_conversation(self, scope: Scope, conversation_id: str) -> None:
        """Deletes a conversation and stops its replies. Raises NotFound, PermissionDenied."""
        change, live = await shielded(
            self._db.write(scope, audited(conversations.delete), conversation_id, self.price)
        )
        self._erased(Deletion(change, live))

    async def expire_conversation(self, account_id: str, conversation_id: str) -> bool:
        """The same for one whose time has come; False when it has not, or the conversation is gone
        already."""
        try:
            deleted = await shielded(
                self._db.write(account_id, retention.expire, conversation_id, self.price)
            )
        except NotFound:
            return False
        if deleted is None:
            return False
        self._erased(deleted)
        log.info(
            "audit",
            action=retention.ACTION,
            actor="server",
            account_id=account_id,
            target_id=conversation_id,
        )
        return True

    async def delete_message(self, scope: Scope, message_id: str) -> None:
        """Deletes a user's message with the replies to it, which are stopped. Raises NotFound,
        PermissionDenied, InvalidField."""
        deleted = await shielded(
            self._db.write(scope, audited(deletion.delete_message), message_id, self.price)
        )
        if deleted is not None:
            self._erased(deleted)

    async def delete_user(self, user_id: str) -> Leaving:
        """Deletes a user with all that they said, and returns who it was once their keys are gone;
        the rest goes on by itself (`erasure`). Raises NotFound, InvalidField."""
        user = await shielded(
            self._db.write(EVERY_ACCOUNT, audited(deletion.begin_leaving), user_id)
        )
        self.has_erased.set()
        return user

    async def delete_leaving(self, user: Leaving) -> None:
        """Deletes what is left of a user who is leaving, piece by piece. Others may do the same."""
        account_id, user_id = user.account_id, user.user_id
        while True:
            found = await self._db.read(account_id, deletion.conversation_of, user_id)
            if found is None:
                if await self._db.write(account_id, deletion.finish_leaving, user_id):
                    return
                continue
            is_done = False
            while not is_done:
                try:
                    deleted = await shielded(
                        self._db.write(account_id, deletion.delete_said, found, user_id, self.price)
                    )
                except NotFound:
                    break
                self._erased(deleted)
                is_done = deleted.is_done

    def _erased(self, deleted: Deletion) -> None:
        """Passes on what a transaction deleted, and forgets what is held of it here."""
        self._fence_deleted(deleted.live)
        self._feeds.apply(deleted.change)
        self._contexts.forget(deleted.change.conversation_id)
        self.ownership.has_work.set()
        self.has_erased.set()

    async def delete_account(self, account_id: str) -> None:
        """Deletes an account with all that is in it. Raises NotFound."""
        gone, live = await shielded(
            self._db.write(EVERY_ACCOUNT, audited(access.delete_account), account_id)
        )
        self._fence_deleted(live)
        for conversation_id in gone:
            self._feeds.apply(Change(conversation_id, 0, deleted=True))
            self._contexts.forget(conversation_id)
        self.ownership.has_work.set()
        self.has_erased.set()

    def _fence_deleted(self, message_ids: Sequence[str]) -> None:
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
        if kind == "deleted" or event.get("erases"):
            self._contexts.forget(event["conversation"])
            return
        reply = self.ownership.live.get(event.get("message", ""))
        if reply is None:
            return
        if kind == "cancel":
            self.ownership.stop(reply)
        elif kind == "want":
            self.publisher.want(reply, event)

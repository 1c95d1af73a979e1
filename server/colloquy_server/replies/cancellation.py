"""Stops replies: queued ones at once, live ones through their owner or, when it does not answer,
over its head."""

from __future__ import annotations

import asyncio

import structlog

from colloquy_server.concurrency import shielded
from colloquy_server.database.models import State
from colloquy_server.database.repository import cancellation, messages
from colloquy_server.database.repository.cancellation import CancelResult
from colloquy_server.database.repository.usage import Pricing
from colloquy_server.database.rows import MessageRow
from colloquy_server.database.transactions import Database, DatabaseUnavailable, Scope, account_of
from colloquy_server.errors import NotFound
from colloquy_server.replies.bus import Bus
from colloquy_server.replies.executor import Executor
from colloquy_server.replies.feeds import Feeds
from colloquy_server.replies.ownership import Ownership

log = structlog.get_logger()

_OWNER_TIMEOUT = 0.7
"""Seconds in which an owner has to end a reply that was cancelled, before it is ended for it."""


class Cancellation:
    """Sees cancels through."""

    def __init__(
        self,
        db: Database,
        feeds: Feeds,
        bus: Bus,
        ownership: Ownership,
        executor: Executor,
        price: Pricing,
    ) -> None:
        self._price = price
        self._db = db
        self._feeds = feeds
        self._bus = bus
        self._ownership = ownership
        self._executor = executor
        self._interrupts: set[asyncio.Task[None]] = set()

    async def cancel(self, scope: Scope, message_id: str) -> MessageRow:
        """Stops a reply; returns it as it then stands. Raises NotFound, InvalidField."""
        asked = await self._db.write_first(scope, cancellation.cancel, message_id)
        reply = await self._see_through(account_of(scope), asked)
        assert reply is not None
        return reply

    async def cancel_request(
        self, scope: Scope, conversation_id: str, request_id: str
    ) -> MessageRow | None:
        """Stops the reply of a request; None when the request has not come. Raises NotFound."""
        account_id = account_of(scope)
        asked = await self._db.write_first(
            scope, cancellation.cancel_request, account_id, conversation_id, request_id
        )
        return await self._see_through(account_id, asked)

    def interrupt(self, account_id: str, row: MessageRow) -> None:
        """Stops a live reply that is to make room for another, in the background."""
        task = asyncio.create_task(self._interrupt(account_id, row))
        self._interrupts.add(task)
        task.add_done_callback(self._interrupts.discard)

    async def _interrupt(self, account_id: str, row: MessageRow) -> None:
        try:
            await self._end_live(account_id, row)
        except DatabaseUnavailable:  # its owner hears of it with its next renewal
            log.warning("database is away", message_id=row.id)

    async def _see_through(self, account_id: str, asked: CancelResult) -> MessageRow | None:
        if asked.change is not None:
            self._feeds.apply(asked.change)
        if asked.reply is None or not asked.is_live:
            return asked.reply
        await shielded(self._end_live(account_id, asked.reply))
        return await self._db.read(account_id, messages.get, asked.reply.id)

    async def _end_live(self, account_id: str, row: MessageRow) -> None:
        """Has a live reply end that is to be cancelled: by its owner, else over its head."""
        ownership = self._ownership
        reply = ownership.live.get(row.id)
        if reply is not None and reply.task is not None:
            ownership.stop(reply)
            done, _ = await asyncio.wait([reply.task], timeout=_OWNER_TIMEOUT)
            if done and not reply.is_fenced:
                return
        elif await self._ended_elsewhere(account_id, row):
            return
        text, attempt = self._feeds.known_text(row)
        next_lease = ownership.lease if ownership.room > 0 and not ownership.others_wait else None
        ended = await self._executor.claim(
            account_id,
            cancellation.force_cancel,
            row.conversation_id,
            row.id,
            next_lease,
            text,
            attempt,
            self._price,
        )
        if ended is not None and reply is not None:
            ownership.fence(reply)

    async def _ended_elsewhere(self, account_id: str, row: MessageRow) -> bool:
        """Tells the owner, another process, to cancel a reply, and waits for it to end."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _OWNER_TIMEOUT
        try:
            feed = await self._feeds.open(account_id, row.conversation_id)
        except NotFound:
            return True
        try:
            self._bus.publish({"kind": "cancel", "message": row.id})
            while await feed.changed(until - loop.time()):
                state = await self._db.read(account_id, messages.state, row.id)
                if state != State.GENERATING:
                    return True
        finally:
            self._feeds.close(feed)
        return False

"""The replies that this process owns: how many more it may claim, and how long its leases hold.

Who owns a reply is the database's to say, by the rules of `repository.leases`. Here is what an
owner knows by itself: that a lease is over by its own clock, or that a reply was fenced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import structlog

from colloquy_server.clock import boottime
from colloquy_server.database.models import MICROS
from colloquy_server.database.repository import leases
from colloquy_server.database.repository.changes import Fenced, Lease
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database, DatabaseUnavailable
from colloquy_server.replies.feeds import Feeds
from colloquy_server.replies.live_reply import LiveReply
from colloquy_server.settings import Settings
from colloquy_server.telemetry import Telemetry

T = TypeVar("T")

log = structlog.get_logger()

_DATABASE_PAUSE = 0.2
"""Seconds between tries to store something while the database is away."""


class Ownership:
    """The leases of one process."""

    def __init__(
        self, db: Database, feeds: Feeds, settings: Settings, telemetry: Telemetry
    ) -> None:
        self.live: dict[str, LiveReply] = {}
        """The replies that this process generates, by id."""
        self.has_work = asyncio.Event()
        """Set when replies may wait for a slot, or titles be owed."""
        self.others_wait = False
        """Whether replies of free conversations wait for a slot in this process."""
        self.reserved = 0
        """Slots of transactions on their way that may make replies this process's own."""
        self.is_draining = False
        self.has_ended = False
        """Whether it is too late to release a lease: it would have to run out."""
        self._db = db
        self._feeds = feeds
        self._settings = settings
        self._telemetry = telemetry

    # --- slots --------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many more replies this process may generate."""
        if self.is_draining:
            return 0
        return self._settings.max_live_replies - len(self.live) - self.reserved

    @property
    def lease(self) -> Lease:
        """What this process asks for when it claims a reply."""
        return Lease(self._ttl, self._settings.max_live_replies_per_account)

    @property
    def _ttl(self) -> int:
        return int(self._settings.lease_ttl * MICROS)

    def new_deadline(self) -> float:
        """When a lease that is asked for now is over, by this process's clock."""
        return boottime() + self._settings.lease_ttl

    # --- owning -------------------------------------------------------------------------------

    def add(self, reply: LiveReply) -> None:
        """This process owns a reply now; if it did before, under another epoch, not that any
        more."""
        before = self.live.get(reply.message_id)
        if before is not None:
            self.fence(before)
        self.live[reply.message_id] = reply
        self._feeds.live[reply.conversation_id] = reply

    def owns(self, reply: LiveReply) -> bool:
        """Whether the reply is still this process's, as far as it knows."""
        return self.live.get(reply.message_id) is reply

    def holds(self, message_id: str) -> bool:
        """Whether this process owns a reply by its own clock, whatever the database's says: that
        one may have been set forward, and the next renewal makes the lease a true one."""
        reply = self.live.get(message_id)
        return reply is not None and boottime() < reply.deadline

    def remove(self, reply: LiveReply) -> None:
        """A reply has ended, or is not this process's any more."""
        if self.owns(reply):
            del self.live[reply.message_id]
        if self._feeds.live.get(reply.conversation_id) is reply:
            del self._feeds.live[reply.conversation_id]

    def stop(self, reply: LiveReply) -> None:
        """Stops a reply of this process: its provider's connection is closed, its text kept."""
        reply.is_cancelled = True
        if reply.generation is not None:
            reply.generation.cancel()

    def fence(self, reply: LiveReply) -> None:
        """Lets go of a reply that is not this process's any more: stops, and writes and sends
        nothing more of it."""
        if not reply.is_fenced:
            log.warning("reply fenced", message_id=reply.message_id, epoch=reply.epoch)
            self._telemetry.lease_lost("expired" if boottime() >= reply.deadline else "fenced")
        reply.is_fenced = True
        if reply.generation is not None:
            reply.generation.cancel()
        self.remove(reply)

    def fence_expired(self) -> None:
        """Fences the replies whose lease could not be renewed in time."""
        for reply in list(self.live.values()):
            if boottime() >= reply.deadline:
                self.fence(reply)

    # --- leases -------------------------------------------------------------------------------

    async def renew(self) -> None:
        """Renews every live lease; fences the replies that are not this process's any more, and
        stops those that are to be cancelled."""
        owned = [(reply.message_id, reply.epoch) for reply in self.live.values()]
        if not owned:
            return
        deadline = self.new_deadline()
        renewed = await self._db.write_first(EVERY_ACCOUNT, leases.renew, owned, self._ttl)
        for message_id, epoch in owned:
            reply = self.live.get(message_id)
            if reply is None or reply.epoch != epoch:
                continue
            if message_id not in renewed:
                self.fence(reply)
                continue
            reply.deadline = deadline
            if renewed[message_id] and not reply.is_cancelled:
                self.stop(reply)

    async def verify(self) -> None:
        """Finds out, after a suspension, which replies are still this process's."""
        while self.live:
            try:
                await self.renew()
                break
            except DatabaseUnavailable:
                self.fence_expired()
                await asyncio.sleep(_DATABASE_PAUSE)

    async def while_owner(
        self, reply: LiveReply, run: Callable[..., Coroutine[Any, Any, T]], *args: Any
    ) -> T:
        """Runs a transaction about a live reply; goes on trying while the database is away.

        Raises Fenced when the reply is not this process's any more.
        """
        while True:
            if reply.is_fenced or boottime() >= reply.deadline:
                raise Fenced
            try:
                return await run(reply.account_id, *args)
            except DatabaseUnavailable:
                log.warning("database is away", message_id=reply.message_id)
                await asyncio.sleep(_DATABASE_PAUSE)

"""How a process shuts down: it lets live replies finish, then releases the leases of the others, so
that another process goes on with them at once."""

from __future__ import annotations

import asyncio

import structlog

from colloquy_server.database.repository import leases
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database, DatabaseUnavailable
from colloquy_server.replies.bus import Bus
from colloquy_server.replies.checkpoints import checkpoints_of
from colloquy_server.replies.ownership import Ownership
from colloquy_server.replies.publishing import Publisher

log = structlog.get_logger()

_RELEASE_TIMEOUT = 3.0
"""Seconds to wait for transactions that may make replies this process's own."""

_STORING_PAUSE = 0.05
"""Seconds between looks whether a send that is being stored has become a reply."""


class Drain:
    """The last things that a process does with its replies."""

    def __init__(self, db: Database, bus: Bus, ownership: Ownership, publisher: Publisher) -> None:
        self._db = db
        self._bus = bus
        self._ownership = ownership
        self._publisher = publisher
        self._grace_ends = asyncio.Event()

    def end_grace(self) -> None:
        """Live replies get no more time."""
        self._grace_ends.set()

    async def run(self, grace: float) -> None:
        """Claims nothing more, lets live replies finish for `grace` seconds, and releases the
        leases of the others."""
        self._ownership.is_draining = True
        try:
            async with asyncio.timeout(grace):
                await self._wait_for_replies()
        except TimeoutError:
            pass
        await self._release_leases()
        self._bus.publish({"kind": "work"})
        self._publisher.suspend_detector.stop()

    async def _wait_for_replies(self) -> None:
        live = self._ownership.live
        while (live or self._ownership.reserved) and not self._grace_ends.is_set():
            grace_ends = asyncio.create_task(self._grace_ends.wait())
            tasks = [reply.task for reply in live.values() if reply.task]
            # A reply that is just being stored is not there to be waited for.
            timeout = None if live else _STORING_PAUSE
            await asyncio.wait(
                [*tasks, grace_ends], timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
            grace_ends.cancel()

    async def _release_leases(self) -> None:
        """Of all live replies, also of those that come from transactions still on their way."""
        ownership = self._ownership
        loop = asyncio.get_running_loop()
        until = loop.time() + _RELEASE_TIMEOUT
        while ownership.live or (ownership.reserved and loop.time() < until):
            left = list(ownership.live.values())
            for reply in left:
                if reply.generation is not None:
                    reply.generation.cancel()
            tasks = (reply.task for reply in left if reply.task)
            await asyncio.gather(*tasks, return_exceptions=True)
            left = [reply for reply in left if ownership.owns(reply)]
            if left:
                try:
                    await self._db.write_first(EVERY_ACCOUNT, leases.release, checkpoints_of(left))
                except DatabaseUnavailable:  # then the leases run out
                    log.warning("database is away", replies=len(left))
            for reply in left:
                ownership.remove(reply)
                log.info("lease released", message_id=reply.message_id)
            await asyncio.sleep(0.01 if ownership.reserved else 0)
        ownership.has_ended = True

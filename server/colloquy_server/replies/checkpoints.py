"""Checkpoints: the text so far of all live replies of this process, saved together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from colloquy_server.clock import boottime
from colloquy_server.concurrency import wait_up_to
from colloquy_server.database.repository import leases
from colloquy_server.database.repository.leases import Checkpoint
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database
from colloquy_server.replies.live_reply import LiveReply
from colloquy_server.replies.ownership import Ownership
from colloquy_server.replies.publishing import Publisher

_PAUSE = 0.1
"""Seconds between two checkpoints at least, also when replies grow fast."""

_INTERVAL = 1.0 - 2 * _PAUSE
"""Seconds to wait for fast growth after that: with the time that a checkpoint takes, replies are
saved every second."""


class Checkpoints:
    """Saves what has grown; fences the replies that are not this process's any more."""

    name = "checkpoint"

    def __init__(self, db: Database, ownership: Ownership, publisher: Publisher) -> None:
        self._db = db
        self._ownership = ownership
        self._publisher = publisher

    async def run_once(self) -> None:
        """One checkpoint."""
        needed = self._publisher.needs_checkpoint
        await wait_up_to(_INTERVAL, needed)
        needed.clear()
        live = self._ownership.live
        texts = checkpoints_of(reply for reply in live.values() if len(reply.text) > reply.saved)
        if texts:
            fenced = await self._db.write_first(EVERY_ACCOUNT, leases.save_checkpoints, texts)
            for text in texts:
                reply = live.get(text.message_id)
                if reply is None or reply.epoch != text.epoch:
                    continue
                if text.message_id in fenced:
                    self._ownership.fence(reply)
                elif reply.attempt == text.attempt:
                    reply.saved = len(text.content)
        await asyncio.sleep(_PAUSE)


def checkpoints_of(replies: Iterable[LiveReply]) -> list[Checkpoint]:
    """What is to be saved of these replies, without those whose lease is over."""
    return [
        Checkpoint(reply.message_id, reply.epoch, reply.attempt, reply.text)
        for reply in replies
        if boottime() < reply.deadline
    ]

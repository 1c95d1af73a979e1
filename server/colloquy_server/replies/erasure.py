"""Sees to it that what was deleted is gone: goes on with people whose deletion broke off, and has
the database take what was deleted out of its files."""

from __future__ import annotations

import asyncio

import structlog

from colloquy_server.concurrency import wait_up_to
from colloquy_server.database.repository import deletion
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database
from colloquy_server.replies.engine import Replies

log = structlog.get_logger()

_PAUSE = 1.0
"""Seconds between a deletion and the first try, and between tries, at least: what is deleted
meanwhile is taken out together."""

_SHARE = 10
"""How many times as long as the last try took the pause is, so that a large database is not kept
busy by deletions."""

_INTERVAL = 15.0
"""Seconds between looks for what a process that died did not finish, and the longest pause between
tries that fail."""

_AT_ONCE = 20


class Erasure:
    """Takes out what processes deleted: this one, those before it, and those that died."""

    name = "erase"

    def __init__(self, db: Database, replies: Replies) -> None:
        self._db = db
        self._replies = replies
        self._is_owed = True  # the process before this one may have died with it
        self._failed = 0
        self._pause = 0.0

    async def run_once(self) -> None:
        """One try, when there is something to do."""
        await asyncio.sleep(self._pause)
        self._pause = _PAUSE
        has_erased = self._replies.has_erased
        if has_erased.is_set():
            has_erased.clear()
            self._is_owed = True
        for user in await self._db.read(EVERY_ACCOUNT, deletion.leaving, _AT_ONCE):
            await self._replies.delete_leaving(user)
            self._is_owed = True
        if self._is_owed:
            clock = asyncio.get_running_loop().time
            began = clock()
            self._is_owed = not await self._db.erase_deleted()
            self._failed = self._failed + 1 if self._is_owed else 0
            pause = min(_PAUSE * 2**self._failed, _INTERVAL)
            self._pause = max(pause, (clock() - began) * _SHARE)
            if self._is_owed:
                log.info("deleted text still in use", retry_in=round(self._pause, 1))
                return
        await wait_up_to(_INTERVAL, has_erased)

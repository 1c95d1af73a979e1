"""Deletes conversations whose time has come."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from colloquy_server.database.repository import retention
from colloquy_server.database.repository.retention import Due
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database, DatabaseUnavailable
from colloquy_server.replies.engine import Replies

log = structlog.get_logger()

_INTERVAL = 60.0
"""Seconds between looks: a conversation is there for about so long after its time."""

_AT_ONCE = 20
"""Conversations of a batch, each deleted in a transaction of its own."""

_PAUSE = 0.1
_SHARE = 2
"""Seconds between batches, at least, and how many times as long as the last batch took the pause
is, so that no number of them keeps a database busy."""


class RetentionSweep:
    """Deletes what accounts and people said is not to be kept for longer, in small batches. Each
    process does so: those that come second find a conversation gone."""

    name = "expire"

    def __init__(self, db: Database, replies: Replies) -> None:
        self._db = db
        self._replies = replies

    async def run_once(self) -> None:
        """One sweep."""
        await self.sweep()
        await asyncio.sleep(_INTERVAL)

    async def sweep(self) -> None:
        """Deletes all whose time has come."""
        while True:
            due = await self._db.read(EVERY_ACCOUNT, retention.expired, _AT_ONCE)
            if not await self._delete(due) or len(due) < _AT_ONCE:
                break
        account_id = ""
        while True:
            found = await self._db.read(EVERY_ACCOUNT, retention.inactive, account_id, _AT_ONCE)
            # Of what cannot be deleted, for whatever reason, nothing is expected by trying at once.
            if await self._delete(found.due) and found.has_more:
                continue
            account_id = found.last_account
            if not account_id:
                return

    async def _delete(self, due: Sequence[Due]) -> bool:
        """Deletes them, if they are to be deleted still; says whether any was."""
        clock = asyncio.get_running_loop().time
        has_deleted = False
        for start in range(0, len(due), _AT_ONCE):
            began = clock()
            for each in due[start : start + _AT_ONCE]:
                has_deleted |= await self._expire(each)
            await asyncio.sleep(max(_PAUSE, (clock() - began) * _SHARE))
        return has_deleted

    async def _expire(self, due: Due) -> bool:
        try:
            return await self._replies.expire_conversation(due.account_id, due.id)
        except DatabaseUnavailable:
            raise
        except Exception:  # the others are not to wait for ever
            log.exception("conversation not deleted", conversation_id=due.id)
            return False

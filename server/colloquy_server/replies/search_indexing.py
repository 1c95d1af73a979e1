"""Makes finished messages findable, soon after the transactions that people wait for."""

from __future__ import annotations

import asyncio

import structlog

from colloquy_server.concurrency import wait_up_to
from colloquy_server.database.repository import indexing
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database, DatabaseUnavailable
from colloquy_server.replies.feeds import Feeds

log = structlog.get_logger()

_PAUSE = 0.3
"""Seconds between two looks at least: what is said meanwhile is entered together."""

_INTERVAL = 3.0
"""Seconds between looks for what processes that died did not enter."""


class SearchIndexing:
    """Enters what was said, here or by processes that died, for search."""

    name = "index messages"

    def __init__(self, db: Database, feeds: Feeds) -> None:
        self._db = db
        self._has_changed = feeds.has_changed
        self._left_out: set[str] = set()
        """Conversations of which something cannot be entered, until this process ends."""

    async def run_once(self) -> None:
        """One look for what is due."""
        self._has_changed.clear()
        has_more = await self._index()
        if not has_more:
            await asyncio.sleep(_PAUSE)
            await wait_up_to(_INTERVAL, self._has_changed)

    async def _index(self) -> bool:
        """Enters what is due; says whether to look again at once."""
        batch = await self._db.read(EVERY_ACCOUNT, indexing.due, self._left_out)
        if not batch.reached:
            return False
        try:
            has_entered = await self._enter(batch)
        except DatabaseUnavailable:
            raise
        except Exception:
            log.exception("upkeep failed", work=self.name)
            has_entered = await self._enter_one_by_one(batch)
        return batch.is_cut and has_entered

    async def _enter(self, batch: indexing.Batch) -> bool:
        entries = await asyncio.to_thread(batch.entries)
        return await self._db.write(EVERY_ACCOUNT, indexing.index, entries, batch.reached)

    async def _enter_one_by_one(self, batch: indexing.Batch) -> bool:
        """Finds out with which conversation something is wrong, and enters the others."""
        has_entered = False
        for conversation_id in batch.reached:
            try:
                has_entered |= await self._enter(batch.of(conversation_id))
            except DatabaseUnavailable:
                raise
            except Exception:
                log.exception("upkeep failed", work=self.name, id=conversation_id)
                self._left_out.add(conversation_id)
        return has_entered

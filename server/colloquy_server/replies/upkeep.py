"""The background work of a process: loops that save, renew, fence, poll, index, expire, erase and
schedule, each for ever. What each does is in the module of its class."""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from colloquy_server.database.transactions import Database, DatabaseUnavailable
from colloquy_server.replies.backlog import BacklogGauges
from colloquy_server.replies.budget_sweep import BudgetSweep
from colloquy_server.replies.bus import Bus
from colloquy_server.replies.checkpoints import Checkpoints
from colloquy_server.replies.engine import Replies
from colloquy_server.replies.erasure import Erasure
from colloquy_server.replies.feeds import Feeds
from colloquy_server.replies.polling import Polling
from colloquy_server.replies.removal_sweep import RemovalSweep
from colloquy_server.replies.renewal import LeaseExpiry, LeaseRenewal, TitleRenewal
from colloquy_server.replies.retention_sweep import RetentionSweep
from colloquy_server.replies.scheduler import Scheduler
from colloquy_server.replies.search_indexing import SearchIndexing
from colloquy_server.replies.titles import Titles
from colloquy_server.settings import Settings
from colloquy_server.telemetry import Telemetry

log = structlog.get_logger()

_DATABASE_PAUSE = 0.1
_FAILURE_PAUSE = 1.0
"""Seconds before a loop goes on after the database was away, or after something nobody thought
of."""


class Loop(Protocol):
    """Work that is done again and again; each time it waits by itself until it is due."""

    @property
    def name(self) -> str:
        """What it does, for the log."""

    async def run_once(self) -> None:
        """Does it once. May raise anything."""


class Upkeep:
    """Runs the loops of one process."""

    def __init__(
        self,
        db: Database,
        bus: Bus,
        feeds: Feeds,
        replies: Replies,
        titles: Titles,
        settings: Settings,
        telemetry: Telemetry,
    ) -> None:
        ownership = replies.ownership
        self._loops: tuple[Loop, ...] = (
            Checkpoints(db, ownership, replies.publisher),
            LeaseRenewal(ownership, bus, settings.lease_ttl),
            TitleRenewal(db, titles, settings.lease_ttl),
            LeaseExpiry(ownership),
            Polling(feeds),
            SearchIndexing(db, feeds),
            Erasure(db, replies),
            RemovalSweep(db),
            RetentionSweep(db, replies),
            BudgetSweep(db),
            Scheduler(db, feeds, ownership, replies.executor, titles, replies.price, telemetry),
            *([BacklogGauges(db, telemetry)] if telemetry.counts else []),
        )
        self._titles = titles
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins; also takes over at once what a dead process left."""
        self._tasks = [asyncio.create_task(_forever(loop)) for loop in self._loops]

    async def stop(self) -> None:
        """Ends all background work."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._titles.stop()


async def _forever(loop: Loop) -> None:
    while True:
        try:
            await loop.run_once()
        except DatabaseUnavailable:
            log.warning("database is away", work=loop.name)
            await asyncio.sleep(_DATABASE_PAUSE)
        except Exception:
            log.exception("upkeep failed", work=loop.name)
            await asyncio.sleep(_FAILURE_PAUSE)

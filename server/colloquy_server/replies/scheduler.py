"""Finds work that nobody does: takes over the replies of dead owners, starts those that wait, and
has owed titles made."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import structlog

from colloquy_server.concurrency import wait_up_to
from colloquy_server.database.repository import leases, queue
from colloquy_server.database.repository import titles as title_rows
from colloquy_server.database.repository.changes import Lease, Transition
from colloquy_server.database.repository.usage import Pricing
from colloquy_server.database.rows import MessageRow
from colloquy_server.database.transactions import (
    EVERY_ACCOUNT,
    Database,
    DatabaseUnavailable,
    Session,
)
from colloquy_server.replies.executor import Executor
from colloquy_server.replies.feeds import Feeds
from colloquy_server.replies.ownership import Ownership
from colloquy_server.replies.titles import Titles
from colloquy_server.telemetry import Telemetry

T = TypeVar("T")

log = structlog.get_logger()

_INTERVAL = 1.0
"""Seconds between looks for work that nobody told us of."""

_PAUSE = 0.1
"""Seconds between two looks at least: every end of a reply asks for one, and with many replies
one look serves many ends."""

_LIMIT = 100
_SPARE = 8
"""Replies or titles claimed in one look, and how many more are looked at, which are next if one of
the first cannot be started."""


class Scheduler:
    """Claims as much as there is room for."""

    name = "schedule"

    def __init__(
        self,
        db: Database,
        feeds: Feeds,
        ownership: Ownership,
        executor: Executor,
        titles: Titles,
        price: Pricing,
        telemetry: Telemetry,
    ) -> None:
        self._price = price
        self._db = db
        self._feeds = feeds
        self._ownership = ownership
        self._executor = executor
        self._titles = titles
        self._telemetry = telemetry

    async def run_once(self) -> None:
        """One look for work."""
        ownership = self._ownership
        ownership.has_work.clear()
        room = min(max(ownership.room, 0), _LIMIT)
        expired, waiting, owed = await self._db.read(
            EVERY_ACCOUNT, _find_work, room, ownership.lease
        )
        for row in expired:
            if ownership.room > 0 and not ownership.holds(row.id):
                await _isolated(self._take_over(row), "take over", row.id)
        has_more = await self._start(waiting, room)
        if not ownership.is_draining:
            for account_id, conversation_id in owed:
                self._titles.begin(account_id, conversation_id)
        if not has_more:
            await asyncio.sleep(_PAUSE)
            await wait_up_to(_INTERVAL, ownership.has_work)

    async def _take_over(self, row: MessageRow) -> Transition | None:
        """Takes over a reply of an owner whose lease is over."""
        text, attempt = self._feeds.known_text(row)
        taken = await self._executor.claim(
            row.account_id,
            leases.take_over,
            row.conversation_id,
            row.id,
            self._ownership.lease,
            text,
            attempt,
            self._price,
        )
        if taken is not None:
            was_released = row.lease_until == leases.RELEASED
            self._telemetry.lease_taken_over("released" if was_released else "expired")
        return taken

    async def _start(self, waiting: list[tuple[str, str]], room: int) -> bool:
        """Starts replies that wait, as far as there is room; says whether to look again at once.
        There was `room` when they were found."""
        ownership = self._ownership
        ownership.others_wait = len(waiting) > room
        started = 0
        for account_id, conversation_id in waiting:
            if ownership.room <= 0:
                break
            claiming = self._executor.claim(
                account_id, queue.start, conversation_id, ownership.lease
            )
            started += await _isolated(claiming, "start", conversation_id) is not None
        return ownership.others_wait and started > 0 and ownership.room > 0


def _find_work(
    s: Session, room: int, lease: Lease
) -> tuple[list[MessageRow], list[tuple[str, str]], list[tuple[str, str]]]:
    """Replies of dead owners, conversations in which a reply waits, and those that owe a title."""
    return (
        leases.expired(s, room, lease.ttl) if room else [],
        queue.startable(s, room + _SPARE, lease.per_account),
        title_rows.owed(s, _LIMIT, lease.ttl),
    )


async def _isolated(work: Awaitable[T], name: str, identifier: str) -> T | None:
    """Does one of many things; what is wrong with it does not keep the others from being done."""
    try:
        return await work
    except DatabaseUnavailable:
        raise
    except Exception:
        log.exception("upkeep failed", work=name, id=identifier)
        return None

"""What a process does all the time: it saves live replies, holds their leases, takes over what
others left, starts what waits, and makes titles that are owed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from colloquy_server.database.engine import EVERY_ACCOUNT, Database, DatabaseUnavailable
from colloquy_server.database.models import MICROS
from colloquy_server.database.repository import conversations, leases
from colloquy_server.replies.bus import Bus
from colloquy_server.replies.engine import Replies, texts_of
from colloquy_server.replies.feeds import Feeds
from colloquy_server.replies.titles import Titles
from colloquy_server.settings import Settings

T = TypeVar("T")

log = structlog.get_logger()

_CHECKPOINT_PAUSE = 0.1
"""Seconds between two checkpoints at least, also when replies grow fast."""

_CHECKPOINT_INTERVAL = 1.0 - 2 * _CHECKPOINT_PAUSE
"""Seconds to wait for fast growth after that: with the time that a checkpoint takes, replies are
saved every second."""

_EXPIRY_INTERVAL = 0.25
"""Seconds between looks whether a lease of this process is over."""

_POLL_INTERVAL = 1.0
_BUS_DOWN_INTERVAL = 0.25

_SCAN_INTERVAL = 1.0
"""Seconds between looks for work that nobody told us of."""

_SCAN_PAUSE = 0.1
"""Seconds between two looks at least: every end of a reply asks for one, and with many replies
one look serves many ends."""

_SCAN_LIMIT = 100
_SPARE = 8
"""Replies or titles taken on in one look, and how many more are looked at, which are in line if one
of the first cannot be started."""


class Upkeep:
    """The background work of one process."""

    def __init__(
        self,
        db: Database,
        bus: Bus,
        feeds: Feeds,
        replies: Replies,
        titles: Titles,
        settings: Settings,
    ) -> None:
        self._db = db
        self._bus = bus
        self._feeds = feeds
        self._replies = replies
        self._titles = titles
        self._ttl = settings.lease_ttl
        self._per_account = settings.max_live_replies_per_account
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins; also takes up at once what a dead process left."""
        loops = (
            self._save,
            self._renew,
            self._renew_titles,
            self._give_up,
            self._poll,
            self._look_for_work,
        )
        self._tasks = [asyncio.create_task(self._forever(loop)) for loop in loops]

    async def stop(self) -> None:
        """Ends all background work."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._titles.stop()

    async def _forever(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except DatabaseUnavailable:
                log.warning("database is away", work=step.__name__)
                await asyncio.sleep(_CHECKPOINT_PAUSE)
            except Exception:
                log.exception("upkeep failed", work=step.__name__)
                await asyncio.sleep(_SCAN_INTERVAL)

    async def _save(self) -> None:
        """One checkpoint of all live replies that have grown."""
        await _first(self._replies.publisher.needs_checkpoint, _CHECKPOINT_INTERVAL)
        self._replies.publisher.needs_checkpoint.clear()
        grown = [reply for reply in self._replies.live.values() if len(reply.text) > reply.saved]
        texts = texts_of(grown)
        if texts:
            lost = await self._db.write_first(EVERY_ACCOUNT, leases.checkpoint, texts)
            for text in texts:
                reply = self._replies.live.get(text.message_id)
                if reply is None or reply.epoch != text.epoch:
                    continue
                if text.message_id in lost:
                    self._replies.lose(reply)
                elif reply.attempt == text.attempt:
                    reply.saved = len(text.content)
        await asyncio.sleep(_CHECKPOINT_PAUSE)

    async def _renew(self) -> None:
        """One renewal of all leases."""
        # Without the bus nobody can tell an owner that its reply was cancelled: it looks often.
        await asyncio.sleep(self._ttl / 3 if self._bus.is_up else _BUS_DOWN_INTERVAL)
        await self._replies.renew()

    async def _renew_titles(self) -> None:
        """The same for titles, apart, because this waits for whoever changes a conversation."""
        await asyncio.sleep(self._ttl / 3)
        if self._titles.making:
            ttl = int(self._ttl * MICROS)
            making = set(self._titles.making)
            await self._db.write(EVERY_ACCOUNT, conversations.renew_titles, making, ttl)

    async def _give_up(self) -> None:
        """Lets go of replies whose lease is over, also while a renewal hangs."""
        await asyncio.sleep(_EXPIRY_INTERVAL)
        self._replies.give_up_expired()

    async def _poll(self) -> None:
        """Looks for what the bus may have lost."""
        await asyncio.sleep(_POLL_INTERVAL)
        await self._feeds.poll()

    async def _look_for_work(self) -> None:
        """Takes over replies of dead owners, starts replies that wait, makes owed titles."""
        replies = self._replies
        replies.has_work.clear()
        if replies.room > 0:
            for row in await self._db.read(
                EVERY_ACCOUNT, leases.expired, min(replies.room, _SCAN_LIMIT)
            ):
                if replies.room > 0:
                    await _apart(replies.take_over(row), "take over", row.id)
        has_more = await self._start_waiting()
        if not replies.is_draining:
            for account_id, conversation_id in await self._db.read(
                EVERY_ACCOUNT, conversations.owed_titles, _SCAN_LIMIT
            ):
                self._titles.begin(account_id, conversation_id)
        if not has_more:
            await asyncio.sleep(_SCAN_PAUSE)
            await _first(replies.has_work, _SCAN_INTERVAL)

    async def _start_waiting(self) -> bool:
        """Starts replies that wait, as far as there is room; says whether to look again at once."""
        replies = self._replies
        room = min(max(replies.room, 0), _SCAN_LIMIT)
        waiting = await self._db.read(
            EVERY_ACCOUNT, leases.startable, room + _SPARE, self._per_account
        )
        replies.others_wait = len(waiting) > room
        started = 0
        for account_id, conversation_id in waiting:
            if replies.room <= 0:
                break
            taking = replies.take(account_id, leases.start, conversation_id, replies.lease)
            started += await _apart(taking, "start", conversation_id) is not None
        return replies.others_wait and started > 0 and replies.room > 0


async def _apart(work: Awaitable[T], name: str, identifier: str) -> T | None:
    """Does one of many things; what is wrong with it does not keep the others from being done."""
    try:
        return await work
    except DatabaseUnavailable:
        raise
    except Exception:
        log.exception("upkeep failed", work=name, id=identifier)
        return None


async def _first(event: asyncio.Event, patience: float) -> None:
    """Waits for the event, but no longer than `patience` seconds."""
    try:
        async with asyncio.timeout(patience):
            await event.wait()
    except TimeoutError:
        pass

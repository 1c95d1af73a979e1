"""What watchers wait on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from colloquy_server.api.tokens import Position
from colloquy_server.api.watcher import Watcher
from colloquy_server.database.engine import open_database
from colloquy_server.database.repository.changes import Change
from colloquy_server.database.repository.feed import Page
from colloquy_server.database.rows import MessageRow
from colloquy_server.database.transactions import DatabaseUnavailable
from colloquy_server.replies.bus import MemoryBus
from colloquy_server.replies.feeds import Feed, Feeds

GONE = MessageRow("m", "account", "conversation", 1, 1, None, 3, 7, None, 0, 0, deleted=True)
DELETION = Change("conversation", 7, (GONE,))


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Feed]:
    db = open_database(f"sqlite:///{tmp_path}/colloquy.db", 1)
    yield Feed(Feeds(db, MemoryBus()), "account", "conversation")
    await db.close()


async def test_a_wait_may_begin_when_another_is_due_at_once(watched: Feed) -> None:
    waits = [asyncio.create_task(watched.changed(patience)) for patience in (0, 0.0001, 0)]
    async with asyncio.timeout(60):
        assert await asyncio.gather(*waits) == [False, False, False]


async def test_what_is_new_ends_every_wait(watched: Feed) -> None:
    waits = [asyncio.create_task(watched.changed(patience)) for patience in (60, 30, 90)]
    await asyncio.sleep(0)
    watched.wake()
    async with asyncio.timeout(60):
        assert await asyncio.gather(*waits) == [True, True, True]
    watched.stop()


async def test_a_version_that_was_only_found_is_read_from_the_database(watched: Feed) -> None:
    """Another process made it, and what it changed is not known here yet."""
    watched.notice(5)
    watched.apply(Change("conversation", 6, is_hint=True))
    assert (watched.floor, watched.version) == (6, 6)  # a watcher at 5 is behind
    watched.apply(Change("conversation", 7))
    assert (watched.floor, watched.version) == (6, 7)


async def test_after_a_deletion_nothing_is_told_of_what_was_said_before(watched: Feed) -> None:
    watched.notice(5)
    watched.apply(Change("conversation", 6))
    watched.apply(DELETION)
    assert (watched.floor, watched.version) == (7, 7)


class Reads:
    """A feed's reads of the database, each of which ends when the test says so."""

    def __init__(self, feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
        self.feed = feed
        self.begun: list[asyncio.Future[Page]] = []
        monkeypatch.setattr(feed._feeds.db, "read", self._read)

    async def _read(self, *_: Any) -> Page:
        self.begun.append(asyncio.get_running_loop().create_future())
        return await self.begun[-1]

    async def watch(self, since: int, followed: str = "") -> asyncio.Task[Page]:
        """A watcher that asks for what follows, and has begun to wait for it."""
        task = asyncio.create_task(self.feed.changes(since, followed))
        for _ in range(3):
            await asyncio.sleep(0)
        return task

    def end(self, version: int) -> Page:
        """The latest read ends with changes up to this version."""
        page = Page(version, 0, [], None, None)
        self.begun[-1].set_result(page)
        return page


@pytest.fixture
def reads(watched: Feed, monkeypatch: pytest.MonkeyPatch) -> Reads:
    watched.notice(5)
    return Reads(watched, monkeypatch)


async def test_all_watchers_at_one_place_share_a_read(reads: Reads) -> None:
    tasks = [await reads.watch(4) for _ in range(50)]
    page = reads.end(5)
    assert all(taken is page for taken in await asyncio.gather(*tasks))
    assert await (await reads.watch(4)) is page, "who comes later"
    assert len(reads.begun) == 1


async def test_what_was_read_before_a_deletion_is_not_kept(reads: Reads) -> None:
    watcher = await reads.watch(4)
    reads.feed.apply(DELETION)
    reads.end(6)
    await watcher
    assert reads.feed._last_read is None


async def test_who_stands_elsewhere_or_follows_another_reply_reads_alone(reads: Reads) -> None:
    tasks = [await reads.watch(*place) for place in ((4, ""), (3, ""), (4, "reply"))]
    pages = [Page(5, 0, [], None, None) for _ in tasks]
    for read, page in zip(reads.begun, pages, strict=True):
        read.set_result(page)
    taken = await asyncio.gather(*tasks)
    assert all(mine is page for mine, page in zip(taken, pages, strict=True))
    other = await reads.watch(3)
    page = reads.end(5)
    assert await other is page


@pytest.mark.parametrize("reached", [4, 5])
async def test_a_page_is_not_shared_when_there_is_more(reads: Reads, reached: int) -> None:
    """Also one that was read just before, and so says nothing new."""
    first = await reads.watch(4)
    reads.feed.notice(6)
    reads.end(reached)
    await first
    second = await reads.watch(4)
    page = reads.end(6)
    assert await second is page


async def test_an_error_reaches_all_who_wait_and_the_next_read_is_new(reads: Reads) -> None:
    tasks = [await reads.watch(4) for _ in range(3)]
    reads.begun[-1].set_exception(DatabaseUnavailable())
    for task in tasks:
        with pytest.raises(DatabaseUnavailable):
            await task
    again = await reads.watch(4)
    page = reads.end(5)
    assert await again is page
    assert len(reads.begun) == 2


async def test_who_goes_away_takes_nothing_from_those_who_wait(reads: Reads) -> None:
    reader, waiter, *others = [await reads.watch(4) for _ in range(10)]
    waiter.cancel()
    await asyncio.wait([waiter])
    assert len(reads.begun) == 1
    reader.cancel()
    await asyncio.wait([reader])
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(reads.begun) == 2, "one of them reads for all"
    page = reads.end(5)
    assert all(taken is page for taken in await asyncio.gather(*others))


async def test_who_reads_a_part_of_the_changes_learns_of_the_audience_that_comes_after_them(
    watched: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their text may be newer than that change, and has to wait until it is known who sees it."""

    async def changes(*_: object) -> Page:
        return Page(5, 9, [], None, None)

    monkeypatch.setattr(watched, "changes", changes)
    watched.notice(9)
    watcher = Watcher(watched, Position(1), audience_version=1)
    await watcher.catch_up()
    assert watcher.audience_version == 9

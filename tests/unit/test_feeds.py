"""What watchers wait on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from colloquy_server.database.engine import open_database
from colloquy_server.replies.bus import MemoryBus
from colloquy_server.replies.feeds import Feed, Feeds


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Feed]:
    db = open_database(f"sqlite:///{tmp_path}/colloquy.db", 1)
    yield Feed(Feeds(db, MemoryBus()), "account", "conversation")
    await db.close()


async def test_a_wait_may_begin_when_another_is_due_at_once(watched: Feed) -> None:
    waits = [asyncio.create_task(watched.changed(patience)) for patience in (0, 0.0001, 0)]
    async with asyncio.timeout(5):
        assert await asyncio.gather(*waits) == [False, False, False]


async def test_what_is_new_ends_every_wait(watched: Feed) -> None:
    waits = [asyncio.create_task(watched.changed(patience)) for patience in (60, 30, 90)]
    await asyncio.sleep(0)
    watched.wake()
    async with asyncio.timeout(5):
        assert await asyncio.gather(*waits) == [True, True, True]
    watched.stop()

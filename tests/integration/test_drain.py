"""What a server that shuts down does with replies that are on their way to it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from colloquy.api import resources_pb2 as resources
from colloquy_server.database.models import Message
from colloquy_server.database.repository.sending import Sent
from colloquy_server.database.transactions import EVERY_ACCOUNT
from sqlalchemy import select

from tests.harness import Colloquy


async def test_a_reply_that_is_being_stored_while_its_server_drains_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Colloquy(tmp_path, replicas=2, lease_ttl=30) as colloquy:
        first, second = colloquy.apps
        stored, go = asyncio.Event(), asyncio.Event()
        write: Any = first.db.write

        async def late(*args: Any, **fields: Any) -> Any:
            result = await write(*args, **fields)
            if isinstance(result, Sent):
                stored.set()
                await go.wait()
            return result

        monkeypatch.setattr(first.db, "write", late)
        alice = await colloquy.account("alice")
        conversation = await alice.create(title="Drain")
        watch = alice.watch(conversation.id)
        await watch.until("conversation")
        sending = alice.send(conversation.id)
        await stored.wait()
        colloquy.apps.remove(first)
        stopping = asyncio.create_task(first.stop(grace=0))
        await asyncio.sleep(0.1)
        go.set()
        await stopping
        event = await watch.until(
            lambda e: e.message.state > resources.Message.STATE_GENERATING and e.message.attempt > 0
        )
        assert event.message.state == resources.Message.STATE_COMPLETED
        assert len(colloquy.provider.reply_requests) == 1
        strikes = await second.db.read(
            EVERY_ACCOUNT,
            lambda s: s.scalars(
                select(Message.strikes).where(Message.id == event.message.id)
            ).one(),
        )
        assert strikes == 0
        sending.cancel()
        watch.cancel()

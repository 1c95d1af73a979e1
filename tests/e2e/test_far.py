"""What a server owes to those who watch and stop the replies of another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy_server.database.repository import feed as feed_reads
from colloquy_server.database.transactions import DatabaseUnavailable
from colloquy_server.replies.bus import Event

from tests.fakes.provider import Answer
from tests.harness import Caller, Colloquy, Stream, settle


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Colloquy]:
    """Two servers; leases are renewed seldom, so that nothing is noticed by a renewal."""
    async with Colloquy(tmp_path, replicas=2, lease_ttl=60) as running:
        yield running


@pytest.fixture
async def alice(fleet: Colloquy) -> Caller:
    return await fleet.account()


async def test_a_watched_reply_is_asked_for_as_long_as_it_is_watched(
    fleet: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner stops telling its text some seconds after it was asked for last."""
    monkeypatch.setattr("colloquy_server.replies.polling._INTERVAL", 0.05)
    asked: list[Event] = []
    fleet.app.bus.subscribe(lambda event: asked.append(event) if event["kind"] == "want" else None)
    conversation = await alice.create(title="Far")
    gate = asyncio.Event()
    fleet.provider.script(Answer(tokens=10, gate_after=5, gate=gate))
    sent = alice.send(conversation.id)
    await sent.until("delta")
    watch = alice.watch(conversation.id)
    await watch.until("message")
    await settle(lambda: len(asked) >= 4)
    gate.set()
    reply = await sent.reply()
    assert (await watch.final(reply.id)).content == reply.content
    watch.cancel()


async def test_a_reply_that_began_after_a_token_is_told_elsewhere_at_once(
    fleet: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("colloquy_server.replies.polling._INTERVAL", 600)
    await fleet.restart()  # so that no look at the database is due
    alice = alice.at(fleet)
    conversation = await alice.create(title="Far")
    gates = [asyncio.Event(), asyncio.Event()]
    fleet.provider.script(*[Answer(tokens=10, gate_after=5, gate=gate) for gate in gates])
    first = alice.send(conversation.id, "First")
    await first.until("delta")
    second = alice.send(conversation.id, "Second")
    await second.accepted()
    gates[0].set()
    await second.until("delta")
    told = second.transcript.messages[second.events[0].accepted.reply.id].content
    assert told
    watch = alice.watch(conversation.id, second.events[-1].resume_token, second.transcript)
    gates[1].set()
    reply = await watch.final(second.events[0].accepted.reply.id)
    assert reply.state == resources.Message.STATE_COMPLETED
    assert second.transcript.messages[reply.id].content == reply.content
    watch.cancel()


async def _begins(watch: Stream, reply_id: str) -> None:
    await watch.until(lambda event: event.message.id == reply_id)


async def test_many_watchers_elsewhere_read_no_more_than_one(
    fleet: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = fleet.apps[-1].db
    read = db.read
    reads = 0

    async def counted(account_id: str, fn: Any, *arguments: Any, **more: Any) -> Any:
        nonlocal reads
        reads += fn is feed_reads.changes
        return await read(account_id, fn, *arguments, **more)

    monkeypatch.setattr(db, "read", counted)

    async def cost(watchers: int) -> int:
        """Reads of two replies, each of whose changes all watchers see before the next."""
        nonlocal reads
        conversation = await alice.create(title="Far")
        watches = [alice.watch(conversation.id) for _ in range(watchers)]
        await asyncio.gather(*(watch.until("conversation") for watch in watches))
        reads = 0
        for number in range(2):
            gate = asyncio.Event()
            fleet.provider.script(Answer(tokens=40, gate_after=20, gate=gate))
            sent = alice.send(conversation.id, f"Number {number}")
            reply = (await sent.accepted()).reply
            await asyncio.gather(*(_begins(watch, reply.id) for watch in watches))
            gate.set()
            final = await sent.reply()
            for told in await asyncio.gather(*(watch.final(reply.id) for watch in watches)):
                assert told == final
            for watch in watches:
                assert watch.transcript.joined[reply.id, 1] == final.content
        for watch in watches:
            watch.cancel()
        return reads

    one = await cost(1)
    assert one == 4, "a reply begins and ends"
    assert await cost(50) == one


async def test_a_conversation_that_is_deleted_elsewhere_stops_its_reply(
    fleet: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Far")
    fleet.provider.script(Answer(tokens=10, gate_after=5, gate=asyncio.Event()))
    sent = alice.send(conversation.id)
    await sent.until("delta")
    await alice.call(
        "DeleteConversation", api.DeleteConversationRequest(conversation_id=conversation.id)
    )
    async with asyncio.timeout(60):
        await fleet.provider.reply_requests[0].ended()
    assert fleet.provider.reply_requests[0].outcome == "client closed"
    await sent.rest()


async def test_an_owner_whose_renewal_hangs_stops_when_its_lease_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Colloquy(tmp_path, lease_ttl=1) as colloquy:
        alice = await colloquy.account()
        conversation = await alice.create(title="Hangs")
        colloquy.provider.script(Answer(tokens=10, gate_after=5, gate=asyncio.Event()))
        sent = alice.send(conversation.id)
        await sent.until("delta")

        is_over = asyncio.Event()

        async def hang(*_: object) -> None:
            await is_over.wait()
            raise DatabaseUnavailable

        monkeypatch.setattr(colloquy.app.db, "write_first", hang)
        async with asyncio.timeout(60):
            await colloquy.provider.reply_requests[0].ended()
        assert colloquy.provider.reply_requests[0].outcome == "client closed"
        sent.cancel()
        is_over.set()

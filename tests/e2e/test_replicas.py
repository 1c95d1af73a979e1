"""What only shows with several servers over one Postgres."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy_server.database import migrate

from tests import postgres
from tests.e2e.talk import text_of
from tests.fakes.provider import Answer
from tests.harness import Colloquy, ServerProcess, settle

Message = resources.Message


@pytest.fixture
async def fleet(tmp_path: Path, postgres_url: str) -> AsyncIterator[Colloquy]:
    """Two servers over one Postgres."""
    async with Colloquy(tmp_path, postgres_url, replicas=2) as running:
        yield running


async def test_late_joiners_on_another_replica_see_the_exact_text_and_its_beginning_at_once(
    fleet: Colloquy,
) -> None:
    """Each sees what there is before any more of it comes."""
    alice = await fleet.account()
    conversation = await alice.create()
    gate = asyncio.Event()
    fleet.provider.script(Answer(tokens=400, rate=200, gate_after=200, gate=gate))
    sent = alice.send(conversation.id)
    reply_id = (await sent.accepted()).reply.id
    await sent.until("delta")
    joined: list[int] = []

    async def join(number: int) -> Message:
        await settle(lambda: len(sent.transcript.messages[reply_id].content) > number * 20)
        watch = alice.watch(conversation.id)
        await watch.until(
            lambda e: (
                e.WhichOneof("event") == "delta"
                or (e.WhichOneof("event") == "message" and e.message.content != "")
            )
        )
        joined.append(number)
        if len(joined) == 40:
            gate.set()  # nobody comes after the end
        final = await watch.final(reply_id)
        held = watch.transcript.messages[reply_id]
        watch.cancel()
        assert held.content == final.content
        return final

    reading = asyncio.create_task(sent.reply())
    told = await asyncio.gather(*(join(number) for number in range(40)))
    assert {final.content for final in told} == {(await reading).content}


async def test_a_cancel_ends_a_reply_whose_server_is_stopped_and_that_server_sends_no_more(
    fleet: Colloquy,
) -> None:
    process = ServerProcess(fleet, LEASE_TTL="3600")  # its end is not what ends the reply
    alice = await fleet.account()
    near = alice.on(await process.start())
    conversation = await alice.create()
    gate = asyncio.Event()
    fleet.provider.script(Answer(tokens=2_000, rate=100, gate_after=10, gate=gate))
    sent = near.send(conversation.id)
    reply_id = (await sent.accepted()).reply.id
    watch = alice.watch(conversation.id)
    # What the owner has shown to its own watchers alone nobody else can know when it stops.
    for stream in (sent, watch):
        await text_of(stream, reply_id, 10)

    process.send_signal(signal.SIGSTOP)
    gate.set()
    try:
        cancelled = await alice.cancel(reply_id)
    finally:
        process.send_signal(signal.SIGCONT)
    assert cancelled.state == Message.STATE_CANCELLED
    assert (await watch.final(reply_id)).content == cancelled.content
    # The one that slept tells its own watcher the same end, and nothing that came after it.
    final = await sent.reply()
    assert final.content == cancelled.content
    assert sent.transcript.joined[reply_id, 1] == cancelled.content
    await fleet.provider.reply_requests[-1].ended()
    assert (await alice.message(reply_id)).content == cancelled.content
    await process.end(signal.SIGTERM)


async def test_a_cancel_ends_a_reply_whose_server_is_dead(fleet: Colloquy) -> None:
    alice = await fleet.account()
    process = ServerProcess(fleet, LEASE_TTL="3600")
    near = alice.on(await process.start())
    conversation = await alice.create()
    fleet.provider.script(Answer(tokens=2_000, rate=100))
    sent = near.send(conversation.id)
    reply_id = (await sent.accepted()).reply.id
    await sent.until("delta")
    await process.end(signal.SIGKILL)
    assert (await alice.cancel(reply_id)).state == Message.STATE_CANCELLED


async def test_a_server_that_slept_past_its_lease_writes_and_sends_nothing_more(
    fleet: Colloquy,
) -> None:
    process = ServerProcess(fleet, LEASE_TTL="1")
    alice = await fleet.account()
    near = alice.on(await process.start())
    conversation = await alice.create(title="Zombie")
    fleet.provider.script(Answer(tokens=300, rate=100), Answer(tokens=30))
    sent = near.send(conversation.id)
    reply_id = (await sent.accepted()).reply.id
    await sent.until("delta")
    watch = alice.watch(conversation.id)
    process.send_signal(signal.SIGSTOP)
    final = await watch.final(reply_id)
    process.send_signal(signal.SIGCONT)
    assert final.state == Message.STATE_COMPLETED
    assert final.attempt == 2
    assert final.content == fleet.provider.reply_requests[1].text
    seen = await sent.reply()
    assert seen.content == final.content
    assert sent.transcript.joined[reply_id, 2] == final.content
    assert (await alice.message(reply_id)).content == final.content
    await process.end(signal.SIGTERM)


async def test_a_planned_stop_hands_its_replies_to_a_peer(fleet: Colloquy) -> None:
    alice = await fleet.account()
    process = ServerProcess(fleet, LEASE_TTL="3600", SHUTDOWN_GRACE="0")
    near = alice.on(await process.start())
    conversation = await alice.create(title="Drain")
    fleet.provider.script(Answer(tokens=2_000, rate=100), Answer(tokens=30))
    sent = near.send(conversation.id)
    reply_id = (await sent.accepted()).reply.id
    await sent.until("delta")
    process.send_signal(signal.SIGTERM)
    final = await alice.watch(conversation.id, sent.events[-1].resume_token).final(reply_id)
    assert final.state == Message.STATE_COMPLETED
    assert final.attempt == 2
    await process.end()


@pytest.mark.timeout(360)
async def test_a_thousand_queued_replies_of_one_account_do_not_delay_another(
    tmp_path: Path,
) -> None:
    """The other one's is among the next that are asked for when places become free."""
    places = 4
    async with Colloquy(tmp_path, max_live_replies=places, max_live_replies_per_account=8) as fleet:
        gate = asyncio.Event()
        fleet.provider.default = Answer(tokens=20, gate_after=10, gate=gate)
        alice, bob = await fleet.account("alice"), await fleet.account("bob")
        crowd = [await alice.create(title="Crowd") for _ in range(10)]
        for _ in range(100):
            batch = [alice.send(conversation.id, "Crowd") for conversation in crowd]
            await asyncio.gather(*(stream.accepted() for stream in batch))
            for stream in batch:
                stream.cancel()
        await fleet.provider.wait_for_requests(places)
        conversation = await bob.create(title="Alone")
        stream = bob.send(conversation.id, "Alone")
        await stream.accepted()
        gate.set()
        assert (await stream.reply()).state == Message.STATE_COMPLETED
        asked = [request.last_user_text for request in fleet.provider.reply_requests]
        assert asked.index("Alone") < 2 * places, asked
        for one in crowd:  # so that the end need not wait for them
            request = api.DeleteConversationRequest(conversation_id=one.id)
            await alice.call("DeleteConversation", request)


def test_two_servers_that_migrate_at_once_both_succeed(postgres_server: str) -> None:
    with postgres.empty_database(postgres_server) as url:
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(migrate.upgrade, url) for _ in range(2)]:
                done.result()
        assert migrate.fit(url) is migrate.Fit.CURRENT


async def test_with_the_bus_down_watchers_follow_the_checkpoints(
    tmp_path: Path, postgres_url: str
) -> None:
    async with Colloquy(tmp_path, postgres_url, replicas=2, event_bus_url="memory://") as fleet:
        alice = await fleet.account()
        conversation = await alice.create()
        gate = asyncio.Event()
        fleet.provider.script(Answer(tokens=40, gate_after=20, gate=gate))
        sent = alice.send(conversation.id)
        reply_id = (await sent.accepted()).reply.id
        watch = alice.watch(conversation.id)
        await watch.until("delta")
        gate.set()
        final = await watch.final(reply_id)
        assert final.content == watch.transcript.messages[reply_id].content
        assert final.content == (await sent.reply()).content
        assert (await alice.cancel(reply_id)).state == Message.STATE_COMPLETED

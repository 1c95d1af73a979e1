"""What only shows with several servers over one Postgres."""

from __future__ import annotations

import asyncio
import signal
import time
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
from tests.harness import Colloquy, ServerProcess, settle, within

Message = resources.Message


@pytest.fixture
async def fleet(tmp_path: Path, postgres_url: str) -> AsyncIterator[Colloquy]:
    """Two servers over one Postgres."""
    async with Colloquy(tmp_path, postgres_url, replicas=2) as running:
        yield running


@pytest.mark.timed
async def test_late_joiners_on_another_replica_see_the_exact_text_and_its_beginning_at_once(
    fleet: Colloquy,
) -> None:
    alice = await fleet.account()

    async def slowest() -> float:
        conversation = await alice.create()
        gate = asyncio.Event()
        fleet.provider.script(Answer(tokens=400, rate=200, gate_after=200, gate=gate))
        sent = alice.send(conversation.id)
        reply_id = (await sent.accepted()).reply.id
        await sent.until("delta")

        async def join(number: int) -> tuple[float, Message]:
            await settle(lambda: len(sent.transcript.messages[reply_id].content) > number * 20)
            started = time.monotonic()
            watch = alice.watch(conversation.id)
            await watch.until(
                lambda e: (
                    e.WhichOneof("event") == "delta"
                    or (e.WhichOneof("event") == "message" and e.message.content != "")
                )
            )
            waited = time.monotonic() - started
            joined.append(number)
            if len(joined) == 40:
                gate.set()  # nobody comes after the end
            final = await watch.final(reply_id)
            held = watch.transcript.messages[reply_id]
            watch.cancel()
            assert held.content == final.content
            return waited, final

        reading = asyncio.create_task(sent.reply())
        joined: list[int] = []
        told = await asyncio.gather(*(join(number) for number in range(40)))
        reply = await reading
        assert {final.content for _, final in told} == {reply.content}
        return max(waited for waited, _ in told)

    await within(0.1, slowest)


@pytest.mark.timed
async def test_a_cancel_ends_a_reply_whose_server_is_stopped_and_that_server_sends_no_more(
    fleet: Colloquy,
) -> None:
    process = ServerProcess(fleet, LEASE_TTL="5")
    alice = await fleet.account()
    near = alice.on(await process.start())

    async def cancelling() -> float:
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
            started = time.monotonic()
            cancelled = await alice.cancel(reply_id)
            took = time.monotonic() - started
        finally:
            process.send_signal(signal.SIGCONT)
        assert cancelled.state == Message.STATE_CANCELLED
        assert (await watch.final(reply_id)).content == cancelled.content
        # The one that slept tells its own watcher the same end, and nothing that came after it.
        final = await sent.reply()
        assert final.content == cancelled.content
        assert sent.transcript.joined[reply_id, 1] == cancelled.content
        async with asyncio.timeout(5):
            await fleet.provider.reply_requests[-1].ended()
        assert (await alice.message(reply_id)).content == cancelled.content
        return took

    await within(1, cancelling)
    await process.end(signal.SIGTERM)


@pytest.mark.timed
async def test_a_cancel_ends_a_reply_whose_server_is_dead(fleet: Colloquy) -> None:
    alice = await fleet.account()

    async def cancelling() -> float:
        process = ServerProcess(fleet, LEASE_TTL="30")
        near = alice.on(await process.start())
        conversation = await alice.create()
        fleet.provider.script(Answer(tokens=2_000, rate=100))
        sent = near.send(conversation.id)
        reply_id = (await sent.accepted()).reply.id
        await sent.until("delta")
        await process.end(signal.SIGKILL)
        started = time.monotonic()
        cancelled = await alice.cancel(reply_id)
        assert cancelled.state == Message.STATE_CANCELLED
        return time.monotonic() - started

    await within(1, cancelling)


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


@pytest.mark.timed
async def test_a_planned_stop_hands_its_replies_to_a_peer_within_a_second(
    fleet: Colloquy,
) -> None:
    alice = await fleet.account()

    async def handing_over() -> float:
        process = ServerProcess(fleet, LEASE_TTL="30", SHUTDOWN_GRACE="0")
        near = alice.on(await process.start())
        conversation = await alice.create(title="Drain")
        fleet.provider.script(Answer(tokens=2_000, rate=100), Answer(tokens=30))
        sent = near.send(conversation.id)
        reply_id = (await sent.accepted()).reply.id
        await sent.until("delta")
        before = len(fleet.provider.requests)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        await fleet.provider.wait_for_requests(before + 1)
        took = time.monotonic() - started
        final = await alice.watch(conversation.id, sent.events[-1].resume_token).final(reply_id)
        assert final.state == Message.STATE_COMPLETED
        assert final.attempt == 2
        await process.end()
        return took

    await within(1, handing_over)


@pytest.mark.timed
@pytest.mark.timeout(120)
async def test_a_thousand_queued_replies_of_one_account_do_not_delay_another(
    tmp_path: Path,
) -> None:
    async with Colloquy(tmp_path, max_live_replies=4, max_live_replies_per_account=8) as fleet:
        fleet.provider.default = Answer(tokens=20, rate=100)
        alice, bob = await fleet.account("alice"), await fleet.account("bob")
        crowd = [await alice.create(title="Crowd") for _ in range(10)]
        for _ in range(100):
            batch = [alice.send(conversation.id) for conversation in crowd]
            await asyncio.gather(*(stream.accepted() for stream in batch))
            for stream in batch:
                stream.cancel()
        conversation = await bob.create(title="Alone")

        async def first_token() -> float:
            started = time.monotonic()
            stream = bob.send(conversation.id)
            await stream.until("delta")
            took = time.monotonic() - started
            await stream.reply()
            return took

        await within(2, first_token)
        for one in crowd:  # so that the end need not wait for them
            request = api.DeleteConversationRequest(conversation_id=one.id)
            await alice.call("DeleteConversation", request)


def test_two_servers_that_migrate_at_once_both_succeed(postgres_server: str) -> None:
    with postgres.empty_database(postgres_server) as url:
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(migrate.upgrade, url) for _ in range(2)]:
                done.result()
        assert migrate.is_current(url)


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

"""How long a reply stands still when its server goes, with leases of the usual length."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from colloquy.api import resources_pb2 as resources

from tests.fakes.provider import Answer, DoubleRequest
from tests.harness import Caller, Colloquy, ServerProcess, Stream, within

REPLIES = 10
LEASE_TTL = 5.0  # the default

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def fleet(tmp_path: Path, postgres_url: str) -> AsyncIterator[Colloquy]:
    """The server in this process is the one that is left; the others are processes beside it."""
    async with Colloquy(tmp_path, postgres_url, lease_ttl=LEASE_TTL) as running:
        yield running


async def test_replies_of_a_killed_server_go_on_within_ten_seconds(fleet: Colloquy) -> None:
    async def standing_still() -> float:
        process = ServerProcess(fleet)
        fleet.provider.requests.clear()
        alice, streams = await _live_replies(fleet, process)
        killed = time.time()
        await process.end(signal.SIGKILL)
        asked = await _asked_again(fleet)
        await _all_are_whole(alice, streams)
        return max(again.arrived_at - killed for _, again in asked)

    await within(10, standing_still)


@pytest.mark.timed
async def test_replies_that_are_released_go_on_within_a_second(fleet: Colloquy) -> None:
    async def standing_still() -> float:
        process = ServerProcess(fleet, SHUTDOWN_GRACE="0")
        fleet.provider.requests.clear()
        alice, streams = await _live_replies(fleet, process)
        ending = asyncio.create_task(process.end(signal.SIGTERM))
        asked = await _asked_again(fleet)
        assert await ending == 0
        await _all_are_whole(alice, streams)
        # A server closes its request to the provider just before it hands the reply back.
        return max(again.arrived_at - (first.ended_at or 0) for first, again in asked)

    await within(1, standing_still)


async def _live_replies(fleet: Colloquy, process: ServerProcess) -> tuple[Caller, list[Stream]]:
    """Replies in the middle of their text, all written by the process; each is watched from the
    server that will be left."""
    fleet.provider.script(*[Answer(gate_after=5, gate=asyncio.Event()) for _ in range(REPLIES)])
    channel = await process.start()
    alice = await fleet.account("alice")
    streams = []
    for number in range(REPLIES):
        conversation = await alice.create(title="Takeover")
        streams.append(alice.watch(conversation.id))
        sending = alice.on(channel).send(conversation.id, f"Prompt {number}")
        await sending.until("delta")
        sending.cancel()
    return alice, streams


async def _asked_again(fleet: Colloquy) -> list[tuple[DoubleRequest, DoubleRequest]]:
    """The requests of each reply: the first server's, the next one's."""
    requests = await fleet.provider.wait_for_requests(2 * REPLIES)
    firsts = {request.last_user_text: request for request in requests[:REPLIES]}
    again = {request.last_user_text: request for request in requests[REPLIES:]}
    assert firsts.keys() == again.keys()
    return [(first, again[prompt]) for prompt, first in firsts.items()]


async def _all_are_whole(alice: Caller, streams: list[Stream]) -> None:
    for stream in streams:
        event = await stream.until(
            lambda e: e.HasField("message") and e.message.state > resources.Message.STATE_GENERATING
            and e.message.role == resources.Message.ROLE_ASSISTANT
        )  # fmt: skip
        assert event.message.state == resources.Message.STATE_COMPLETED
        assert event.message.attempt == 2
        assert len(event.message.content.split()) == Answer().tokens
        assert (await alice.message(event.message.id)).content == event.message.content
        stream.cancel()

"""What becomes of replies whose server goes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from colloquy.api import resources_pb2 as resources

from tests.fakes.provider import Answer
from tests.harness import Caller, Colloquy, ServerProcess, Stream

REPLIES = 10
LEASE_TTL = 5.0  # the default

pytestmark = pytest.mark.timeout(540)


@pytest.fixture
async def fleet(tmp_path: Path, postgres_url: str) -> AsyncIterator[Colloquy]:
    """The server in this process is the one that is left; the others are processes beside it."""
    async with Colloquy(tmp_path, postgres_url, lease_ttl=LEASE_TTL) as running:
        yield running


async def test_replies_of_a_killed_server_go_on_when_its_leases_end(fleet: Colloquy) -> None:
    process = ServerProcess(fleet)
    alice, streams = await _live_replies(fleet, process)
    await process.end(signal.SIGKILL)
    await _asked_again(fleet)
    await _all_are_whole(alice, streams)


async def test_replies_that_are_released_go_on_before_their_leases_would_end(
    fleet: Colloquy,
) -> None:
    process = ServerProcess(fleet, SHUTDOWN_GRACE="0", LEASE_TTL="3600")
    alice, streams = await _live_replies(fleet, process)
    ending = asyncio.create_task(process.end(signal.SIGTERM))
    await _asked_again(fleet)
    assert await ending == 0
    await _all_are_whole(alice, streams)


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


async def _asked_again(fleet: Colloquy) -> None:
    """Waits until the next server has asked for each reply too."""
    requests = await fleet.provider.wait_for_requests(2 * REPLIES)
    first = {request.last_user_text for request in requests[:REPLIES]}
    again = {request.last_user_text for request in requests[REPLIES:]}
    assert first == again


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

"""The disk is full for a while: what cannot be stored is refused, what was accepted is not lost,
and the server goes on by itself when there is room again.

A limit on the size of files stands for the disk: at 0 the system refuses every write to a file, as
it does when no block is free.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from colloquy.api import resources_pb2 as resources

from tests.fakes.provider import Answer
from tests.fleets import ANY
from tests.harness import Caller, Colloquy, ServerProcess
from tests.statuses import refused
from tests.uploads import download, upload

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(sys.platform != "linux", reason="limits another process by prlimit"),
]


@contextmanager
def full_disk(process: ServerProcess) -> Iterator[None]:
    """No room for this process's files meanwhile."""
    before = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, before)


@ANY
async def test_nothing_accepted_is_lost_when_the_disk_is_full(
    colloquy: Colloquy, alice: Caller
) -> None:
    await colloquy.stop()
    process = ServerProcess(colloquy, LEASE_TTL="3600")
    alice = alice.on(await process.start())
    conversation, busy = await alice.create(title="Before"), await alice.create(title="Busy")
    await alice.send(conversation.id).reply()
    file = await upload(alice, b"kept")
    gates = [asyncio.Event(), asyncio.Event()]
    colloquy.provider.script(*(Answer(tokens=9, gate_after=3, gate=gate) for gate in gates))
    live = alice.send(conversation.id, "Live")
    reply = (await live.accepted()).reply
    await live.until("delta")
    queued = alice.send(conversation.id, "Queued", request_id="queued")
    await queued.accepted()
    with full_disk(process):
        for _ in range(2):
            told = await refused(alice.send(busy.id, "No room", request_id="again").rest())
            assert told.status == "UNAVAILABLE"
            assert told.retry_delay
        assert (await refused(upload(alice, b"no room"))).status == "UNAVAILABLE"
        assert (await refused(alice.create())).status == "UNAVAILABLE"
        # What is there is read all the while, and what is being said goes on.
        assert len(await alice.history(conversation.id)) == 6
        assert (await download(alice, file.id))[1] == b"kept"
        gates[0].set()
        said = live.transcript.messages[reply.id]
        while len(said.content.split()) < 9:
            await live.next()
        assert not await alice.history(busy.id)
    # Who was refused asks again, and it is said once; what was accepted comes to its end.
    assert (await live.rest())[-1].message.content == said.content
    gates[1].set()
    again = await alice.send(busy.id, "No room", request_id="again").reply()
    await queued.rest()
    stored = await alice.history(conversation.id)
    assert [message.state for message in stored] == [resources.Message.STATE_COMPLETED] * 6
    assert {message.attempt for message in stored[1::2]} == {1}
    assert [message.content for message in await alice.history(busy.id)] == [
        "No room",
        again.content,
    ]
    assert (await download(alice, (await upload(alice, b"no room")).id))[1] == b"no room"
    assert await process.end(signal.SIGTERM) == 0
    assert not any("Traceback" in line for line in process.lines)
    await colloquy.start()

"""What watchers see of an owner that does not know yet that its reply is over."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from colloquy.api import resources_pb2 as resources

from tests.fakes.provider import Answer
from tests.harness import Colloquy, Stream


async def test_nothing_follows_the_end_of_a_reply_that_was_cancelled_over_its_owners_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Colloquy(tmp_path, replicas=2, lease_ttl=30) as colloquy:
        gate = asyncio.Event()
        colloquy.provider.script(Answer(tokens=400, rate=20, gate_after=6, gate=gate))
        alice = await colloquy.account("alice")
        near = alice.on(colloquy.channel)
        conversation = await alice.create(title="Fenced")
        watch = near.watch(conversation.id)
        await watch.until("conversation")
        sending = alice.send(conversation.id)
        reply = (await sending.accepted()).reply
        await watch.until(lambda e: e.delta.text.endswith("w5 "))
        # As when the owner has no processor for longer than a cancel waits for it.
        monkeypatch.setattr(colloquy.app.replies.ownership, "stop", lambda _reply: None)
        cancelled = await alice.cancel(reply.id)
        assert cancelled.state == resources.Message.STATE_CANCELLED
        final = await watch.final(reply.id)
        assert final.state == resources.Message.STATE_CANCELLED
        resumed = near.watch(conversation.id, watch.events[-1].resume_token)
        gate.set()
        for stream in (watch, resumed):
            assert await _what_follows(stream) == []
        assert (await alice.message(reply.id)).content == final.content
        sending.cancel()


async def _what_follows(stream: Stream) -> list[object]:
    """Events of the next half second."""
    events: list[object] = []
    try:
        async with asyncio.timeout(0.5):
            while True:
                events.append(await stream.next())
    except TimeoutError:
        stream.cancel()
        return events

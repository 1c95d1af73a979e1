"""What an owner does whose reply was fenced, or whose lease is over by its own clock: it stops by
itself, writes nothing and shows nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from colloquy.api import resources_pb2 as resources
from colloquy_server.database.models import Message
from colloquy_server.database.transactions import EVERY_ACCOUNT, Session
from colloquy_server.replies.checkpoints import checkpoints_of
from colloquy_server.replies.live_reply import LiveReply
from colloquy_server.replies.ownership import Ownership
from colloquy_server.replies.publishing import Publisher
from sqlalchemy import update

from tests.fakes.provider import Answer
from tests.harness import Caller, Colloquy, Stream, settle

LONG_TTL = 30
"""Seconds: no renewal comes during a test, unless the test asks for it."""


@dataclass
class Owned:
    """A reply in the middle of its text, and who watches it."""

    colloquy: Colloquy
    alice: Caller
    gate: asyncio.Event
    watch: Stream
    reply: LiveReply

    @property
    def ownership(self) -> Ownership:
        return self.colloquy.app.replies.ownership

    @property
    def publisher(self) -> Publisher:
        return self.colloquy.app.replies.publisher

    async def row(self) -> resources.Message:
        return await self.alice.message(self.reply.message_id)

    async def change(self, **values: Any) -> None:
        """Changes the row, as another process would."""

        def write(s: Session) -> None:
            s.execute(
                update(Message).where(Message.id == self.reply.message_id).values(**values),
                execution_options={"synchronize_session": False},
            )

        await self.colloquy.app.db.write(EVERY_ACCOUNT, write)

    async def is_fenced(self) -> None:
        """Waits until the process has let go of the reply."""
        await settle(lambda: not self.ownership.live, patience=3)


@pytest.fixture
async def owned(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Owned]:
    """The provider waits for the gate after six words, of as many as the test asks for."""
    tokens = getattr(request, "param", 12)
    async with Colloquy(tmp_path, lease_ttl=LONG_TTL) as colloquy:
        gate = asyncio.Event()
        colloquy.provider.script(Answer(tokens=tokens, gate_after=6, gate=gate))
        alice = await colloquy.account("alice")
        conversation = await alice.create(title="Owned")
        watch = alice.watch(conversation.id)
        await watch.until("conversation")
        sending = alice.send(conversation.id)
        reply_id = (await sending.accepted()).reply.id
        await watch.until(lambda e: e.delta.text.endswith("w5 "))
        yield Owned(colloquy, alice, gate, watch, colloquy.app.replies.ownership.live[reply_id])
        sending.cancel()
        watch.cancel()


async def test_nothing_is_shown_after_the_lease(owned: Owned) -> None:
    owned.reply.deadline = 0.0
    owned.gate.set()
    await owned.is_fenced()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await owned.watch.next()


@pytest.mark.parametrize("owned", [6], indirect=True)
async def test_no_end_is_stored_after_the_lease(owned: Owned) -> None:
    """Another process may be about to take the reply over: the answer of the database would not
    be late, but this process cannot know."""
    owned.reply.deadline = 0.0
    owned.gate.set()
    await owned.is_fenced()
    assert (await owned.row()).state == resources.Message.STATE_GENERATING


async def test_nothing_is_saved_after_the_lease(owned: Owned) -> None:
    assert checkpoints_of([owned.reply])
    owned.reply.deadline = 0.0
    assert not checkpoints_of([owned.reply])


async def test_what_could_not_be_renewed_is_fenced(owned: Owned) -> None:
    owned.reply.deadline = 0.0
    owned.ownership.fence_expired()
    assert not owned.ownership.live


async def test_what_comes_after_the_lease_is_not_shown(owned: Owned) -> None:
    shown = owned.reply.text
    owned.reply.deadline = 0.0
    owned.reply.pending.append("more")
    owned.publisher.publish(owned.reply)
    assert owned.reply.text == shown
    assert not owned.ownership.live


async def test_what_came_before_a_suspension_is_not_shown_before_the_owner_looked(
    owned: Owned,
) -> None:
    await owned.change(epoch=Message.epoch + 1)
    shown = owned.reply.text
    owned.reply.pending.append("more")
    owned.publisher.suspend_detector._seen_running_at -= 1  # it did not run for a second
    owned.publisher.publish(owned.reply)
    assert owned.reply.text == shown
    await owned.is_fenced()
    assert owned.reply.text == shown


async def test_a_checkpoint_tells_of_another_owner(owned: Owned) -> None:
    """While its provider says nothing, so that no end can tell it."""
    await owned.change(epoch=Message.epoch + 1)
    owned.reply.pending.append("more")
    owned.publisher.publish(owned.reply)
    owned.publisher.needs_checkpoint.set()
    await owned.is_fenced()


async def test_an_end_tells_of_another_owner(owned: Owned) -> None:
    await owned.change(epoch=Message.epoch + 1)
    owned.gate.set()
    await owned.is_fenced()
    assert (await owned.row()).state == resources.Message.STATE_GENERATING


async def test_a_renewal_tells_of_another_owner(owned: Owned) -> None:
    await owned.change(epoch=Message.epoch + 1)
    await owned.ownership.renew()
    assert not owned.ownership.live


async def test_a_renewal_tells_of_a_cancel(owned: Owned) -> None:
    await owned.change(cancel_requested=True)
    await owned.ownership.renew()
    final = await owned.watch.final(owned.reply.message_id)
    assert final.state == resources.Message.STATE_CANCELLED


async def test_a_renewal_is_one_by_its_own_clock_too(owned: Owned) -> None:
    before = owned.reply.deadline
    await asyncio.sleep(0.01)
    await owned.ownership.renew()
    assert owned.reply.deadline > before


async def test_what_was_fenced_is_not_shown(owned: Owned) -> None:
    owned.ownership.fence(owned.reply)
    shown = owned.reply.text
    owned.reply.pending.append("more")
    owned.publisher.publish(owned.reply)
    assert owned.reply.text == shown

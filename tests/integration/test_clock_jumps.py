"""The database's clock is set back or forward by an hour: leases that were claimed before say
nothing any more, and no reply waits for them, is doubled or begun anew without need."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from colloquy_server.database.models import MICROS
from colloquy_server.database.repository import leases
from colloquy_server.database.transactions import EVERY_ACCOUNT, Session
from sqlalchemy import text

from tests.fakes.provider import Answer
from tests.fleets import ANY
from tests.harness import TITLE, Caller, Colloquy, words

HOUR = 3_600 * MICROS


async def change(colloquy: Colloquy, statement: str, **values: Any) -> None:
    """What a clock that was set leaves in the rows."""

    def run(s: Session) -> None:
        s.execute(text(statement), values)

    await colloquy.app.db.write(EVERY_ACCOUNT, run)


def has_title(event: Any) -> bool:
    """Whether it tells of the conversation as it is when its title was made."""
    return bool(event.HasField("conversation") and event.conversation.title == TITLE)


async def test_a_reply_of_a_dead_owner_goes_on_when_the_clock_was_set_back(
    colloquy: Colloquy, alice: Caller
) -> None:
    await colloquy.restart(lease_ttl=1)
    alice = alice.at(colloquy)
    conversation = await alice.create(title="Set back")
    colloquy.provider.script(Answer(tokens=9, gate_after=3, gate=asyncio.Event()), words(7))
    sending = alice.send(conversation.id)
    reply = (await sending.accepted()).reply
    await sending.until("delta")
    # Its owner is another now, and dead; it renewed its lease when the clock was an hour ahead.
    await change(
        colloquy,
        "UPDATE messages SET epoch = epoch + 1, lease_until = lease_until + :hour WHERE id = :id",
        hour=HOUR,
        id=reply.id,
    )
    ended = await alice.watch(conversation.id, sending.events[-1].resume_token).final(reply.id)
    assert (ended.state, ended.attempt) == (ended.STATE_COMPLETED, 2)
    assert ended.content == colloquy.provider.reply_requests[1].text
    assert len(colloquy.provider.reply_requests) == 2


async def test_a_title_is_made_when_the_clock_was_set_back(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create()
    watch = alice.watch(conversation.id)
    await alice.send(conversation.id).reply()
    await watch.until(has_title)
    await change(
        colloquy,
        "UPDATE conversations SET title = '', title_owed = 1, title_lease_until = :far"
        " WHERE id = :id",
        far=1 << 60,
        id=conversation.id,
    )
    await watch.until(has_title)
    assert len(colloquy.provider.title_requests) == 2


@ANY
async def test_an_owner_that_lives_goes_on_when_the_clock_was_set_forward(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    await colloquy.restart(lease_ttl=3_600)  # it is not renewed before the scheduler has looked
    alice = alice.at(colloquy)
    conversation = await alice.create(title="Set forward")
    gate = asyncio.Event()
    colloquy.provider.script(Answer(tokens=9, gate_after=3, gate=gate))
    sending = alice.send(conversation.id)
    reply = (await sending.accepted()).reply
    await sending.until("delta")
    await change(colloquy, "UPDATE messages SET lease_until = 1 WHERE id = :id", id=reply.id)
    looked = asyncio.Queue[int]()
    expired, loop = leases.expired, asyncio.get_running_loop()

    def look(s: Session, limit: int, ttl: int) -> Any:
        found = expired(s, limit, ttl)
        loop.call_soon_threadsafe(looked.put_nowait, len(found))
        return found

    monkeypatch.setattr(leases, "expired", look)
    assert [await looked.get() for _ in range(2)] == [1, 1]  # it was found, and left to its owner
    gate.set()
    ended = (await sending.rest())[-1].message
    assert (ended.state, ended.attempt) == (ended.STATE_COMPLETED, 1)
    assert len(colloquy.provider.reply_requests) == 1

"""An upgrade while people talk: the released version and the present one over one Postgres."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from colloquy.api import resources_pb2 as resources
from colloquy_server.database import migrate
from colloquy_server.database.migrate import Fit

from tests import postgres
from tests.fakes.provider import Answer, DoubleRequest, ProviderDouble
from tests.harness import TITLE, Caller, Colloquy, Stream, settle
from tests.released import ReleasedServer, unpack

pytestmark = pytest.mark.timeout(240)

LEASE_TTL = 3.0

COMPLETED = resources.Message.STATE_COMPLETED


class Provider(ProviderDouble):
    """Holds the first answer to what is said in `gates`, in its middle."""

    def __init__(self) -> None:
        super().__init__(title_models={"title-model"}, title_answer=TITLE)
        self.gates: dict[str, asyncio.Event] = {}

    def _answer_for(self, request: DoubleRequest) -> Answer:
        gate = self.gates.pop(request.last_user_text, None)
        return Answer(gate_after=5, gate=gate) if gate else super()._answer_for(request)


class Fleet(Colloquy):
    """Servers that are started one by one."""

    provider: Provider

    def __init__(self, folder: Path, database_url: str) -> None:
        super().__init__(folder, database_url, replicas=0, lease_ttl=LEASE_TTL)
        self.provider = Provider()


class Talker:
    """Somebody who says one thing after the other, and is answered each time."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.answered = 0
        self._talking = asyncio.create_task(self._talk())
        self._is_enough = False

    async def _talk(self) -> None:
        conversation = await self._caller.create(title="Talk")
        while not self._is_enough:
            reply = await self._caller.send(conversation.id, f"Number {self.answered}").reply()
            assert (reply.state, reply.attempt) == (COMPLETED, 1)
            assert len(reply.content.split()) == Answer().tokens
            self.answered += 1

    async def end(self) -> None:
        """Lets the last answer come; raises what went wrong."""
        self._is_enough = True
        await self._talking

    async def goes_on(self) -> None:
        """Waits for three more answers: two of them were asked for after now."""
        wanted = self.answered + 3
        await settle(lambda: self._talking.done() or self.answered >= wanted, 60)
        if self._talking.done():
            self._talking.result()


class Reply:
    """One that has begun and waits in its middle, seen by a watcher at each server."""

    def __init__(self, stream: Stream, gate: asyncio.Event, conversation_id: str) -> None:
        self.stream, self._gate = stream, gate
        self.conversation_id = conversation_id
        self.watchers: list[Stream] = []
        self.id = ""

    @classmethod
    async def begin(cls, fleet: Fleet, at: Caller, watchers: list[Caller]) -> Reply:
        gate = asyncio.Event()
        conversation = await at.create(title="Upgrade")
        fleet.provider.gates[conversation.id] = gate
        reply = cls(at.send(conversation.id, conversation.id), gate, conversation.id)
        reply.id = (await reply.stream.accepted()).reply.id
        await reply.stream.until("delta")
        for watcher in watchers:
            await reply.watch(watcher)
        return reply

    async def watch(self, watcher: Caller) -> None:
        self.watchers.append(watcher.watch(self.conversation_id))
        await self.watchers[-1].until("message")

    def go_on(self) -> None:
        self._gate.set()

    async def is_whole(self, *, attempt: int = 1) -> None:
        """Requires that all who watch see the same text to its end."""
        texts = set()
        for watcher in self.watchers:
            final = await watcher.final(self.id)
            assert (final.state, final.attempt) == (COMPLETED, attempt)
            texts.add(final.content)
            watcher.cancel()
        [text] = texts
        assert len(text.split()) == Answer().tokens


@pytest.fixture
async def fleet(tmp_path: Path, postgres_server: str) -> AsyncIterator[Fleet]:
    """A Postgres without a schema and a provider; no server yet."""
    with postgres.empty_database(postgres_server) as url:
        folder = tmp_path / "fleet"
        folder.mkdir()
        async with Fleet(folder, url) as running:
            yield running


async def test_nobody_notices_an_upgrade_nor_the_way_back(fleet: Fleet, tmp_path: Path) -> None:
    unpack(tmp_path / "released")
    url = fleet.database_url
    released = ReleasedServer(fleet, tmp_path / "released", lease_ttl=LEASE_TTL)
    fleet.channel = await released.start()
    before = await asyncio.to_thread(migrate.revision, url)
    old = (await fleet.account("alice")).on(fleet.channel)

    # The schema goes ahead of the servers: those that run go on.
    talker = Talker(old)
    held = await Reply.begin(fleet, old, [old])
    await asyncio.to_thread(migrate.upgrade, url)
    await talker.goes_on()

    # Both serve, and each shows what the other writes.
    fleet.replicas = 1
    await fleet.start()
    new = old.on(fleet.channel)
    await held.watch(new)
    of_new = await Reply.begin(fleet, new, [old, new])
    waits = new.send(held.conversation_id, "And then?")
    await waits.accepted()
    for reply in (held, of_new):
        reply.go_on()
        await reply.is_whole()
    assert (await waits.reply()).state == COMPLETED
    stopped = await Reply.begin(fleet, old, [new])
    assert (await new.cancel(stopped.id)).id == stopped.id
    assert (await stopped.stream.reply()).state == resources.Message.STATE_CANCELLED

    # The new one is stopped: the old one finishes what it leaves.
    left = await Reply.begin(fleet, new, [old])
    await fleet.stop(grace=0)
    await left.is_whole(attempt=2)

    # Back: the schema of before, under the servers of before.
    held = await Reply.begin(fleet, old, [old])
    await asyncio.to_thread(migrate.migrate_to, url, before)
    await talker.goes_on()
    held.go_on()
    await held.is_whole()

    # And forth again, to the end: the old one dies, and the new one finishes what it leaves.
    await asyncio.to_thread(migrate.upgrade, url)
    await talker.goes_on()
    await talker.end()
    await fleet.start()
    new = old.on(fleet.channel)
    orphan = await Reply.begin(fleet, old, [new])
    await released.end(signal.SIGKILL)
    await orphan.is_whole(attempt=2)
    for conversation in (held.conversation_id, left.conversation_id, orphan.conversation_id):
        assert all(message.state == COMPLETED for message in await new.history(conversation))
    assert await asyncio.to_thread(migrate.fit, url) is Fit.CURRENT
    assert not [line for line in released.lines if '"level":"error"' in line]

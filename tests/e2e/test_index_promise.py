"""The promise of WatchConversations: whoever applies its events ends with what ListConversations
says, whatever happened, however often they went away, and on whatever server they came back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import grpc
import pytest
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources

from tests.e2e.test_audience import administrator, member
from tests.e2e.test_index import change, delete, read
from tests.e2e.test_participants import ACCOUNT, PARTICIPANTS, invite, person, remove
from tests.harness import Caller, Colloquy
from tests.index import Index

NAMES = ("Mia", "Noah", "Zoe")
STEPS = 60
REFUSALS = (
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.INVALID_ARGUMENT,
)


class Play:
    """People of an account who do things at random, while all of them watch."""

    def __init__(self, colloquy: Colloquy, callers: list[Caller], seed: int) -> None:
        self.random = random.Random(seed)
        self.colloquy = colloquy
        self.callers = callers
        self.indexes = [Index(caller) for caller in callers for _ in range(2)]
        self.conversations: list[str] = []
        self.readers: dict[int, asyncio.Task[None]] = {}

    async def step(self) -> None:
        """One thing that somebody does; what they may not do is refused."""
        deeds: list[Callable[[Caller, str], Awaitable[object]]] = [
            self.say, self.say, self.say, self.read, self.read, self.pin, self.archive,
            self.rename, self.invite, self.remove, self.open_or_close, self.delete_message,
            self.delete, self.regenerate, self.leave, self.leave,
        ]  # fmt: skip
        caller = self.random.choice(self.callers)
        if len(self.conversations) < 4 or self.random.random() < 0.1:
            visibility = self.random.choice([ACCOUNT, PARTICIPANTS])
            made = await caller.create(title="T", visibility=visibility)
            self.conversations.append(made.id)
        try:
            await self.random.choice(deeds)(caller, self.random.choice(self.conversations))
        except grpc.aio.AioRpcError as error:
            if error.code() not in REFUSALS:
                raise

    async def say(self, caller: Caller, conversation_id: str) -> None:
        stream = caller.send(conversation_id)
        await stream.accepted()
        if self.random.random() < 0.5:
            await stream.rest()

    async def messages(self, caller: Caller, conversation_id: str) -> list[resources.Message]:
        return await caller.history(conversation_id)

    async def read(self, caller: Caller, conversation_id: str) -> None:
        if found := await self.messages(caller, conversation_id):
            await read(caller, self.random.choice(found))

    async def pin(self, caller: Caller, conversation_id: str) -> None:
        await change(caller, conversation_id, pinned=self.random.random() < 0.7)

    async def archive(self, caller: Caller, conversation_id: str) -> None:
        await change(caller, conversation_id, archived=self.random.random() < 0.7)

    async def rename(self, caller: Caller, conversation_id: str) -> None:
        await change(caller, conversation_id, title=str(self.random.random()))

    async def invite(self, caller: Caller, conversation_id: str) -> None:
        await invite(caller, conversation_id, person(self.random.choice(NAMES)))

    async def remove(self, caller: Caller, conversation_id: str) -> None:
        there = (await caller.conversation(conversation_id)).participants
        if there:
            await remove(caller, conversation_id, self.random.choice(there).id)

    async def open_or_close(self, caller: Caller, conversation_id: str) -> None:
        await change(
            caller, conversation_id, visibility=self.random.choice([ACCOUNT, PARTICIPANTS])
        )

    async def delete_message(self, caller: Caller, conversation_id: str) -> None:
        if found := await self.messages(caller, conversation_id):
            request = api.DeleteMessageRequest(message_id=self.random.choice(found).id)
            await caller.call("DeleteMessage", request)

    async def regenerate(self, caller: Caller, conversation_id: str) -> None:
        if found := await self.messages(caller, conversation_id):
            await caller.regenerate(self.random.choice(found).id).rest()

    async def delete(self, caller: Caller, conversation_id: str) -> None:
        if self.random.random() < 0.4:
            await delete(caller, conversation_id)

    async def leave(self, _caller: Caller, _conversation_id: str) -> None:
        """Somebody's watch breaks off; they come back later, on this server or another."""
        number = self.random.randrange(len(self.indexes))
        if number in self.readers:
            await self.stop_reading(number)
        else:
            self.begin_reading(number)

    def channel(self) -> grpc.aio.Channel:
        """One of the servers."""
        return self.random.choice(
            [self.colloquy.channel, self.colloquy.far or self.colloquy.channel]
        )

    def begin_reading(self, number: int) -> None:
        index = self.indexes[number]
        index.connect(index.caller.on(self.channel()))

        async def go_on() -> None:
            while True:
                await index.next()

        self.readers[number] = asyncio.create_task(go_on())

    async def stop_reading(self, number: int) -> None:
        reader = self.readers.pop(number)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        self.indexes[number].disconnect()


@pytest.mark.timeout(540)
@pytest.mark.parametrize("seed", range(3))
async def test_who_applies_the_events_ends_with_what_is_listed(
    colloquy: Colloquy, alice: Caller, seed: int
) -> None:
    callers = [alice, await administrator(colloquy, alice, "Ada")]
    callers += [await member(colloquy, alice, name) for name in NAMES]
    play = Play(colloquy, callers, seed)
    for number in range(len(play.indexes)):
        play.begin_reading(number)
    for _ in range(STEPS):
        await play.step()
    for number in list(play.readers):
        await play.stop_reading(number)
    some = 0
    for index in play.indexes:
        index.connect(index.caller.on(play.channel()))
        some += len(await index.until_true())
        index.disconnect()
        assert "reset" not in [event.WhichOneof("event") for event in index.events]
    assert some

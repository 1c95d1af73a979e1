"""Trials of many at once: watchers of one conversation, watchers who read nothing, open streams."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import grpc
from colloquy import AsyncAdminClient, AsyncConversationClient
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources

from tests.chaos.fleet import Fleet
from tests.harness import ADMIN_KEY, eventually
from tests.soak.measures import Sample, Sampler
from tests.soak.run import measured_fleet

_CONNECTIONS = 50
"""Between which streams are shared out."""

_KIBI = 1_024

_WATCH = "/conversation.v1.ConversationService/WatchConversation"

_PATIENCE = 300.0
"""Seconds for thousands of streams to be where they are going, on a busy machine."""


@dataclass
class Trial:
    """What was tried: its counts, as lines, and what was wrong."""

    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def expect(self, condition: bool, problem: str) -> None:
        """Notes a problem unless the condition holds."""
        if not condition:
            self.problems.append(problem)


@lru_cache(maxsize=4_096)
def _event(data: bytes) -> api.ConversationEvent:
    """What is the same for many watchers is parsed once."""
    return api.WatchConversationResponse.FromString(data).event


@dataclass
class _Watch:
    """A watcher that holds the texts of what it saw, by the two rules."""

    call: Any
    frames: int = 0
    texts: dict[str, str] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)

    async def read_until(self, is_enough: Any) -> None:
        """Reads until that is so. Raises AioRpcError."""
        while not is_enough(self):
            data = await self.call.read()
            assert data is not grpc.aio.EOF, "a watch ended"
            self.frames += 1
            self._take(_event(data))

    def _take(self, event: api.ConversationEvent) -> None:
        if event.HasField("delta"):
            delta = event.delta
            text = self.texts[delta.message_id]
            assert len(text) == delta.offset, "a gap or an overlap"
            self.texts[delta.message_id] = text + delta.text
        elif event.HasField("message"):
            message = event.message
            self.texts[message.id] = message.content
            if message.role == resources.Message.ROLE_ASSISTANT and (
                message.state > resources.Message.STATE_GENERATING
            ):
                self.ended.add(message.id)


@dataclass
class _Crowd:
    """A server with its connections."""

    fleet: Fleet
    client: AsyncConversationClient
    sampler: Sampler
    channels: list[grpc.aio.Channel]
    keys: list[str]
    watches: list[_Watch] = field(default_factory=list)

    def open(self, conversation_id: str, count: int, key: str = "") -> list[_Watch]:
        """Opens so many watches."""
        request = api.WatchConversationRequest(conversation_id=conversation_id).SerializeToString()
        metadata = (("authorization", f"Bearer {key or self.fleet.key}"),)
        opened: list[_Watch] = []
        for _ in range(count):
            number = len(self.watches) + len(opened)
            # Bytes: most of them are the same for all.
            watch: Any = self.channels[number % _CONNECTIONS].unary_stream(_WATCH)
            opened.append(_Watch(watch(request, metadata=metadata)))
        self.watches += opened
        return opened

    async def say(self, conversation_id: str, tokens: int, **answer: float) -> resources.Message:
        """Has a reply of so many words made."""
        return await self.client.ask(
            conversation_id, f"[[{json.dumps({'tokens': tokens, **answer})}]]"
        )

    async def leave(self) -> None:
        """All watchers go."""
        for watch in self.watches:
            watch.call.cancel()
        self.watches.clear()


@contextlib.asynccontextmanager
async def _crowd(folder: Path, **environment: str) -> AsyncIterator[_Crowd]:
    async with (
        measured_fleet(folder, {"HEARTBEAT_INTERVAL": "600", **environment}) as fleet,
        AsyncConversationClient(
            fleet.addresses[0], fleet.key, patience=_PATIENCE, silence=_PATIENCE
        ) as client,
        AsyncAdminClient(fleet.addresses[0], ADMIN_KEY) as admin,
    ):
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        address = fleet.addresses[0]
        channels = [grpc.aio.insecure_channel(address, options) for _ in range(_CONNECTIONS)]
        made = [await admin.create_api_key(fleet.account_id, f"key {n}") for n in range(2)]
        sampler = Sampler(fleet, fleet.replicas[0], lambda: 0)
        try:
            crowd = _Crowd(fleet, client, sampler, channels, [key.secret for key in made])
            # What is made once for all is made before it is measured.
            warm = await client.create_conversation()
            crowd.open(warm.id, 2 * _CONNECTIONS)
            await asyncio.gather(*(_first(watch) for watch in crowd.watches))
            await crowd.say(warm.id, 5)
            await crowd.leave()
            yield crowd
        finally:
            await asyncio.gather(*(channel.close() for channel in channels))


async def _first(watch: _Watch) -> None:
    await watch.read_until(lambda watch: watch.frames)


def _kibi_each(before: Sample, now: Sample, count: int) -> float:
    return (now.values["memory"] - before.values["memory"]) * _KIBI / count


async def watchers(folder: Path, count: int = 5_000) -> Trial:
    """So many watch one conversation: all get the same text."""
    trial = Trial()
    async with _crowd(folder, MAX_OPEN_STREAMS=str(4 * count)) as crowd:
        conversation = await crowd.client.create_conversation()
        before = await crowd.sampler.held(collects=True)
        watches = crowd.open(conversation.id, count)
        await asyncio.gather(*(_first(watch) for watch in watches))
        opened = await crowd.sampler.held(collects=True)
        reading = asyncio.gather(
            *(watch.read_until(lambda watch: watch.ended) for watch in watches)
        )
        reply = await crowd.say(conversation.id, 30, rate=1)
        async with asyncio.timeout(_PATIENCE):
            await reading
        after = await crowd.sampler.held(collects=True)
        texts = Counter(watch.texts[reply.id] for watch in watches)
        trial.expect(texts == {reply.content: count}, f"{len(texts)} texts, not one")
        frames = sum(watch.frames for watch in watches)
        trial.lines += [
            f"{count:,} watchers of one conversation got {frames:,} events, and all the same text",
            (
                f"{_kibi_each(before, opened, count):.1f} KiB a watcher when all are there,"
                f" {_kibi_each(before, after, count):.1f} KiB after a reply"
            ),
            f"{_event.cache_info().currsize:,} different events were made",
        ]
        await _all_leave(crowd, before, trial)
    return trial


async def slow_readers(folder: Path, count: int = 1_000) -> Trial:
    """So many watch and read nothing, while more and more is said."""
    trial = Trial()
    said = 0
    async with _crowd(folder, MAX_OPEN_STREAMS=str(4 * count)) as crowd:
        conversation = await crowd.client.create_conversation()
        before = await crowd.sampler.held(collects=True)
        crowd.open(conversation.id, count)
        await _streams(crowd, count, before)
        held = []
        for replies in (2, 4, 4):
            for _ in range(replies):
                reply = await crowd.say(conversation.id, 20_000, rate=20_000)
                trial.expect(reply.state == resources.Message.STATE_COMPLETED, f"{reply.state}")
                said += len(reply.content)
            sample = await crowd.sampler.held(collects=True)
            held.append(_kibi_each(before, sample, count))
            trial.lines.append(
                f"{count:,} watchers who read nothing, {said / 1e6:.1f} MB said:"
                f" {held[-1]:.1f} KiB a watcher"
            )
        # What they hold is what was on its way when they stopped reading, and never more.
        trial.expect(held[2] < held[1] + 8, "what is held for who reads nothing grows")
        await _all_leave(crowd, before, trial)
    return trial


async def streams(folder: Path, count: int = 10_000) -> Trial:
    """So many streams are open, as many as the default allows: half for each of two keys."""
    trial = Trial()
    conversations = count // 10
    async with _crowd(folder, MAX_OPEN_STREAMS=str(count)) as crowd:
        made = [await crowd.client.create_conversation() for _ in range(conversations)]
        before = await crowd.sampler.held(collects=True)
        held = await _open_streams(crowd, made)
        for key in (crowd.keys[0], crowd.fleet.key):
            code = await _refusal(crowd, made[0].id, key)
            trial.expect(code == "RESOURCE_EXHAUSTED", f"one stream too many got {code}")
        trial.lines += [
            (
                f"{count:,} open streams in {conversations:,} conversations:"
                f" {_kibi_each(before, held, count):.1f} KiB a stream,"
                f" {held.values['descriptors']:.0f} descriptors,"
                f" {held.values['tasks']:,.0f} tasks"
            ),
            "one more was refused: RESOURCE_EXHAUSTED",
        ]
        await _all_leave(crowd, before, trial)
        again = await _open_streams(crowd, made)
        trial.lines.append(
            f"when as many have come again: {_kibi_each(before, again, count):.1f} KiB a stream"
        )
        grown = again.values["memory"] - held.values["memory"]
        trial.expect(grown < 0.1 * held.values["memory"], f"{grown:.0f} MiB more the second time")
        await _all_leave(crowd, before, trial)
        reply = await crowd.say(made[0].id, 5)
        trial.expect(reply.state == resources.Message.STATE_COMPLETED, "no reply afterwards")
    return trial


async def _open_streams(crowd: _Crowd, conversations: list[resources.Conversation]) -> Sample:
    for number, conversation in enumerate(conversations):
        opened = crowd.open(conversation.id, 10, crowd.keys[number % 2])
        await asyncio.gather(*(_first(watch) for watch in opened))
    return await crowd.sampler.held(collects=True)


async def _refusal(crowd: _Crowd, conversation_id: str, key: str) -> str:
    (watch,) = crowd.open(conversation_id, 1, key)
    crowd.watches.remove(watch)
    try:
        await _first(watch)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def _streams(crowd: _Crowd, count: int, before: Sample) -> None:
    """Waits until the server serves so many streams, who say nothing of it."""
    wanted = before.values["tasks"] + count

    async def are_there() -> bool:
        return (await crowd.sampler.held()).values["tasks"] >= wanted

    assert await eventually(are_there, wanted=True, patience=_PATIENCE), "not all could watch"


async def _all_leave(crowd: _Crowd, before: Sample, trial: Trial) -> None:
    """All go, and the server holds nothing for them."""
    await crowd.leave()

    async def have_left() -> bool:
        return (await crowd.sampler.held()).values["tasks"] <= before.values["tasks"]

    have = await eventually(have_left, wanted=True, patience=_PATIENCE)
    trial.expect(have, "tasks are left of those who have left")
    now = await crowd.sampler.held(collects=True)
    trial.expect(not now.tables.get("Feeds._feeds"), f"{now.tables.get('Feeds._feeds')} feeds left")
    trial.lines.append(
        f"when all have left: {now.values['tasks']:.0f} tasks, no more than before, and"
        f" {now.values['memory'] - before.values['memory']:+.0f} MiB"
    )

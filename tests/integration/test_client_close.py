"""Clients and their streams are closed while others use them: in the middle, and at rest."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from colloquy import AsyncConversationClient, ConversationClient
from colloquy.api.conversation_service_pb2 import ConversationEvent
from colloquy.errors import ColloquyError
from colloquy.retry import Timing

from tests.fakes.conversations import FakeConversations, Script
from tests.fakes.door import KEY, status
from tests.fakes.serving import ThreadedServing, serving

# Longer than a test may take: what sleeps so long has to be woken.
LATER = status(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after=100)
# The uses of a client; what each is in when the client is closed.
USES = ["watch", "call", "upload", "download", "call's back-off", "stream's back-off"]


def prepare(fake: FakeConversations, use: str) -> None:
    """Have the server keep somebody waiting."""
    match use:
        case "call":
            fake.gate = asyncio.Event()
        case "upload" | "download":
            fake.files.gate = asyncio.Event()
        case "call's back-off":
            fake.failures.append(LATER)
        case "stream's back-off":
            fake.breaks.append((1, LATER))


def reached(fake: FakeConversations, waiting: Callable[[], bool], use: str) -> bool:
    """Whether whoever uses the client waits for what does not come."""
    match use:
        case "watch":
            return fake.open_streams == 1
        case "call":
            return any(name == "ListModels" for name, _ in fake.calls)
        case "upload" | "download":
            return bool(fake.files.calls)
    return waiting()


class Backing:
    """Tells when a wait has been decided on."""

    def __init__(self) -> None:
        self.off = threading.Event()

    def __call__(self) -> float:
        self.off.set()
        return 1.0


@pytest.fixture
def server() -> Iterator[ThreadedServing]:
    with ThreadedServing() as running:
        yield running


async def until(what: Callable[[], Any]) -> None:
    """Let others go on until something has come; the test's own limit ends it otherwise."""
    while not what():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0)


@pytest.mark.parametrize("use", USES)
def test_closing_the_client_ends_whatever_uses_it_in_another_thread(
    server: ThreadedServing, use: str
) -> None:
    backing = Backing()
    client = ConversationClient(
        server.address, KEY, patience=200, timeout=200, timing=Timing(random=backing)
    )
    conversation = client.create_conversation()
    uses: dict[str, Callable[[], object]] = {
        "call": client.list_models,
        "upload": lambda: client.upload(io.BytesIO(b"words")),
        "download": lambda: client.download("some", io.BytesIO()),
        "call's back-off": client.list_models,
    }
    prepare(server.fake, use)

    async def is_reached() -> None:
        await until(lambda: reached(server.fake, backing.off.is_set, use))

    with ThreadPoolExecutor() as pool:
        using = pool.submit(uses.get(use, lambda: list(client.watch(conversation.id))))
        server.run(is_reached)
        client.close()
        with pytest.raises(ColloquyError, match="the client was closed"):
            using.result(timeout=60)


@pytest.mark.parametrize("use", USES)
async def test_closing_the_client_ends_whatever_uses_it_in_another_task(use: str) -> None:
    backing, fake = Backing(), FakeConversations()
    async with serving(fake) as server:
        client = AsyncConversationClient(
            server.address, KEY, patience=200, timeout=200, timing=Timing(random=backing)
        )
        conversation = await client.create_conversation()

        async def watch() -> None:
            async for _ in client.watch(conversation.id):
                pass

        uses: dict[str, Callable[[], Awaitable[object]]] = {
            "call": client.list_models,
            "upload": lambda: client.upload(io.BytesIO(b"words")),
            "download": lambda: client.download("some", io.BytesIO()),
            "call's back-off": client.list_models,
        }
        prepare(fake, use)
        using = asyncio.ensure_future(uses.get(use, watch)())
        await until(lambda: reached(fake, backing.off.is_set, use))
        await client.close()
        with pytest.raises(ColloquyError, match="the client was closed"):
            await asyncio.wait_for(using, 60)


def test_a_client_that_was_closed_says_so(server: ThreadedServing) -> None:
    client = ConversationClient(server.address, KEY)
    client.close()
    uses: list[Callable[[], object]] = [
        client.list_models,
        lambda: next(client.watch("c")),
        lambda: client.upload(io.BytesIO(b"words")),
        lambda: client.download("some", io.BytesIO()),
    ]
    for use in uses:
        with pytest.raises(ColloquyError, match="the client was closed"):
            use()


@pytest.mark.parametrize("is_used", [False, True])
async def test_an_asyncio_client_that_was_closed_says_so(is_used: bool) -> None:
    async with serving(FakeConversations()) as server:
        client = AsyncConversationClient(server.address, KEY)
        if is_used:
            await client.list_models()
            await client.upload(io.BytesIO(b"words"))
        await client.close()
        uses: list[Callable[[], Awaitable[object]]] = [
            client.list_models,
            lambda: anext(client.watch("c")),
            lambda: client.upload(io.BytesIO(b"words")),
            lambda: client.download("some", io.BytesIO()),
        ]
        for use in uses:
            with pytest.raises(ColloquyError, match="the client was closed"):
                await use()


@pytest.mark.parametrize("use", ["watch", "stream's back-off"])
def test_a_stream_may_be_closed_by_another_thread(server: ThreadedServing, use: str) -> None:
    backing = Backing()
    with (
        ConversationClient(server.address, KEY, timing=Timing(random=backing)) as client,
        ThreadPoolExecutor() as pool,
    ):
        conversation = client.create_conversation()
        prepare(server.fake, use)
        events = client.watch(conversation.id)
        reading = pool.submit(list[ConversationEvent], events)

        async def is_reached() -> None:
            await until(lambda: reached(server.fake, backing.off.is_set, use))

        async def is_left() -> None:
            await until(lambda: server.fake.open_streams == 0)

        server.run(is_reached)
        events.close()
        assert [event.WhichOneof("event") for event in reading.result(timeout=60)] in (
            ["conversation"],
            [],
        )
        server.run(is_left)
        events.close()
        assert list(events) == []


@pytest.mark.parametrize("use", ["watch", "stream's back-off"])
async def test_a_stream_may_be_closed_by_another_task(use: str) -> None:
    backing, fake = Backing(), FakeConversations()
    async with (
        serving(fake) as server,
        AsyncConversationClient(server.address, KEY, timing=Timing(random=backing)) as client,
    ):
        conversation = await client.create_conversation()
        prepare(fake, use)
        events = client.watch(conversation.id)

        async def read() -> list[ConversationEvent]:
            return [event async for event in events]

        reading = asyncio.create_task(read())
        await until(lambda: reached(fake, backing.off.is_set, use))
        await events.aclose()
        assert [event.WhichOneof("event") for event in await asyncio.wait_for(reading, 60)] in (
            ["conversation"],
            [],
        )
        await until(lambda: fake.open_streams == 0)
        await events.aclose()
        assert await read() == []


def test_a_reply_that_is_closed_while_it_is_awaited_is_not_taken_for_whole(
    server: ThreadedServing,
) -> None:
    server.fake.scripts.append(Script([["half", "whole"]], gate=asyncio.Event(), before_gate=1))
    with (
        ConversationClient(server.address, KEY) as client,
        ThreadPoolExecutor() as pool,
    ):
        conversation = client.create_conversation()
        reply = client.send(conversation.id, "Hi")
        asked = pool.submit(reply.result)

        async def is_reached() -> None:
            await until(lambda: server.fake.open_streams == 1)

        server.run(is_reached)
        reply.close()
        with pytest.raises(ColloquyError, match="before its end"):
            asked.result(timeout=60)


async def test_a_reply_that_was_left_is_not_taken_for_whole() -> None:
    fake = FakeConversations()
    fake.scripts.append(Script([["half", "whole"]], gate=asyncio.Event(), before_gate=1))
    async with serving(fake) as server, AsyncConversationClient(server.address, KEY) as client:
        conversation = await client.create_conversation()
        reply = client.send(conversation.id, "Hi")
        await anext(reply)
        await reply.aclose()
        with pytest.raises(ColloquyError, match="before its end"):
            await reply.result()

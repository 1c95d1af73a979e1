"""What strangers and careless callers do to the server by HTTP, and what it costs.

Counts and bytes are compared, never times.
"""

from __future__ import annotations

import asyncio
import gzip
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import pytest
from colloquy.api import conversation_service_pb2 as api
from colloquy_server.web import connections

from tests.harness import Caller, Colloquy, ServerProcess, settle
from tests.memory import HAS_PROC, Memory

MIB = 1 << 20
LIST = "/conversation.v1.ConversationService/ListModels"
WATCH = "/conversation.v1.ConversationService/WatchConversation"


class Raw:
    """A connection on which anything can be sent."""

    def __init__(self, address: str) -> None:
        self._host, _, self._port = address.rpartition(":")

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(self._host, int(self._port))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def send(self, data: bytes) -> None:
        """Sends, as long as the server takes it."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, bytes]:
        """The status and the body of one answer that says its length."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return int(head.split()[1]), await self.reader.readexactly(length)

    async def is_closed(self) -> bool:
        """Waits until the server has closed the connection."""
        try:
            while await self.reader.read(MIB):
                pass
        except ConnectionError:
            pass
        return True


def post(path: str, body: bytes = b"{}", key: str = "", **headers: str | int) -> bytes:
    """A request."""
    fields: dict[str, Any] = {"host": "x", "content-type": "application/json"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    if key:
        fields["authorization"] = f"Bearer {key}"
    fields.setdefault("content-length", len(body))
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.fixture
async def alice(home: Colloquy, server: ServerProcess) -> Caller:
    return await home.account()


@pytest.fixture
async def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """The address of a server that is not patient."""
    monkeypatch.setattr(connections, "REST_TIMEOUT", 0.3)
    async with Colloquy(tmp_path, request_timeout=0.3) as running:
        yield f"127.0.0.1:{running.app.http_port}"


@pytest.mark.parametrize(
    "beginning",
    [b"", b"P", b"\r\n", b"POST / HTTP/1.1\r\nhost: x\r\n", b"\x16\x03\x01\x02\x00"],
)
async def test_headers_that_do_not_come_are_not_waited_for(
    quick: str, beginning: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Raw(quick) as second:
        await second.send(post(LIST))
        assert (await second.answer())[0] == 401
        monkeypatch.setattr(connections, "HEADER_TIMEOUT", 0.2)
        await second.send(beginning or b"P")
        assert await second.is_closed()
    async with Raw(quick) as first:
        await first.send(beginning)
        assert await first.is_closed()


async def test_a_trickle_of_headers_ends_too(quick: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_TIMEOUT", 0.3)
    async with Raw(quick) as slow:
        await slow.send(b"POST / HTTP/1.1\r\n")
        closed = asyncio.create_task(slow.is_closed())
        while not closed.done():
            try:
                await slow.send(b"a: b\r\n")
            except ConnectionError:
                break
            await asyncio.sleep(0.02)
        assert await closed


async def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    async with Colloquy(tmp_path, request_timeout=0.3) as colloquy:
        alice = await colloquy.account()
        async with Raw(f"127.0.0.1:{colloquy.app.http_port}") as slow:
            await slow.send(post(LIST, b"{", key=alice.key, content_length=2))
            status, said = await slow.answer()
            assert (status, b"did not come within 0.3 s" in said) == (400, True)


async def test_a_request_without_a_key_is_answered_before_its_body(quick: str) -> None:
    async with Raw(quick) as stranger:
        await stranger.send(post(LIST, b"", content_length=15 * MIB))
        assert (await stranger.answer())[0] == 401
        assert await stranger.is_closed(), "the rest is not waited for"
    async with Raw(quick) as stranger:
        await stranger.send(post(LIST, b"", content_length=15 * MIB, expect="100-continue"))
        assert (await stranger.answer())[0] == 401


@HAS_PROC
async def test_nothing_is_kept_of_who_has_no_key(server: ServerProcess) -> None:
    memory = Memory(server.pid)

    async def flood() -> None:
        async with Raw(server.http_address) as stranger:
            try:
                await stranger.send(post(LIST, b"", content_length=1 << 40))
                for _ in range(60):
                    await stranger.send(bytes(MIB))
            except ConnectionError:
                return
            assert await stranger.is_closed()

    await asyncio.gather(*(flood() for _ in range(20)))
    assert memory.peak() < 100 * MIB


@HAS_PROC
@pytest.mark.parametrize(
    "flood",
    [
        b"POST / HTTP/1.1\r\nx: " + b"a" * MIB,
        b"POST /" + b"a" * MIB,
        b"POST / HTTP/1.1\r\n" + b"a: b\r\n" * (MIB // 6),
        post(LIST, b"", transfer_encoding="chunked").replace(b"content-length: 0\r\n", b"")
        + b"0\r\n"
        + b"a: b\r\n" * (MIB // 6),
    ],
    ids=["one header", "the line", "many headers", "trailers"],
)
async def test_endless_headers_are_refused(server: ServerProcess, flood: bytes) -> None:
    memory = Memory(server.pid)

    async def attack() -> None:
        async with Raw(server.http_address) as attacker:
            try:
                for _ in range(20):
                    await attacker.send(flood)
                    flooded = b"a: b\r\n" * (MIB // 6)
                    await attacker.send(flooded)
            except ConnectionError:
                return
            assert await attacker.is_closed()

    await asyncio.gather(*(attack() for _ in range(10)))
    assert memory.peak() < 60 * MIB


@HAS_PROC
async def test_compressed_requests_are_not_unpacked(server: ServerProcess, alice: Caller) -> None:
    bomb = gzip.compress(bytes(16 * MIB - 64))
    memory = Memory(server.pid)
    async with AsyncExitStack() as stack:
        for _ in range(40):
            attacker = await stack.enter_async_context(Raw(server.http_address))
            await attacker.send(post(LIST, bomb, key=alice.key, content_encoding="gzip"))
            assert (await attacker.answer())[0] == 501
    assert memory.peak() < 40 * 16 * MIB / 10


async def test_requests_that_do_not_wait_are_answered_one_by_one_or_not_at_all(
    server: ServerProcess, alice: Caller
) -> None:
    """Whoever sends the next request before the last is answered sends it again: no answer is
    taken for that to another request, and none is made that nobody waits for."""
    one = post(LIST, key=alice.key)
    async with Raw(server.http_address) as attacker:
        await attacker.send(one * 5_000)
        status, said = await attacker.answer()
        assert (status, b"test-model" in said) == (200, True)
        assert await attacker.is_closed()
    calls = [each["method"] for each in await server.logged("call", 3)]
    assert calls.count(LIST) == 1


async def test_a_stream_with_a_request_behind_it_ends_with_its_caller(tmp_path: Path) -> None:
    async with Colloquy(tmp_path) as colloquy:
        alice = await colloquy.account()
        conversation = await alice.create()
        body = api.WatchConversationRequest(conversation_id=conversation.id).SerializeToString()
        frame = b"\0" + len(body).to_bytes(4, "big") + body
        watch = post(WATCH, frame, key=alice.key, content_type="application/connect+proto")
        async with Raw(f"127.0.0.1:{colloquy.app.http_port}") as caller:
            await caller.send(watch + post(LIST, key=alice.key))
            assert await caller.reader.read(1)
            await caller.send(b"more that nobody asked for")
            assert colloquy.app.feeds._feeds
        await settle(lambda: not colloquy.app.feeds._feeds)


async def test_connections_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("colloquy_server.web.front._max_connections", lambda: 20)
    async with Colloquy(tmp_path) as colloquy:
        address = f"127.0.0.1:{colloquy.app.http_port}"
        async with AsyncExitStack() as stack:
            outcomes: Counter[str] = Counter()
            for _ in range(50):
                raw = await stack.enter_async_context(Raw(address))
                try:
                    await raw.send(post(LIST))
                    outcomes[str((await raw.answer())[0])] += 1
                except (ConnectionError, asyncio.IncompleteReadError):
                    outcomes["closed"] += 1
            assert outcomes == {"401": 20, "closed": 30}
        await settle(lambda: not _connections(colloquy))
        async with Raw(address) as later:
            await later.send(post(LIST))
            assert (await later.answer())[0] == 401


def _connections(colloquy: Colloquy) -> int:
    assert colloquy.app.http is not None
    return len(colloquy.app.http._state.connections)


async def test_a_key_or_an_address_is_not_taken_from_where_it_does_not_belong(
    server: ServerProcess, alice: Caller
) -> None:
    async with Raw(server.http_address) as attacker:
        await attacker.send(post(f"{LIST}?authorization=Bearer%20{alice.key}"))
        assert (await attacker.answer())[0] == 401
        await attacker.send(post(LIST, b"{}", "", x_forwarded_for="203.0.113.7"))
        assert (await attacker.answer())[0] == 401
    # Three of them are of how the account came to be.
    refusals = [each for each in await server.logged("audit", 4) if each.get("refusal")]
    assert {each["address"] for each in refusals} == {"127.0.0.1"}


@pytest.mark.parametrize(
    "smuggled",
    [
        post(LIST, b"0\r\n\r\n", transfer_encoding="chunked"),
        post(LIST, b"", content_length="2\r\ncontent-length: 3"),
        post(LIST, b"", content_length="-1"),
        b"POST / HTTP/1.1\r\nhost : x\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\n folded: y\r\n\r\n",
    ],
    ids=["two lengths", "two others", "negative", "a blank", "folded"],
)
async def test_a_request_that_could_be_two_is_refused(
    server: ServerProcess, smuggled: bytes
) -> None:
    async with Raw(server.http_address) as attacker:
        await attacker.send(smuggled)
        assert (await attacker.reader.readline()).startswith(b"HTTP/1.1 400 ")
        assert await attacker.is_closed()

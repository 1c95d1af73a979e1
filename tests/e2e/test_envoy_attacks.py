"""The attacks on a server behind the real Envoy with the configuration of deploy/: those of
test_attacks.py again, and those that only a proxy can end."""

from __future__ import annotations

import asyncio
import gzip
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.envoy import Config, Envoy, manager, program
from tests.harness import Caller, Colloquy, ServerProcess
from tests.http2 import DATA, HEADERS, PING, PREFACE, SETTINGS, Http2, frame, message
from tests.memory import HAS_PROC, Memory
from tests.statuses import status_of

pytestmark = pytest.mark.skipif(not program(), reason="there is no Envoy for this platform")

MIB = 1 << 20
SEND = "/conversation.v1.ConversationService/SendMessage"
GET = "/conversation.v1.ConversationService/GetConversation"
UNKNOWN_KEY = ("authorization", "Bearer x")


@pytest.fixture
async def envoy(server: ServerProcess, tmp_path: Path) -> AsyncIterator[Envoy]:
    """Envoy in front of it."""
    async with Envoy(tmp_path, [server.address]) as running:
        yield running


@pytest.fixture
async def alice(home: Colloquy, envoy: Envoy) -> Caller:
    """Somebody with a key, who knows nothing but Envoy."""
    return (await home.account()).on(home.channel_to(envoy.address))


async def test_who_resets_calls_at_once_is_hung_up_on_and_fails_nobody_elses(
    envoy: Envoy, alice: Caller
) -> None:
    conversation = await alice.create()
    outcomes: Counter[str] = Counter()
    has_ended = asyncio.Event()

    async def call_all_the_while() -> None:
        while not has_ended.is_set() or outcomes.total() < 20:
            outcomes[await status_of(alice.conversation(conversation.id))] += 1

    others = [asyncio.create_task(call_all_the_while()) for _ in range(4)]
    for _ in range(5):
        async with Http2(envoy.address) as attacker:
            while not attacker.is_closed.is_set():
                attacker.reset(attacker.headers(SEND, UNKNOWN_KEY))
                await attacker.flush()
                await asyncio.sleep(0)
    has_ended.set()
    await asyncio.gather(*others)
    assert set(outcomes) == {"OK"}, outcomes


@HAS_PROC
async def test_what_strangers_send_is_not_kept(
    home: Colloquy, server: ServerProcess, envoy: Envoy
) -> None:
    bomb = message(gzip.compress(bytes(16 * MIB - 64)), is_compressed=True)
    memory = Memory(server.pid), Memory(envoy.pid)
    async with Http2(envoy.address) as attacker:
        fields = UNKNOWN_KEY, ("grpc-encoding", "gzip")
        calls = [attacker.headers(SEND, *fields) for _ in range(60)]
        for call in calls:
            await attacker.until_room(len(bomb))
            attacker.data(call, bomb)
        await attacker.flush()
        await attacker.until_ended(*calls)
        assert attacker.ended == set(calls)
    stranger = home.channel_to(envoy.address, ("grpc.max_send_message_length", -1))
    send: Any = stranger.unary_stream(SEND)
    large = bytes(15 * MIB)
    calls_of_8 = [send(large, metadata=[UNKNOWN_KEY]).read() for _ in range(8)]
    for call_of_8 in calls_of_8:
        with pytest.raises(grpc.aio.AioRpcError):
            await call_of_8
    assert sum(each.peak() for each in memory) < 8 * 15 * MIB / 2


async def test_calls_without_a_key_are_few(
    home: Colloquy, server: ServerProcess, tmp_path: Path
) -> None:
    def fill_slowly(config: Config) -> None:
        [limit] = (each for each in manager(config)["http_filters"] if "ratelimit" in each["name"])
        [descriptor] = limit["typed_config"]["descriptors"]
        descriptor["token_bucket"]["fill_interval"] = "3600s"

    async with Envoy(tmp_path, [server.address], fill_slowly) as envoy:
        alice = (await home.account()).on(home.channel_to(envoy.address))
        outcomes: Counter[str] = Counter()

        async def call(metadata: Any) -> None:
            stub: Any = alice.channel.unary_unary(GET)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub(b"", metadata=metadata)
            outcomes[caught.value.code().name] += 1

        await asyncio.gather(*(call(None) for _ in range(700)))
        [host] = (await envoy.hosts()).values()
        assert host["rq_total"] == 100
        assert outcomes == {"UNAUTHENTICATED": 100, "RESOURCE_EXHAUSTED": 600}
        outcomes.clear()
        await asyncio.gather(*(call(alice.metadata) for _ in range(300)))
        assert set(outcomes) == {"INVALID_ARGUMENT"}


async def test_two_thousand_calls_at_once_are_all_answered(alice: Caller) -> None:
    conversation = await alice.create()
    calls = [status_of(alice.conversation(conversation.id)) for _ in range(2_000)]
    outcomes = Counter(await asyncio.gather(*calls))
    told = {f"RESOURCE_EXHAUSTED {reason}" for reason in ("OVERLOADED", "RATE_LIMITED")}
    assert set(outcomes) <= {"OK", *told}
    assert outcomes["OK"] >= 500, outcomes


async def test_large_headers_go_no_further(envoy: Envoy, alice: Caller) -> None:
    fields = tuple((f"x-{number}", "v" * 1_500) for number in range(10))
    async with Http2(envoy.address) as attacker:
        calls = [attacker.headers(SEND, *fields, ("y", "v" * 1_300)) for _ in range(100)]
        await attacker.flush()
        await attacker.until_ended(*calls)
    [host] = (await envoy.hosts()).values()
    assert host["rq_total"] == 0
    assert await alice.create()


@pytest.mark.parametrize("kind", ["pings", "settings", "empty frames", "nonsense"])
async def test_floods_end_their_connection(envoy: Envoy, alice: Caller, kind: str) -> None:
    async with Http2(envoy.address) as attacker:
        call = attacker.headers(SEND, *alice.metadata)  # and the server waits for its request
        frames = {
            "pings": frame(PING, 0, 0, bytes(8)),
            "settings": frame(SETTINGS, 0, 0),
            "empty frames": frame(DATA, 0, call),
            "nonsense": PREFACE,
        }
        if kind in ("pings", "settings"):  # Envoy minds answers that pile up
            attacker.stop_reading()
        while not attacker.is_closed.is_set():
            attacker.write(frames[kind] * 1_000)  # one by one it would take as many iterations
            await attacker.flush()
            await asyncio.sleep(0)
    assert await alice.create()


async def test_connections_are_limited(
    server: ServerProcess, home: Colloquy, tmp_path: Path
) -> None:
    def tighten(config: Config) -> None:
        [connections, _heap] = config["overload_manager"]["resource_monitors"]
        connections["typed_config"]["max_active_downstream_connections"] = 10

    async with Envoy(tmp_path, [server.address], tighten) as envoy:
        caller = (await home.account()).on(home.channel_to(envoy.address))
        conversation = await caller.create()
        async with AsyncExitStack() as open_ones:
            connections = [
                await open_ones.enter_async_context(Http2(envoy.address)) for _ in range(30)
            ]
            for connection in connections[9:]:
                await connection.is_closed.wait()
            assert await caller.conversation(conversation.id) == conversation


async def test_connections_that_are_slow_or_idle_are_closed(
    server: ServerProcess, home: Colloquy, tmp_path: Path
) -> None:
    def hurry(config: Config) -> None:
        manager(config)["request_headers_timeout"] = "0.3s"
        manager(config)["common_http_protocol_options"]["idle_timeout"] = "0.3s"
        manager(config)["drain_timeout"] = "0.1s"

    async with Envoy(tmp_path, [server.address], hurry) as envoy:
        async with Http2(envoy.address) as slow, Http2(envoy.address) as idle:
            slow.write(frame(HEADERS, 0, 1, b"\x83"))  # the headers go on, but nothing comes
            await slow.flush()
            await slow.until_ended(1)
            await idle.is_closed.wait()
        assert await (await home.account()).on(home.channel_to(envoy.address)).create()


async def test_reflection_is_there_and_health_is_not(alice: Caller) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    answer = await stub(alice.channel).ServerReflectionInfo(iter([request])).read()
    assert answer.list_services_response.service
    health: Any = health_pb2_grpc.HealthStub(alice.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health.Check(health_pb2.HealthCheckRequest())
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED

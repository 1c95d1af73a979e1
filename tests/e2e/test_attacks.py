"""What strangers and careless callers do to a server that stands in the open, and what it costs.

Counts and bytes are compared, never times. tests/e2e/test_envoy_attacks.py has what is left to the
proxy in front.
"""

from __future__ import annotations

import asyncio
import gzip
import resource
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import attachment_service_pb2 as files_api
from colloquy.api import conversation_service_pb2 as api
from colloquy_server.api import transport
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.fleets import ANY
from tests.harness import PROVISIONING_KEY, Caller, Colloquy, ServerProcess, eventually, settle
from tests.http2 import PREFACE, Http2, message
from tests.memory import HAS_PROC, Memory
from tests.statuses import refused, status_of

MIB = 1 << 20
SEND = "/conversation.v1.ConversationService/SendMessage"
GET = "/conversation.v1.ConversationService/GetConversation"
CREATE_ACCOUNT = "/conversation.v1.AdminService/CreateAccount"
CHECK = "/grpc.health.v1.Health/Check"


async def test_calls_that_are_reset_at_once_fail_nobody_elses(
    home: Colloquy, server: ServerProcess
) -> None:
    alice = await home.account()
    conversation = await alice.create()
    outcomes: Counter[str] = Counter()
    has_ended = asyncio.Event()

    async def call_all_the_while() -> None:
        while not has_ended.is_set() or outcomes.total() < 20:
            outcomes[await status_of(alice.conversation(conversation.id))] += 1

    others = [asyncio.create_task(call_all_the_while()) for _ in range(4)]
    async with Http2(server.address) as attacker:
        for number in range(20_000):
            attacker.reset(attacker.headers(SEND))
            if number % 100 == 0:
                await attacker.flush()
                await asyncio.sleep(0)
        await attacker.flush()
        has_ended.set()
        await asyncio.gather(*others)
    assert set(outcomes) == {"OK"}, outcomes


@HAS_PROC
@pytest.mark.parametrize("path", [SEND, CHECK])
async def test_compressed_requests_are_not_unpacked(server: ServerProcess, path: str) -> None:
    bomb = message(gzip.compress(bytes(16 * MIB - 64)), is_compressed=True)
    memory = Memory(server.pid)
    async with Http2(server.address) as attacker:
        calls = [attacker.headers(path, ("grpc-encoding", "gzip")) for _ in range(60)]
        for call in calls:
            await attacker.until_room(len(bomb))
            attacker.data(call, bomb)
        await attacker.flush()
        await attacker.until_ended(*calls)
        assert attacker.ended == set(calls)
    assert memory.peak() < 60 * 16 * MIB / 10


@ANY
async def test_a_client_that_compresses_is_told(colloquy: Colloquy, alice: Caller) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await alice.conversations.CreateConversation(
            api.CreateConversationRequest(system_prompt="x" * 10_000),
            metadata=alice.metadata,
            compression=grpc.Compression.Gzip,
        )
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert "gzip" in str(caught.value.details())


@HAS_PROC
async def test_nothing_is_taken_in_of_who_has_no_key(home: Colloquy, server: ServerProcess) -> None:
    large = bytes(15 * MIB)
    stranger = home.channel_to(server.address, ("grpc.max_send_message_length", -1))
    send: Any = stranger.unary_stream(SEND)
    memory = Memory(server.pid)
    outcomes = await asyncio.gather(*(status_of(send(large).read()) for _ in range(8)))
    assert outcomes == ["UNAUTHENTICATED UNAUTHENTICATED"] * 8
    assert memory.peak() < 8 * 15 * MIB / 2


async def test_a_call_without_a_key_need_not_send_to_be_ended(server: ServerProcess) -> None:
    async with Http2(server.address) as attacker:
        calls = [attacker.headers(path) for path in (SEND, GET) for _ in range(1_000)]
        await attacker.flush()
        await attacker.until_ended(*calls)
        assert attacker.ended == set(calls)


async def test_two_thousand_calls_at_once_are_all_answered(
    home: Colloquy, server: ServerProcess
) -> None:
    alice = await home.account()
    conversation = await alice.create()
    calls = [status_of(alice.conversation(conversation.id)) for _ in range(2_000)]
    outcomes = Counter(await asyncio.gather(*calls))
    assert set(outcomes) <= {
        "OK",
        "RESOURCE_EXHAUSTED OVERLOADED",
        "RESOURCE_EXHAUSTED RATE_LIMITED",
    }
    assert outcomes["OK"] >= 500, outcomes


@pytest.fixture
async def busy(tmp_path: Path) -> AsyncIterator[Colloquy]:
    """A server that serves few calls at once, and does not wait long for a request."""
    async with Colloquy(
        tmp_path, max_concurrent_calls=4, max_open_streams=6, request_timeout=0.3
    ) as running:
        yield running


async def test_one_key_may_have_half_of_all_streams(busy: Colloquy) -> None:
    alice, bob = await busy.account("alice"), await busy.account("bob")
    watches = []
    for caller in (alice, bob):
        conversation = await caller.create()
        for _ in range(3):
            watch = caller.watch(conversation.id)
            await watch.until("conversation")
            watches.append(watch)
        refusal = await refused(caller.watch(conversation.id))
        assert (refusal.status, refusal.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert refusal.retry_delay is not None
        assert 0.5 <= refusal.retry_delay <= 1.5
        assert await caller.conversation(conversation.id) == conversation
    carol = await busy.account("carol")
    conversation = await carol.create()
    assert (await refused(carol.watch(conversation.id))).reason == "OVERLOADED"
    for watch in watches:
        watch.cancel()

    async def begin() -> str:
        return await status_of(carol.watch(conversation.id).next())

    assert await eventually(begin, "OK") == "OK"


async def test_the_platform_has_calls_left_when_a_provisioning_key_has_all_of_its_own(
    tmp_path: Path,
) -> None:
    async with (
        Colloquy(tmp_path, max_concurrent_calls=2) as colloquy,
        Http2(f"127.0.0.1:{colloquy.app.port}") as slow,
    ):
        bot = Caller(colloquy.channel, PROVISIONING_KEY)
        silent: set[int] = set()

        async def create_account() -> str:
            await slow.hold(1, silent, CREATE_ACCOUNT, bot.metadata[0])
            request = admin_api.CreateAccountRequest(name="A")
            return await status_of(bot.admin.CreateAccount(request, metadata=bot.metadata))

        wanted = "RESOURCE_EXHAUSTED OVERLOADED"
        assert await eventually(create_account, wanted) == wanted
        assert await colloquy.account()


@ANY
async def test_behind_a_proxy_one_address_has_not_all_of_reflection(colloquy: Colloquy) -> None:
    await colloquy.restart(trusted_proxies=1)
    stub: Any = reflection_pb2_grpc.ServerReflectionStub
    reflection = stub(colloquy.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")

    def calls(address: str) -> Any:
        return reflection.ServerReflectionInfo(metadata=[("x-forwarded-for", address)])

    held = [calls(f"2001:db8::{n}") for n in range(1, 9)]  # of one network, as one may have it
    for call in held:
        await call.write(request)
        assert (await call.read()).list_services_response.service
    refusal = await refused(calls("2001:db8::9").read())
    assert (refusal.status, refusal.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
    other = calls("192.0.2.1")
    await other.write(request)
    assert (await other.read()).list_services_response.service
    for call in (*held, other):
        call.cancel()


async def test_calls_beyond_the_limit_are_told_when_to_come_back(tmp_path: Path) -> None:
    async with Colloquy(tmp_path, max_concurrent_calls=4) as colloquy:
        alice, bob = await colloquy.account("alice"), await colloquy.account("bob")
        conversation = await alice.create()

        async def get() -> str:
            return await status_of(alice.conversation(conversation.id))

        async with Http2(f"127.0.0.1:{colloquy.app.port}") as slow:
            silent: set[int] = set()

            async def get_beside_two() -> str:
                await slow.hold(2, silent, GET, alice.metadata[0])
                return await get()

            refusal = "RESOURCE_EXHAUSTED OVERLOADED"
            assert await eventually(get_beside_two, refusal) == refusal
            assert (await refused(alice.conversation(conversation.id))).retry_delay is not None
            assert await bob.create()
            for call in silent - slow.ended:
                slow.reset(call)
            await slow.flush()
            assert await eventually(get, "OK") == "OK"


async def test_a_request_that_does_not_come_ends_its_call(busy: Colloquy) -> None:
    alice = await busy.account()

    async def nothing() -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        yield

    upload = alice.attachments.UploadAttachment(nothing(), metadata=alice.metadata)
    refusal = await refused(upload)
    assert (refusal.status, refusal.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert list(refusal.fields) == ["request"]

    async def half() -> AsyncIterator[files_api.UploadAttachmentRequest]:
        header = files_api.UploadAttachmentRequest.Header(filename="a.txt")
        yield files_api.UploadAttachmentRequest(header=header)
        await asyncio.Event().wait()

    refusal = await refused(alice.attachments.UploadAttachment(half(), metadata=alice.metadata))
    assert list(refusal.fields) == ["request"]
    get: Any = alice.channel.stream_unary(GET)
    assert list((await refused(get(nothing(), metadata=alice.metadata))).fields) == ["request"]
    # Nor does one that ends before its request.
    assert list((await refused(get(iter(()), metadata=alice.metadata))).fields) == ["request"]


async def test_a_thousand_watches_of_one_channel_leave_room_for_calls(tmp_path: Path) -> None:
    async with Colloquy(tmp_path, max_concurrent_calls=10) as colloquy:
        alice = await colloquy.account()
        conversation = await alice.create()
        watches = [alice.watch(conversation.id) for _ in range(1_000)]
        for watch in watches:
            await watch.until("conversation")
        assert await alice.conversation(conversation.id) == conversation
        for watch in watches:
            watch.cancel()


@ANY
async def test_health_watches_are_limited(colloquy: Colloquy) -> None:
    health: Any = health_pb2_grpc.HealthStub(colloquy.channel)
    request = health_pb2.HealthCheckRequest()
    watches = [health.Watch(request) for _ in range(100)]
    for watch in watches:
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    refusal = await refused(health.Watch(request).read())
    assert (refusal.status, refusal.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
    assert refusal.retry_delay is not None
    assert (await health.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
    for watch in watches:
        watch.cancel()


@HAS_PROC
async def test_large_requests_to_what_is_open_are_taken_in_one_by_one(
    home: Colloquy, server: ServerProcess
) -> None:
    stranger = home.channel_to(server.address, ("grpc.max_send_message_length", -1))
    check: Any = stranger.unary_unary(CHECK)
    large = bytes(15 * MIB)
    memory = Memory(server.pid)
    outcomes = await asyncio.gather(*(status_of(check(large)) for _ in range(16)))
    assert outcomes == ["INVALID_ARGUMENT INVALID_FIELD"] * 16
    assert memory.peak() < 16 * 15 * MIB / 2


@ANY
async def test_more_requests_to_what_is_open_than_can_wait_are_refused(
    colloquy: Colloquy,
) -> None:
    async with Http2(f"127.0.0.1:{colloquy.app.port}") as slow:
        silent = [slow.headers(CHECK) for _ in range(110)]
        await slow.flush()
        await slow.until_ended(*silent[100:])
        assert slow.ended == set(silent[100:])
    health: Any = health_pb2_grpc.HealthStub(colloquy.channel)

    async def check() -> str:
        return await status_of(health.Check(health_pb2.HealthCheckRequest()))

    assert await eventually(check, "OK") == "OK"


def names(stub: Any) -> Any:
    """Asks reflection for the services."""
    return stub.ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    ).read()


async def test_reflection_can_be_off(tmp_path: Path) -> None:
    async with Colloquy(tmp_path, reflection="off") as colloquy:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await names(stub(colloquy.channel))
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        await colloquy.account()


@ANY
async def test_what_is_open_refuses_what_it_cannot_parse(colloquy: Colloquy) -> None:
    for path in (CHECK, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"):
        call: Any = colloquy.channel.stream_stream(path)
        assert list((await refused(call(iter([b"\xff"])).read())).fields) == ["request"]


@HAS_PROC
async def test_large_metadata_is_refused(home: Colloquy, server: ServerProcess) -> None:
    alice = await home.account()
    conversation = await alice.create()
    memory = Memory(server.pid)
    async with Http2(server.address) as attacker:
        fields = tuple((f"x-{number}", "v" * 1_500) for number in range(10))
        calls = [attacker.headers(SEND, *fields, ("y", "v" * 1_200)) for _ in range(1_000)]
        await attacker.flush()
        await attacker.until_ended(*calls)
    assert await alice.conversation(conversation.id) == conversation
    assert memory.peak() < 200 * MIB


async def test_a_flood_of_pings_is_answered(server: ServerProcess) -> None:
    # A limit would cost more than it saves: see what `transport` says of it.
    async with Http2(server.address) as attacker:
        attacker.ping(50_000)
        await attacker.until_answered(50_000)
        assert attacker.pings_answered == 50_000
        assert attacker.goaway is None


@HAS_PROC
async def test_a_flood_of_pings_whose_answers_nobody_reads_is_not_kept(
    home: Colloquy, server: ServerProcess
) -> None:
    alice = await home.account()
    memory = Memory(server.pid)
    async with Http2(server.address) as attacker:
        attacker.stop_reading()
        attacker.ping(2_000_000)
        for _ in range(50):
            assert await alice.create()
        assert memory.peak() < 2_000_000 * 17


async def test_connections_are_limited_to_half_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (40, 40))
    async with Colloquy(tmp_path) as colloquy:
        address = f"127.0.0.1:{colloquy.app.port}"
        alice = await colloquy.account()
        async with AsyncExitStack() as open_ones:
            connections = [await open_ones.enter_async_context(Http2(address)) for _ in range(40)]
            await settle(lambda: sum(each.is_closed.is_set() for each in connections) >= 21)
            assert await alice.create()


async def test_a_connection_without_calls_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_IDLE_TIMEOUT", 0.3)
    async with Colloquy(tmp_path) as colloquy:
        async with Http2(f"127.0.0.1:{colloquy.app.port}") as idle:
            await idle.is_closed.wait()
        assert await colloquy.account()


async def test_who_does_not_say_what_it_speaks_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_HANDSHAKE_TIMEOUT", 0.3)
    async with Colloquy(tmp_path) as colloquy:
        reader, writer = await asyncio.open_connection("127.0.0.1", colloquy.app.port)
        writer.write(PREFACE[:10])
        while await reader.read(1_000):
            pass
        writer.close()

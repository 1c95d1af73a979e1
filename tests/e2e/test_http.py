"""What HTTP adds to the contract, which other tests show by all protocols: its errors are those of
gRPC, and what is no call, or does not come to its end, is told in our words."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import attachment_service_pb2 as files_api
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy.api import session_service_pb2 as session_api
from colloquy.api import session_service_pb2_grpc as session_grpc
from colloquy_server.api import edge
from colloquy_server.api.access import hash_secret
from colloquy_server.database.transactions import DatabaseUnavailable
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.e2e.talk import HALF, hold, text_of
from tests.e2e.test_accounts_apart import METHODS
from tests.fakes.provider import Answer
from tests.harness import PROVISIONING_KEY, Caller, Colloquy, settle
from tests.http_channel import PROTOCOLS
from tests.readme import commands
from tests.statuses import Refusal, read, refused
from tests.uploads import upload

COMPLETED = resources.Message.STATE_COMPLETED
REJECT = api.ON_BUSY_REJECT
NOWHERE = "01890000-0000-7000-8000-000000000000"
SERVICE = "/conversation.v1.ConversationService/"

Ask = Callable[[Caller], Any]


@pytest.fixture
async def colloquy(tmp_path: Path) -> AsyncIterator[Colloquy]:
    async with Colloquy(tmp_path) as running:
        yield running


@pytest.fixture
async def session(colloquy: Colloquy) -> AsyncIterator[aiohttp.ClientSession]:
    """What calls the server by HTTP as it comes."""
    async with aiohttp.ClientSession(f"http://127.0.0.1:{colloquy.app.http_port}") as opened:
        yield opened


def by(protocol: str, colloquy: Colloquy, caller: Caller) -> Caller:
    """The same caller, by this protocol."""
    address = f"127.0.0.1:{colloquy.app.http_port}"
    return caller.on(colloquy.http_channel_to(address, protocol))


def watchers(colloquy: Colloquy, conversation_id: str) -> int:
    """How many streams of a conversation are open."""
    feed = colloquy.app.feeds._feeds.get(conversation_id)
    return feed.watchers if feed else 0


def without_delay(refusal: Refusal) -> tuple[Any, ...]:
    """A refusal without how long to wait, which is never the same, but whether to is."""
    has_delay = refusal.retry_delay is not None
    return (
        *(refusal.status, refusal.message, refusal.reason, refusal.fields),
        *(has_delay, refusal.quota),
    )


async def test_each_error_is_told_as_by_grpc(
    colloquy: Colloquy, monkeypatch: pytest.MonkeyPatch
) -> None:
    await colloquy.restart(max_queued_per_conversation=1, max_file_bytes_per_account=100)
    alice = await colloquy.account()
    mine = await alice.create(title="Mine", request_id="used")
    held = await hold(colloquy, alice, mine.id)
    waiting = alice.send(mine.id, "Waiting")
    await waiting.accepted()
    provisioning = Caller(colloquy.channel, PROVISIONING_KEY)
    stranger = Caller(colloquy.channel, "no key")

    def unimplemented(caller: Caller) -> Any:
        stub: Any = session_grpc.SessionServiceStub(caller.channel)
        return stub.GetSession(session_api.GetSessionRequest(), metadata=caller.metadata)

    asked: dict[str, tuple[Caller, Ask]] = {
        "UNAUTHENTICATED": (stranger, lambda c: c.conversation(mine.id)),
        "PERMISSION_DENIED": (provisioning, lambda c: c.conversation(mine.id)),
        "INVALID_FIELD": (alice, lambda c: c.create(title="x" * 1_000, model="no such")),
        "MESSAGE_TOO_LONG": (alice, lambda c: c.send(mine.id, "x" * (1 << 20) + "x")),
        "MODEL_UNKNOWN": (alice, lambda c: c.create(model="no such")),
        "CONVERSATION_NOT_FOUND": (alice, lambda c: c.watch(NOWHERE)),
        "REQUEST_ID_REUSED": (alice, lambda c: c.create(title="Other", request_id="used")),
        "CONVERSATION_BUSY": (alice, lambda c: c.send(mine.id, on_busy=REJECT)),
        "QUEUE_FULL": (alice, lambda c: c.send(mine.id, "One too many")),
        "QUOTA_EXCEEDED": (alice, lambda c: upload(c, bytes(101))),
    }
    for reason, (caller, ask) in asked.items():
        expected = await refused(ask(caller))
        assert expected.reason == reason
        for protocol in PROTOCOLS:
            refusal = await refused(ask(by(protocol, colloquy, caller)))
            assert without_delay(refusal) == without_delay(expected), (reason, protocol)

    def fail(_request: object) -> None:
        raise RuntimeError("secret detail of sqlalchemy")

    held.gate.set()
    await held.stream.rest()
    await waiting.rest()
    monkeypatch.setattr(edge, "validate", fail)
    for ask in (lambda c: c.conversation(mine.id), lambda c: c.watch(mine.id)):
        expected = await refused(ask(alice))
        assert (expected.status, expected.reason) == ("INTERNAL", "INTERNAL")
        for protocol in PROTOCOLS:
            assert await refused(ask(by(protocol, colloquy, alice))) == expected


async def test_every_call_answers_every_caller_as_by_grpc(colloquy: Colloquy) -> None:
    """With a request that says nothing: of what each call does the other tests tell."""
    alice = await colloquy.account()
    callers = [alice, colloquy.admin, Caller(colloquy.channel, PROVISIONING_KEY)]
    callers.append(Caller(colloquy.channel, "no key"))

    async def outcome(caller: Caller, method: MethodDescriptor) -> Any:
        request = GetMessageClass(method.input_type)()
        codec: Any = {
            "request_serializer": type(request).SerializeToString,
            "response_deserializer": GetMessageClass(method.output_type).FromString,
        }
        path = f"/{method.containing_service.full_name}/{method.name}"

        async def requests() -> AsyncIterator[Message]:
            yield request

        try:
            if method.client_streaming:
                call: Any = caller.channel.stream_unary(path, **codec)
                await call(requests(), metadata=caller.metadata)
            elif method.server_streaming:
                call = caller.channel.unary_stream(path, **codec)
                stream = call(request, metadata=caller.metadata)
                await stream.read()
                stream.cancel()
            else:
                call = caller.channel.unary_unary(path, **codec)
                await call(request, metadata=caller.metadata)
        except grpc.aio.AioRpcError as error:
            return without_delay(read(error))
        return ("OK",)

    seen = set()
    for caller in callers:
        by_http = [by(protocol, colloquy, caller) for protocol in PROTOCOLS]
        for method in METHODS:
            expected = await outcome(caller, method)
            seen.add(expected[0])
            for web, protocol in zip(by_http, PROTOCOLS, strict=True):
                assert await outcome(web, method) == expected, (method.name, protocol)
    assert seen >= {"OK", "INVALID_ARGUMENT", "PERMISSION_DENIED", "UNAUTHENTICATED"}


async def test_http_and_grpc_share_what_is_served_at_once(colloquy: Colloquy) -> None:
    await colloquy.restart(max_open_streams=4)
    alice = await colloquy.account()
    conversation = await alice.create()
    callers = [alice, by("connect-proto", colloquy, alice)]
    watches = [caller.watch(conversation.id) for caller in callers]
    for watch in watches:
        await watch.until("conversation")
    for caller in callers:
        refusal = await refused(caller.watch(conversation.id))
        assert (refusal.status, refusal.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert refusal.retry_delay
    watches[0].cancel()
    await settle(lambda: watchers(colloquy, conversation.id) == 1)
    again = callers[1].watch(conversation.id)
    await again.until("conversation")
    for watch in (watches[1], again):
        watch.cancel()


async def test_a_deadline_ends_the_call_and_not_the_reply(colloquy: Colloquy) -> None:
    alice = await colloquy.account()
    gate = asyncio.Event()
    half = Answer(tokens=2 * HALF, gate_after=HALF, gate=gate)
    colloquy.provider.script(*(half for _ in PROTOCOLS))

    async def hurry(protocol: str) -> resources.Message:
        conversation = await alice.create(title=protocol)
        impatient = by(protocol, colloquy, alice)
        request = api.SendMessageRequest(conversation_id=conversation.id, content="Hello")
        call: Any = impatient.conversations.SendMessage(request, metadata=alice.metadata, timeout=3)
        reply: resources.Message = (await call.read()).event.accepted.reply
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while await call.read() is not grpc.aio.EOF:
                pass
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED, protocol
        return reply

    replies = await asyncio.gather(*(hurry(protocol) for protocol in PROTOCOLS))
    watches = [alice.watch(reply.conversation_id) for reply in replies]
    for watch, reply in zip(watches, replies, strict=True):
        await text_of(watch, reply.id, HALF)
    gate.set()
    for watch, reply in zip(watches, replies, strict=True):
        final = await watch.final(reply.id)
        assert (final.state, len(final.content.split())) == (COMPLETED, 2 * HALF)
        watch.cancel()


async def test_a_unary_call_ends_at_its_deadline(
    colloquy: Colloquy, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await colloquy.account()

    async def never(*_arguments: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(colloquy.app.discovery, "refresh", never)
    for protocol in PROTOCOLS:
        caller = by(protocol, colloquy, alice)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await caller.conversations.ListModels(
                api.ListModelsRequest(), metadata=alice.metadata, timeout=0.1
            )
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED, protocol
    headers = {**dict(alice.metadata), "connect-timeout-ms": "soon"}
    async with session.post(f"{SERVICE}ListModels", json={}, headers=headers) as response:
        error = await response.json()
    assert (response.status, error["code"]) == (400, "invalid_argument")
    assert error["message"] == "connect-timeout-ms: is no time to wait"


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_client_that_goes_away_is_noticed(colloquy: Colloquy, protocol: str) -> None:
    alice = await colloquy.account()
    conversation = await alice.create()
    watch = by(protocol, colloquy, alice).watch(conversation.id)
    await watch.until("conversation")
    assert watchers(colloquy, conversation.id) == 1
    watch.cancel()
    await settle(lambda: not watchers(colloquy, conversation.id))


async def test_a_thousand_watchers_get_the_same_text(colloquy: Colloquy) -> None:
    alice = await colloquy.account()
    conversation = await alice.create(title="Watched")
    web = by("connect-proto", colloquy, alice)
    watches = [web.watch(conversation.id) for _ in range(1_000)]
    await asyncio.gather(*(watch.until("conversation") for watch in watches))
    colloquy.provider.script(Answer(tokens=10))
    final = await alice.send(conversation.id).reply()
    finals = await asyncio.gather(*(watch.final(final.id) for watch in watches))
    assert all(seen == final for seen in finals)
    assert {watch.transcript.messages[final.id].content for watch in watches} == {final.content}
    for watch in watches:
        watch.cancel()
    await settle(lambda: not watchers(colloquy, conversation.id))


async def test_a_server_that_shuts_down_sends_its_callers_elsewhere(tmp_path: Path) -> None:
    async with Colloquy(tmp_path, replicas=2) as colloquy:
        alice = await colloquy.account()
        conversation = await alice.create(title="Stop")
        first, second = colloquy.apps
        base = f"http://127.0.0.1:{first.http_port}"
        web = by("connect-proto", colloquy, alice)
        held = await hold(colloquy, web, conversation.id)
        async with aiohttp.ClientSession(base) as session:
            # Two connections that stay open.
            for response in await asyncio.gather(*(session.get("/readyz") for _ in range(2))):
                assert (response.status, await response.json()) == (200, {"status": "ok"})
            colloquy.apps.remove(first)
            stopping = asyncio.create_task(first.stop(grace=30))
            await settle(lambda: first.replies.ownership.is_draining)
            async with session.get("/readyz") as response:
                assert (response.status, await response.json()) == (
                    503,
                    {"status": "shutting down"},
                )
            assert response.headers["connection"] == "close"
            headers = dict(alice.metadata)
            async with session.post(f"{SERVICE}ListModels", json={}, headers=headers) as response:
                assert response.status == 503
                assert (await response.json())["code"] == "unavailable"
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get("/readyz")
        held.gate.set()
        assert (await held.stream.reply()).state == COMPLETED
        await stopping
        again = Caller(colloquy.channel_to(f"127.0.0.1:{second.port}"), alice.key)
        assert len(await again.history(conversation.id)) == 2


async def test_a_stream_is_ended_with_its_server_and_goes_on_at_the_next(tmp_path: Path) -> None:
    async with Colloquy(tmp_path, replicas=2) as colloquy:
        alice = await colloquy.account()
        conversation = await alice.create(title="Stop")
        first, second = colloquy.apps
        streams = {}
        for protocol in PROTOCOLS:
            streams[protocol] = by(protocol, colloquy, alice).watch(conversation.id)
            await streams[protocol].until("conversation")
        elsewhere = f"127.0.0.1:{second.http_port}"
        colloquy.apps.remove(first)
        await first.stop(grace=0)
        for protocol, stream in streams.items():
            refusal = await refused(stream)
            assert refusal.status == "UNAVAILABLE"
            caller = alice.on(colloquy.http_channel_to(elsewhere, protocol))
            token = stream.events[-1].resume_token
            watch = caller.watch(conversation.id, token, stream.transcript)
            final = await caller.send(conversation.id, protocol).reply()
            assert await watch.final(final.id) == final
            watch.cancel()


async def test_nothing_is_framed_sniffed_or_run(
    colloquy: Colloquy, session: aiohttp.ClientSession
) -> None:
    """Whatever is answered, and whoever asks."""
    alice = await colloquy.account()
    key = dict(alice.metadata)
    for method, path, headers, status in (
        ("GET", "/", {}, 200),
        ("GET", "/healthz", {}, 200),
        ("GET", "/readyz", {}, 200),
        ("GET", "/openapi.json", {}, 200),
        ("GET", "/session/methods", {}, 200),
        ("GET", "/nothing<script>", {}, 404),
        ("GET", "/..%2f..%2fetc/passwd", {}, 404),
        ("GET", "/files", {}, 200),
        ("PUT", "/files", {}, 405),
        ("POST", "/", {}, 405),
        ("OPTIONS", "/session", {}, 405),
        ("TRACE", "/", {}, 405),
        ("DELETE", "/files/x", {}, 405),
        ("GET", f"{SERVICE}ListModels", {}, 405),
        ("OPTIONS", f"{SERVICE}ListModels", {}, 405),
        ("POST", f"{SERVICE}ListModels", {"content-type": "text/plain"}, 415),
        ("POST", f"{SERVICE}ListModels", {"content-type": "application/json"}, 401),
        ("POST", f"{SERVICE}Nothing", {"content-type": "application/json"}, 501),
        ("POST", "/files?filename=a.txt", key, 200),
        ("POST", "/files?filename=a.txt", {}, 401),
        ("POST", "/session", {}, 403),
        ("GET", "/files/x", {}, 401),
        ("GET", "/files/x", key, 400),
        ("GET", "/files/01890000-0000-7000-8000-000000000000", key, 404),
    ):
        body = b"{}" if method == "POST" else None
        async with session.request(method, path, headers=headers, data=body) as response:
            said = response.headers
            assert response.status == status, (method, path)
            assert said.getall("x-content-type-options") == ["nosniff"], (method, path)
            assert said.getall("x-frame-options") == ["DENY"], (method, path)
            assert said.getall("referrer-policy") == ["no-referrer"], (method, path)
            assert said.getall("cross-origin-resource-policy") == ["same-origin"], (method, path)
            (policy,) = said.getall("content-security-policy")
            assert "frame-ancestors 'none'" in policy
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert not [name for name in said if name.lower().startswith("access-control-")]
            assert "<script" not in (await response.text()) or path == "/"


async def test_what_is_no_call_is_told_so(
    colloquy: Colloquy, session: aiohttp.ClientSession
) -> None:
    alice = await colloquy.account()
    headers = dict(alice.metadata)
    async with session.get(f"{SERVICE}ListModels", headers=headers) as response:
        assert (response.status, response.headers["allow"]) == (405, "POST")
    for kind in ("text/plain", "application/grpc", "application/grpc-web-text"):
        more = {**headers, "content-type": kind}
        async with session.post(f"{SERVICE}ListModels", data=b"{}", headers=more) as response:
            assert response.status == 415
            assert "application/json" in response.headers["accept-post"]
    async with session.post(f"{SERVICE}Nothing", json={}, headers=headers) as response:
        assert (response.status, (await response.json())["code"]) == (501, "unimplemented")
    async with session.get("/nothing") as response:
        assert (response.status, await response.json()) == (
            404,
            {"message": "There is nothing here."},
        )


@pytest.mark.parametrize(
    ("method", "kind", "body"),
    [
        ("GetConversation", "json", b'{"conversationId": '),
        ("GetConversation", "json", b'{"conversationId": 7, "secret": "secret detail"}'),
        ("GetConversation", "json", b"[" * 100_000),
        ("GetConversation", "json", b"\xff\xfe"),
        ("GetConversation", "proto", b"\x0a\xff"),
        ("GetConversation", "grpc-web+proto", b"\x00\x00\x00\x00\x02\x0a\xff"),
        ("GetConversation", "grpc-web+proto", b"\x00\x00\x00\x00"),
        ("GetConversation", "grpc-web+proto", b""),
        ("WatchConversation", "connect+proto", b"\x00\x00\x00\x00\x02\x0a\xff"),
        ("WatchConversation", "connect+proto", b"\x00\xff\xff\xff\xff"),
        ("WatchConversation", "connect+json", b"\x00\x00\x00\x00\x01{"),
        ("WatchConversation", "connect+json", b"\x07\x00\x00\x00\x02{}"),
        ("WatchConversation", "connect+json", b"\x01\x00\x00\x00\x02{}"),
        ("WatchConversation", "connect+json", b"\x00\x00\x00\x00\x02{}\x00\x00\x00\x00\x02{}"),
    ],
)
async def test_what_is_no_request_is_refused_in_our_words(
    colloquy: Colloquy, session: aiohttp.ClientSession, method: str, kind: str, body: bytes
) -> None:
    alice = await colloquy.account()
    headers = {**dict(alice.metadata), "content-type": f"application/{kind}"}
    async with session.post(f"{SERVICE}{method}", data=body, headers=headers) as response:
        said = (await response.read()).decode("latin-1")
    assert "request" in said
    for word in ("Traceback", "unmarshal", "protocol error", "Expecting", "secret", "codec"):
        assert word not in said


async def test_answers_are_compressed_where_it_is_worth_it(
    colloquy: Colloquy, session: aiohttp.ClientSession
) -> None:
    alice = await colloquy.account()
    prompts = {"small": "x", "large": "x" * 2_000, "huge": "y" * 200_000}
    made = {
        name: await alice.create(title=name, system_prompt=text) for name, text in prompts.items()
    }
    headers = dict(alice.metadata)
    for name, conversation in made.items():
        body = {"conversationId": conversation.id}
        for accepted in ("gzip", "identity"):
            more = {**headers, "accept-encoding": accepted}
            async with session.post(f"{SERVICE}GetConversation", json=body, headers=more) as got:
                encoding = got.headers.get("content-encoding")
                assert (encoding == "gzip") == (accepted == "gzip" and name != "small")
                shown = (await got.json())["conversation"]
                assert shown["systemPrompt"] == prompts[name]
    frame = json.dumps({"conversationId": made["huge"].id}).encode()
    more = {
        **headers,
        "accept-encoding": "gzip",
        "connect-accept-encoding": "gzip",
        "content-type": "application/connect+json",
    }
    async with session.post(
        f"{SERVICE}WatchConversation",
        data=struct.pack(">BI", 0, len(frame)) + frame,
        headers=more,
    ) as got:
        flags, length = struct.unpack(">BI", await got.content.readexactly(5))
        assert (flags, got.headers.get("content-encoding")) == (0, None)
        event = json.loads(await got.content.readexactly(length))["event"]
        assert event["conversation"]["title"] == "huge"
    squeezed = gzip.compress(b"{}")
    for name in ("content-encoding", "connect-content-encoding", "grpc-encoding"):
        more = {**headers, name: "gzip", "content-type": "application/json"}
        async with session.post(f"{SERVICE}ListModels", data=squeezed, headers=more) as got:
            assert (got.status, (await got.json())["code"]) == (501, "unimplemented")


async def test_load_balancers_are_told_whether_to_send_calls(
    colloquy: Colloquy, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0

    async def away(*_arguments: object) -> None:
        nonlocal reads
        reads += 1
        raise DatabaseUnavailable

    monkeypatch.setattr(colloquy.app.db, "read", away)
    answers = [await session.get("/readyz") for _ in range(100)]
    assert {answer.status for answer in answers} == {503}
    assert reads < 50, "whoever asks may not make work for the database"
    async with session.get("/healthz") as response:
        assert (response.status, await response.json()) == (200, {"status": "ok"})
    async with session.post("/healthz") as response:
        assert response.status == 405


async def test_a_file_is_not_taken_in_json_that_is_too_large(
    colloquy: Colloquy, session: aiohttp.ClientSession
) -> None:
    alice = await colloquy.account()
    body = json.dumps({"conversationId": NOWHERE, "content": "x" * (16 << 20)}).encode()
    for method in ("RateReply", "GetConversation"):
        headers = {**dict(alice.metadata), "content-type": "application/json"}
        async with session.post(f"{SERVICE}{method}", data=body, headers=headers) as response:
            assert response.status == 400
            assert (await response.json())["message"] == "request: is too large"


async def test_a_file_comes_by_json_as_it_went_up(colloquy: Colloquy) -> None:
    alice = await colloquy.account()
    web = by("connect-json", colloquy, alice)
    file = await upload(web, b"Some text.")
    request = files_api.DownloadAttachmentRequest(attachment_id=file.id)
    call = web.attachments.DownloadAttachment(request, metadata=alice.metadata)
    responses = [response async for response in call]
    assert b"".join(response.chunk for response in responses) == b"Some text."


@pytest.mark.parametrize(
    "path",
    [
        f"{SERVICE}WatchConversation",
        f"{SERVICE}GetConversation",
        "/conversation.v1.AttachmentService/UploadAttachment",
    ],
)
@pytest.mark.parametrize("beginning", [b"", b"\0\0\0"])
async def test_a_call_that_waits_for_its_request_ends_with_its_key(
    colloquy: Colloquy, session: aiohttp.ClientSession, path: str, beginning: bytes
) -> None:
    alice = await colloquy.account()
    digest = hash_secret(alice.key)
    is_due = asyncio.Event()

    async def late() -> AsyncIterator[bytes]:
        yield beginning
        await is_due.wait()

    kind = "application/grpc-web+proto"
    headers = {**dict(alice.metadata), "content-type": kind}
    access = colloquy.app.access
    calling = asyncio.create_task(session.post(path, data=late(), headers=headers))
    await settle(lambda: digest in access._cache and access._cache[digest].tasks)
    key_id = access._cache[digest].principal.key_id
    await colloquy.admin.admin.RevokeApiKey(
        admin_api.RevokeApiKeyRequest(api_key_id=key_id), metadata=colloquy.admin.metadata
    )
    async with await calling as response:
        said = (await response.read()).decode("latin-1")
    assert "grpc-status: 16" in said
    assert "key%20or%20token%20has%20ended" in said
    is_due.set()


async def test_the_readmes_commands_list_models_send_and_stream(colloquy: Colloquy) -> None:
    alice = await colloquy.account()
    colloquy.provider.script(Answer(pieces=["Hello ", "there."]))
    script = commands("application/connect+json").replace(
        "127.0.0.1:8080", f"127.0.0.1:{colloquy.app.http_port}"
    )
    (colloquy.folder / "data").mkdir()
    (colloquy.folder / "data" / "dev.key").write_text(f"{alice.key}\n")
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"set -e\n{script}"),
        env={"PATH": os.environ["PATH"]},
        cwd=colloquy.folder,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert b'"id": "test-model"' in output
    events = [part for part in output.split(b"\0") if b'"event"' in part]
    assert b'"accepted"' in events[0]
    assert b'"content": "Hello there."' in events[-1]
    assert output.endswith(b"{}"), "the stream came to its end"

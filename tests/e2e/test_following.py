"""A request is followed by one id, from its caller through the log to the provider."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
from colloquy.api import resources_pb2 as resources
from colloquy_server import app
from colloquy_server.telemetry import Telemetry
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.e2e.talk import HALF, half, hold, text_of
from tests.fakes.provider import Answer, DoubleRequest
from tests.fleets import ANY, BY_ALL
from tests.harness import Caller, Colloquy, settle
from tests.slack_harness import SlackStage

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
DOWN = Answer(status=503, headers={"Retry-After": "0"})


def named(caller: Caller, request_id: str, **more: str) -> Caller:
    """The same caller, who says what its calls are followed by."""
    other = Caller(caller.channel, caller.key, caller.account_id)
    other.metadata = (*caller.metadata, ("x-request-id", request_id), *more.items())  # type: ignore[assignment]
    return other


def ids(request: DoubleRequest) -> set[str | None]:
    """What a provider was told that its request belongs to."""
    return {request.headers.get(name) for name in ("X-Request-Id", "X-Client-Request-Id")}


@BY_ALL
async def test_a_callers_id_and_trace_come_to_the_provider_and_into_the_log(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Followed")
    ann = named(alice, "ann-7", traceparent=PARENT, tracestate="vendor=secret")
    colloquy.provider.script(DOWN, Answer(tokens=3), Answer(status=400))
    with structlog.testing.capture_logs() as lines:
        await ann.send(conversation.id).reply()
        await ann.send(conversation.id).reply()

        def calls() -> list[str]:
            return [line["request_id"] for line in lines if line["event"] == "call"]

        await settle(lambda: len(calls()) == 2, 30)
    for request in colloquy.provider.reply_requests:
        assert ids(request) == {"ann-7"}
        assert request.headers["traceparent"] == PARENT
        assert "tracestate" not in request.headers
    assert calls() == ["ann-7"] * 2
    told = [line for line in lines if line["event"] in ("provider failed", "reply not completed")]
    assert [line["request_id"] for line in told] == ["ann-7"] * 3
    # Who says nothing is followed all the same.
    await alice.send(conversation.id).reply()
    (made,) = ids(colloquy.provider.reply_requests[-1])
    assert made
    assert made != "ann-7"
    assert "traceparent" not in colloquy.provider.reply_requests[-1].headers


@ANY
async def test_an_answer_says_what_its_call_is_followed_by(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Followed")
    ann = named(alice, "ann-7")
    good, refused = ann.send(conversation.id), ann.send("no such conversation")
    await good.rest()
    with pytest.raises(Exception, match="conversation"):
        await refused.rest()
    for stream in (good, refused):
        assert ("x-request-id", "ann-7") in tuple(await stream.call.trailing_metadata())
    server = f"http://127.0.0.1:{colloquy.app.http_port}"
    headers = {"Authorization": f"Bearer {alice.key}", "x-request-id": "ann-8"}
    path = f"{server}/conversation.v1.ConversationService"
    unary = {**headers, "content-type": "application/json"}
    streamed = {**headers, "content-type": "application/connect+json"}
    body = json.dumps({"conversationId": conversation.id}).encode()
    frame = b"\0" + len(body).to_bytes(4, "big") + body
    async with aiohttp.ClientSession() as http:
        for asked in (
            http.post(f"{path}/ListModels", data=b"{}", headers=unary),
            http.post(f"{path}/GetConversation", data=b"{}", headers=unary),
            http.post(f"{path}/WatchConversation", data=frame, headers=streamed),
            http.post(f"{server}/files?filename=a.txt", data=b"some text", headers=headers),
            http.get(f"{server}/files/{conversation.id}", headers=headers),
        ):
            async with asked as answer:
                assert answer.headers["x-request-id"] == "ann-8", answer.url
                if "/files" in answer.url.path and answer.status == 200:
                    file = (await answer.json())["id"]
        async with http.get(f"{server}/files/{file}", headers=headers) as answer:
            assert answer.headers["x-request-id"] == "ann-8"
            assert await answer.read() == b"some text"


@ANY
async def test_a_reply_that_waits_is_followed_by_its_own_call_and_not_by_what_started_it(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Followed")
    held = await hold(colloquy, named(alice, "first", traceparent=PARENT), conversation.id)
    second = named(alice, "second").send(conversation.id)
    await second.accepted()
    third = named(alice, "third").send(conversation.id)
    await third.accepted()
    held.gate.set()
    await second.rest()
    await third.rest()
    requests = colloquy.provider.reply_requests
    assert [ids(request) for request in requests] == [{"first"}, {"second"}, {"third"}]
    assert ["traceparent" in request.headers for request in requests] == [True, False, False]
    # One that another server goes on with, which knows nothing of the call, has its own id.
    colloquy.provider.script(half(asyncio.Event()))
    stream = named(alice, "fourth").send(conversation.id)
    reply_id = (await stream.accepted()).reply.id
    await text_of(stream, reply_id, HALF)
    await colloquy.stop(grace=0)
    await colloquy.start()
    watch = alice.at(colloquy).watch(conversation.id)
    reply = await watch.final(reply_id)
    assert reply.state == resources.Message.STATE_COMPLETED
    assert ids(colloquy.provider.reply_requests[-1]) == {reply_id}
    watch.cancel()


@ANY
async def test_a_title_is_followed_by_its_conversation(colloquy: Colloquy, alice: Caller) -> None:
    conversation = await alice.create()
    await named(alice, "ann-7").send(conversation.id).reply()
    (request,) = await colloquy.provider.wait_for_titles(1)
    assert ids(request) == {conversation.id}


async def test_with_traces_the_providers_request_is_a_part_of_the_callers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(app, "open_telemetry", lambda *_: Telemetry(tracers))
    async with Colloquy(tmp_path) as colloquy:
        alice = await colloquy.account()
        conversation = await alice.create(title="Followed")
        await named(alice, "ann-7", traceparent=PARENT).send(conversation.id).reply()

        def told() -> dict[str, Any]:
            return {span.name: span for span in spans.get_finished_spans()}

        await settle(lambda: any(name.endswith("/SendMessage") for name in told()), 30)
        call, chat = (
            told()["conversation.v1.ConversationService/SendMessage"],
            told()["chat test-model"],
        )
        (request,) = colloquy.provider.reply_requests
    assert f"{call.context.trace_id:032x}" == TRACE
    assert call.parent.is_remote
    assert chat.parent.span_id == call.context.span_id
    assert request.headers["traceparent"] == f"00-{TRACE}-{chat.context.span_id:016x}-01"


async def test_what_the_catalogue_says_in_a_header_is_not_said_over(tmp_path: Path) -> None:
    class Gateway(Colloquy):
        models = Colloquy.models.replace(
            'double: {{base_url: "{base_url}",',
            'double: {{base_url: "{base_url}", headers: {{x-request-id: of-the-gateway}},',
        )

    async with Gateway(tmp_path) as colloquy:
        alice = await colloquy.account()
        conversation = await alice.create(title="Followed")
        await named(alice, "ann-7").send(conversation.id).reply()
        assert ids(colloquy.provider.reply_requests[0]) == {"of-the-gateway", "ann-7"}


async def test_what_is_asked_in_slack_is_followed_to_the_provider(tmp_path: Path) -> None:
    async with Colloquy(tmp_path) as colloquy, SlackStage(colloquy) as stage:
        colloquy.provider.script(Answer(status=400))
        with structlog.testing.capture_logs() as lines:
            asked = stage.alice.post(stage.general, "Hello", mention=True)
            await stage.answered(stage.general, asked.ts)
            await settle(lambda: any("SendMessage" in line.get("method", "") for line in lines), 30)
        wanted = f"{stage.slack.workspace.id}:{stage.general.id}:{asked.ts}"
        assert ids(colloquy.provider.reply_requests[0]) == {wanted}
        calls = {
            line["method"].rpartition("/")[2]: line["request_id"]
            for line in lines
            if line["event"] == "call"
        }
        assert calls["CreateConversation"] == calls["SendMessage"] == wanted
        (failed,) = [line for line in lines if line["event"] == "provider failed"]
        assert failed["request_id"] == wanted

"""A server that is told to stop stops in good order, and nothing said is lost."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import grpc
import pytest
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy_server.database.repository.changes import Change
from colloquy_server.errors import Unavailable
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.e2e.talk import HALF, half, hold, text_of
from tests.fakes.provider import Answer
from tests.fleets import ALONE, ANY
from tests.harness import Caller, Colloquy, ServerProcess, Stream

COMPLETED = resources.Message.STATE_COMPLETED

SERVICES = [
    "conversation.v1.ConversationService",
    "conversation.v1.AttachmentService",
    "conversation.v1.AdminService",
]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def breaks(stream: Stream) -> None:
    """Reads a stream to its end, which must not say that all was told."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.rest()
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


@ANY
async def test_health_and_reflection_answer_without_a_key(colloquy: Colloquy) -> None:
    health: Any = health_pb2_grpc.HealthStub(colloquy.channel)
    for name in ("", *SERVICES):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == SERVING
    stub: Any = reflection_pb2_grpc.ServerReflectionStub
    reflection = stub(colloquy.channel)
    call = reflection.ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    )
    answer = await call.read()
    listed = {service.name for service in answer.list_services_response.service}
    assert listed >= {*SERVICES, "grpc.health.v1.Health"}
    call.cancel()


@ALONE
async def test_sigterm_lets_live_replies_finish_and_refuses_new_calls(
    colloquy: Colloquy, alice: Caller
) -> None:
    await colloquy.stop()
    process = ServerProcess(colloquy, SHUTDOWN_GRACE="30")
    channel = await process.start()
    alice = alice.on(channel)
    stub: Any = health_pb2_grpc.HealthStub
    health = stub(channel).Watch(health_pb2.HealthCheckRequest(service=""))
    assert (await health.read()).status == SERVING
    conversation = await alice.create(title="Stop")
    held = await hold(colloquy, alice, conversation.id)
    watch = alice.watch(conversation.id)
    await text_of(watch, held.id, HALF)

    process.send_signal(signal.SIGTERM)
    assert (await health.read()).status == NOT_SERVING
    late = Caller(colloquy.channel_to(process.address), alice.key)
    async with asyncio.timeout(60):  # whoever is told first, this is not long in coming
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while True:
                await late.call("ListModels", api.ListModelsRequest())
    # gRPC itself cuts a call off that comes in the very moment of its shutdown.
    assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    held.gate.set()
    reply = await held.stream.reply()
    assert (reply.state, reply.attempt) == (COMPLETED, 1)
    assert await watch.final(held.id) == reply
    await breaks(watch)
    health.cancel()
    assert await process.end(signal.SIGCONT) == 0
    await colloquy.start()
    assert await alice.at(colloquy).message(held.id) == reply


@ANY
async def test_streams_that_end_with_the_server_tell_first_what_there_is_to_tell(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    feeds = colloquy.app.feeds
    conversation = await alice.create(title="Stop")
    held = await hold(colloquy, alice, conversation.id)
    watch = alice.watch(conversation.id)
    await text_of(watch, held.id, HALF)
    apply = feeds.apply

    def apply_and_end(change: Change) -> None:
        apply(change)
        feeds.end_streams(Unavailable())

    monkeypatch.setattr(feeds, "apply", apply_and_end)
    held.gate.set()
    reply = await held.stream.reply()
    assert reply.state == COMPLETED
    await breaks(watch)
    assert watch.transcript.messages[held.id] == reply


@ANY
async def test_a_second_signal_hands_live_replies_back_at_once(
    colloquy: Colloquy, alice: Caller
) -> None:
    await colloquy.stop()
    process = ServerProcess(colloquy, SHUTDOWN_GRACE="600", LEASE_TTL="600")
    alice = alice.on(await process.start())
    conversation = await alice.create(title="Stop")
    held = await hold(colloquy, alice, conversation.id)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(60):
        while not any('"stopping"' in line for line in process.lines):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert await process.end(signal.SIGINT) == 0
    await colloquy.start()
    watch = alice.at(colloquy).watch(
        conversation.id, held.stream.events[-1].resume_token, held.stream.transcript
    )
    final = await watch.final(held.id)
    assert (final.state, final.attempt) == (COMPLETED, 2)
    watch.cancel()


@ANY
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_each_signal_that_ends_a_process_lets_a_live_reply_finish(
    colloquy: Colloquy, alice: Caller, number: signal.Signals
) -> None:
    await colloquy.stop()
    process = ServerProcess(colloquy, SHUTDOWN_GRACE="60")
    alice = alice.on(await process.start())
    conversation = await alice.create(title="Stop")
    held = await hold(colloquy, alice, conversation.id)
    process.send_signal(number)
    await process.logged("stopping")
    held.gate.set()
    assert (await held.stream.reply()).attempt == 1
    assert await process.end(signal.SIGCONT) == 0
    await colloquy.start()


@ALONE
async def test_a_planned_stop_hands_replies_back_without_a_strike(
    colloquy: Colloquy, alice: Caller
) -> None:
    """Three crashes would end the reply: five stops do not. Each time clients resume."""
    conversation = await alice.create(title="Stop")
    colloquy.provider.script(*(half(asyncio.Event()) for _ in range(5)))
    sent = alice.send(conversation.id, "Hello", request_id="r")
    reply = (await sent.accepted()).reply
    queued = alice.send(conversation.id, "Next")
    waiting = (await queued.accepted()).reply
    streams = [sent, queued]
    watch = alice.watch(conversation.id)
    for attempt in range(1, 6):
        await watch.until(
            lambda e, attempt=attempt: (  # type: ignore[misc]
                e.delta.attempt == attempt or e.message.attempt == attempt
            )
        )
        await text_of(watch, reply.id, HALF)
        await colloquy.stop(grace=0)
        for stream in (watch, *streams):
            await breaks(stream)
        streams.clear()
        await colloquy.start()
        alice = alice.at(colloquy)
        watch = alice.watch(conversation.id, watch.events[-1].resume_token, watch.transcript)
    final = await watch.final(reply.id)
    assert (final.state, final.attempt) == (COMPLETED, 6)
    assert final.content == colloquy.provider.reply_requests[5].text
    assert watch.transcript.joined[reply.id, 6] == final.content
    assert (await watch.final(waiting.id)).state == COMPLETED
    again = alice.send(conversation.id, "Hello", request_id="r")
    assert await again.reply() == final
    assert len(await alice.history(conversation.id)) == 4
    watch.cancel()


@ALONE
async def test_a_reply_that_was_released_keeps_its_text_until_it_goes_on(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Stop")
    held = await hold(colloquy, alice, conversation.id)
    text = colloquy.provider.requests[0].text
    await colloquy.stop(grace=0)
    gate = asyncio.Event()
    colloquy.provider.script(Answer(tokens=2, gate_after=0, gate=gate))
    await colloquy.start()
    alice = alice.at(colloquy)
    await colloquy.provider.wait_for_requests(2)
    waiting = await alice.message(held.id)
    assert (waiting.state, waiting.attempt) == (resources.Message.STATE_GENERATING, 1)
    assert waiting.content == text
    gate.set()
    watch = alice.watch(conversation.id, held.stream.events[0].resume_token)
    assert (await watch.final(held.id)).attempt == 2
    watch.cancel()


@ANY
async def test_an_idle_server_stops_at_once_whoever_watches(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Idle")
    watches = [alice.watch(conversation.id) for _ in range(3)]
    for watch in watches:
        await watch.until("conversation")
    await colloquy.stop(grace=3_600)  # longer than a test may take
    for watch in watches:
        await breaks(watch)
    await colloquy.start()

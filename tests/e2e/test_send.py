"""SendMessage: what is said is stored, streamed, and survives."""

from __future__ import annotations

import asyncio
import signal

from colloquy.api import resources_pb2 as resources

from tests.fakes.provider import Answer
from tests.fleets import ALSO_BY_HTTP, ANY
from tests.harness import Caller, Colloquy, ServerProcess


@ALSO_BY_HTTP
async def test_a_send_streams_accepted_then_deltas_then_the_final_message(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create()
    stream = alice.send(conversation.id, "Tell me something")
    reply = await stream.reply()

    kinds = [event.WhichOneof("event") for event in stream.events]
    assert kinds[0] == "accepted"
    assert set(kinds[1:-1]) == {"delta"}
    assert kinds[-1] == "message"
    assert stream.events[0].accepted.message.content == "Tell me something"
    assert reply.state == resources.Message.STATE_COMPLETED
    assert reply.finish_reason == "stop"
    assert reply.content == colloquy.provider.reply_requests[0].text
    assert stream.transcript.joined[reply.id, 1] == reply.content


async def test_the_joined_deltas_are_what_is_stored_also_after_a_restart(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create()
    stream = alice.send(conversation.id)
    reply = await stream.reply()
    await colloquy.restart()
    stored = await alice.on(colloquy.channel).message(reply.id)
    assert stored.content == reply.content == stream.transcript.joined[reply.id, 1]
    assert stored == reply


@ALSO_BY_HTTP
async def test_a_reply_whose_client_is_killed_is_finished_and_stored_whole(
    colloquy: Colloquy, alice: Caller
) -> None:
    gate = asyncio.Event()
    colloquy.provider.script(Answer(tokens=30, gate_after=10, gate=gate))
    conversation = await alice.create()
    stream = alice.send(conversation.id)
    reply_id = (await stream.accepted()).reply.id
    await stream.until("delta")
    stream.cancel()
    watch = alice.watch(conversation.id)
    await watch.until("message")
    gate.set()
    final = await watch.final(reply_id)
    assert final.state == resources.Message.STATE_COMPLETED
    assert final.content == colloquy.provider.reply_requests[0].text
    assert len(final.content.split()) == 30
    assert (await alice.message(reply_id)).content == final.content
    watch.cancel()


@ANY  # test_takeover has Postgres
async def test_a_reply_of_a_server_that_was_killed_goes_on(
    colloquy: Colloquy, alice: Caller
) -> None:
    await colloquy.stop()
    process = ServerProcess(colloquy)
    near = alice.on(await process.start())
    gate = asyncio.Event()
    colloquy.provider.script(Answer(tokens=400, gate_after=300, gate=gate), Answer(tokens=50))
    conversation = await near.create(title="Kill")
    stream = near.send(conversation.id)
    accepted = await stream.accepted()
    await stream.until("delta")
    await process.end(signal.SIGKILL)
    near = alice.on(await process.start())
    watch = near.watch(conversation.id, stream.events[-1].resume_token, stream.transcript)
    final = await watch.final(accepted.reply.id)
    requests = colloquy.provider.reply_requests
    assert final.state == resources.Message.STATE_COMPLETED
    assert final.attempt == 2
    assert final.content == requests[1].text
    assert watch.transcript.joined[final.id, 2] == final.content
    assert len(await near.history(conversation.id)) == 2
    assert len(requests) == 2
    watch.cancel()
    await process.end(signal.SIGTERM)
    await colloquy.start()

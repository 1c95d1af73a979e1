"""CancelReply stops a reply wherever it is, and keeps what came."""

from __future__ import annotations

import asyncio

from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources

from tests.e2e.talk import HALF, half, hold, said, text_of
from tests.fakes.provider import Answer
from tests.fleets import ALONE, ALSO_BY_HTTP, ANY
from tests.harness import Caller, Colloquy
from tests.statuses import refused

CANCELLED = resources.Message.STATE_CANCELLED
COMPLETED = resources.Message.STATE_COMPLETED
GENERATING = resources.Message.STATE_GENERATING
QUEUED = resources.Message.STATE_QUEUED


async def cancel_request(
    caller: Caller, conversation_id: str, request_id: str
) -> api.CancelReplyResponse:
    request = api.CancelReplyRequest(conversation_id=conversation_id, request_id=request_id)
    return await caller.call("CancelReply", request)  # type: ignore[no-any-return]


@ALSO_BY_HTTP
async def test_a_live_reply_is_cancelled_and_keeps_its_text(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Stop")
    held = await hold(colloquy, alice, conversation.id)
    watch = alice.watch(conversation.id)
    await text_of(watch, held.id, HALF)
    request = colloquy.provider.reply_requests[0]

    cancelled = await alice.cancel(held.id)
    await request.ended()
    assert request.outcome == "client closed"

    assert cancelled.state == CANCELLED
    assert cancelled.content == request.text
    assert len(cancelled.content.split()) == HALF
    assert not cancelled.HasField("error")
    assert await held.stream.reply() == cancelled
    assert await watch.final(held.id) == cancelled
    assert watch.transcript.messages[held.id].content == cancelled.content
    watch.cancel()

    held.gate.set()
    await alice.send(conversation.id, "And then?").rest()
    assert await alice.message(held.id) == cancelled, "nothing is appended afterwards"


async def test_a_queued_reply_is_cancelled_at_once(colloquy: Colloquy, alice: Caller) -> None:
    conversation = await alice.create(title="Stop")
    held = await hold(colloquy, alice, conversation.id)
    waiting = alice.send(conversation.id, "Second")
    reply = (await waiting.accepted()).reply
    assert reply.state == QUEUED
    cancelled = await alice.cancel(reply.id)
    assert (cancelled.state, cancelled.content) == (CANCELLED, "")
    assert await waiting.reply() == cancelled
    held.gate.set()
    assert (await held.stream.reply()).state == COMPLETED
    await alice.send(conversation.id, "Third").rest()
    assert len(colloquy.provider.reply_requests) == 2, "it was never written"


@ALONE
async def test_a_finished_reply_stays_as_it_is_however_often_it_is_cancelled(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Stop")
    done = await alice.send(conversation.id).reply()
    colloquy.provider.script(Answer(status=400))
    failed = await alice.send(conversation.id).reply()
    held = await hold(colloquy, alice, conversation.id)
    stopped = await alice.cancel(held.id)
    for reply in (done, failed, stopped):
        for _ in range(2):
            assert await alice.cancel(reply.id) == reply


async def test_many_cancels_at_once_all_tell_the_same(colloquy: Colloquy, alice: Caller) -> None:
    conversation = await alice.create(title="Stop")
    held = await hold(colloquy, alice, conversation.id)
    near = alice.on(colloquy.channel)
    answers = await asyncio.gather(
        *(caller.cancel(held.id) for caller in (alice, near) for _ in range(5))
    )
    assert {answer.state for answer in answers} == {CANCELLED}
    assert {answer.content for answer in answers} == {colloquy.provider.requests[0].text}
    assert (await held.stream.reply()).state == CANCELLED


async def test_a_reply_without_a_word_yet_is_cancelled(colloquy: Colloquy, alice: Caller) -> None:
    colloquy.provider.script(Answer(stall_after=0))
    conversation = await alice.create(title="Stop")
    stream = alice.send(conversation.id)
    reply = (await stream.accepted()).reply
    (request,) = await colloquy.provider.wait_for_requests(1)
    cancelled = await alice.cancel(reply.id)
    assert (cancelled.state, cancelled.content) == (CANCELLED, "")
    await request.ended()
    assert request.outcome == "client closed"
    assert await stream.reply() == cancelled


async def test_a_reply_that_waits_for_its_next_attempt_is_cancelled(
    colloquy: Colloquy, alice: Caller
) -> None:
    colloquy.provider.script(Answer(status=429, headers={"Retry-After": "50"}), Answer(tokens=1))
    conversation = await alice.create(title="Stop")
    stream = alice.send(conversation.id)
    reply = (await stream.accepted()).reply
    (request,) = await colloquy.provider.wait_for_requests(1)
    await request.ended()
    assert (await alice.cancel(reply.id)).state == CANCELLED
    assert (await stream.reply()).state == CANCELLED
    assert len(colloquy.provider.reply_requests) == 1


async def test_the_next_reply_starts_when_the_live_one_is_cancelled(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Stop")
    held = await hold(colloquy, alice, conversation.id)
    following = alice.send(conversation.id, "Next")
    await following.accepted()
    await alice.cancel(held.id)
    assert (await following.reply()).state == COMPLETED
    assert said(colloquy.provider.reply_requests[1].body) == [
        ("user", "Hello"),
        ("assistant", colloquy.provider.reply_requests[0].text),
        ("user", "Next"),
    ]


# --- by request_id --------------------------------------------------------------------------------


async def test_a_request_is_cancelled_before_it_comes(colloquy: Colloquy, alice: Caller) -> None:
    conversation, other = await alice.create(title="Stop"), await alice.create(title="Other")
    answer = await cancel_request(alice, conversation.id, "early")
    assert not answer.HasField("message")
    assert not (await cancel_request(alice, conversation.id, "early")).HasField("message")

    stream = alice.send(conversation.id, "Never mind", request_id="early")
    accepted = await stream.accepted()
    assert accepted.message.content == "Never mind"
    assert accepted.reply.state == CANCELLED
    reply = await stream.reply()
    assert (reply.id, reply.state, reply.content) == (accepted.reply.id, CANCELLED, "")
    assert colloquy.provider.requests == []

    again = alice.send(conversation.id, "Never mind", request_id="early")
    assert await again.reply() == reply
    for unrelated in (
        alice.send(conversation.id, request_id="late"),
        alice.send(other.id, request_id="early"),
        alice.send(conversation.id),
    ):
        assert (await unrelated.reply()).state == COMPLETED
    assert len(await alice.history(conversation.id)) == 6


@ALONE
async def test_the_wish_to_cancel_a_request_survives_a_restart(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Stop")
    await cancel_request(alice, conversation.id, "early")
    await colloquy.restart()
    stream = alice.at(colloquy).send(conversation.id, request_id="early")
    assert (await stream.reply()).state == CANCELLED
    assert colloquy.provider.requests == []


async def test_a_request_is_cancelled_after_it_came(colloquy: Colloquy, alice: Caller) -> None:
    conversation = await alice.create(title="Stop")
    held = await hold(colloquy, alice, conversation.id, request_id="r1")
    waiting = alice.send(conversation.id, request_id="r2")
    await waiting.accepted()
    second = await cancel_request(alice, conversation.id, "r2")
    assert (second.message.state, second.message.content) == (CANCELLED, "")
    first = await cancel_request(alice, conversation.id, "r1")
    assert (first.message.id, first.message.state) == (held.id, CANCELLED)
    assert first.message.content == colloquy.provider.requests[0].text
    assert (await held.stream.reply()) == first.message
    assert (await cancel_request(alice, conversation.id, "r1")).message == first.message


async def test_a_cancel_that_races_its_request_always_wins(
    colloquy: Colloquy, alice: Caller
) -> None:
    """Whichever comes first, the reply ends as cancelled: it stalls, so nothing else ends it."""
    colloquy.provider.default = Answer(tokens=5, stall_after=2)
    conversations = [await alice.create(title="Race") for _ in range(10)]

    async def race(number: int, conversation_id: str) -> resources.Message:
        stream = alice.send(conversation_id, request_id="r")
        if number % 2:
            await asyncio.sleep(0)
        cancelling = asyncio.create_task(cancel_request(alice, conversation_id, "r"))
        reply = await stream.reply()
        answer = await cancelling
        if answer.HasField("message"):
            assert answer.message == reply
        return reply

    replies = await asyncio.gather(
        *(race(number, conversation.id) for number, conversation in enumerate(conversations))
    )
    assert {reply.state for reply in replies} == {CANCELLED}


async def test_a_regenerate_is_cancelled_by_its_request_id(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Stop")
    reply = await alice.send(conversation.id).reply()
    await cancel_request(alice, conversation.id, "again-1")
    early = alice.regenerate(reply.id, request_id="again-1")
    assert (await early.accepted()).reply.state == CANCELLED
    assert (await early.reply()).state == CANCELLED

    gate = asyncio.Event()
    colloquy.provider.script(half(gate))
    late = alice.regenerate(reply.id, request_id="again-2")
    new = (await late.accepted()).reply
    await text_of(late, new.id, HALF)
    cancelled = (await cancel_request(alice, conversation.id, "again-2")).message
    assert (cancelled.id, cancelled.state) == (new.id, CANCELLED)
    assert await late.reply() == cancelled
    assert len(colloquy.provider.reply_requests) == 2


@ANY
async def test_a_wish_for_a_conversation_that_is_not_there_is_refused(alice: Caller) -> None:
    nowhere = "01890000-0000-7000-8000-000000000000"
    refusal = await refused(cancel_request(alice, nowhere, "r"))
    assert (refusal.status, refusal.reason) == ("NOT_FOUND", "CONVERSATION_NOT_FOUND")


async def test_deleting_a_conversation_cancels_its_live_reply(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Gone")
    held = await hold(colloquy, alice, conversation.id)
    waiting = alice.send(conversation.id, "Next")
    await waiting.accepted()
    request = colloquy.provider.requests[0]
    await alice.call(
        "DeleteConversation", api.DeleteConversationRequest(conversation_id=conversation.id)
    )
    await request.ended()
    assert request.outcome == "client closed"
    for stream in (held.stream, waiting):
        await stream.rest()
        assert stream.transcript.is_deleted
    assert (await refused(alice.message(held.id))).reason == "MESSAGE_NOT_FOUND"
    assert len(colloquy.provider.reply_requests) == 1

"""RegenerateReply answers again; the old reply stays in the history and out of the context."""

from __future__ import annotations

import asyncio

from colloquy.api import resources_pb2 as resources

from tests.e2e.talk import HALF, half, hold, said, text_of
from tests.fakes.provider import Answer
from tests.fleets import ALSO_BY_HTTP, ANY
from tests.harness import Caller, Colloquy

CANCELLED = resources.Message.STATE_CANCELLED
COMPLETED = resources.Message.STATE_COMPLETED
FAILED = resources.Message.STATE_FAILED
GENERATING = resources.Message.STATE_GENERATING
QUEUED = resources.Message.STATE_QUEUED


@ALSO_BY_HTTP
async def test_a_reply_is_made_again_and_the_old_one_leaves_the_context(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Again")
    first = alice.send(conversation.id, "Question")
    old = await first.reply()
    prompt = first.events[0].accepted.message
    watch = alice.watch(conversation.id, first.events[-1].resume_token)

    stream = alice.regenerate(old.id)
    accepted = await stream.accepted()
    assert accepted.message == prompt
    assert accepted.reply.id != old.id
    assert accepted.reply.reply_to == prompt.id
    new = await stream.reply()
    assert new.state == COMPLETED
    assert new.content == colloquy.provider.reply_requests[1].text != old.content
    assert stream.transcript.joined[new.id, 1] == new.content

    await watch.final(new.id)
    assert watch.transcript.messages[old.id].superseded
    watch.cancel()

    await alice.send(conversation.id, "Next").rest()
    bodies = [said(request.body) for request in colloquy.provider.reply_requests]
    assert bodies[1] == [("user", "Question")]
    assert bodies[2] == [("user", "Question"), ("assistant", new.content), ("user", "Next")]

    history = await alice.history(conversation.id)
    assert [message.id for message in history[:3]] == [prompt.id, old.id, new.id]
    assert [message.superseded for message in history] == [False, True, False, False, False]
    kept = await alice.message(old.id)
    assert (kept.content, kept.state) == (old.content, COMPLETED)


async def test_another_model_can_answer_again(colloquy: Colloquy, alice: Caller) -> None:
    conversation = await alice.create(title="Again", model="test-model")
    old = await alice.send(conversation.id).reply()
    new = await alice.regenerate(old.id, model="other-model").reply()
    assert (old.model, new.model) == ("test-model", "other-model")
    assert colloquy.provider.reply_requests[1].body["model"] == "other-model"
    assert (await alice.conversation(conversation.id)).model == "test-model"
    following = await alice.send(conversation.id).reply()
    assert following.model == "test-model"


async def test_an_earlier_reply_is_made_again_without_what_was_said_later(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Again")
    one = await alice.send(conversation.id, "P1").reply()
    two = await alice.send(conversation.id, "P2").reply()
    again = await alice.regenerate(one.id).reply()
    await alice.send(conversation.id, "P3").rest()
    bodies = [said(request.body) for request in colloquy.provider.reply_requests]
    assert bodies[2] == [("user", "P1")]
    assert bodies[3] == [
        ("user", "P1"),
        ("assistant", again.content),
        ("user", "P2"),
        ("assistant", two.content),
        ("user", "P3"),
    ]


async def test_any_reply_to_a_prompt_can_be_named_to_make_it_again(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Again")
    first = await alice.send(conversation.id, "P").reply()
    second = await alice.regenerate(first.id).reply()
    third = await alice.regenerate(first.id).reply()
    history = await alice.history(conversation.id)
    superseded = {message.id: message.superseded for message in history}
    assert [superseded[r.id] for r in (first, second, third)] == [True, True, False]
    assert {message.reply_to for message in history[1:]} == {history[0].id}


async def test_a_live_reply_is_made_again_when_it_has_ended(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Again")
    held = await hold(colloquy, alice, conversation.id, "P")
    stream = alice.regenerate(held.id)
    assert (await stream.accepted()).reply.state == QUEUED
    held.gate.set()
    old = await held.stream.reply()
    new = await stream.reply()
    assert (old.state, old.superseded) == (COMPLETED, True)
    assert len(old.content.split()) == 2 * HALF, "it goes on to its end"
    assert (new.state, new.superseded) == (COMPLETED, False)
    assert said(colloquy.provider.reply_requests[1].body) == [("user", "P")]


async def test_a_waiting_reply_is_not_written_when_it_is_made_again(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Again")
    held = await hold(colloquy, alice, conversation.id, "live")
    waiting = alice.send(conversation.id, "P")
    old = (await waiting.accepted()).reply
    stream = alice.regenerate(old.id, model="other-model")
    await stream.accepted()
    stopped = await waiting.reply()
    assert (stopped.state, stopped.superseded) == (CANCELLED, True)
    held.gate.set()
    new = await stream.reply()
    assert (new.state, new.model) == (COMPLETED, "other-model")
    assert len(colloquy.provider.reply_requests) == 2


async def test_a_failed_reply_is_made_again(colloquy: Colloquy, alice: Caller) -> None:
    conversation = await alice.create(title="Again")
    colloquy.provider.script(Answer(status=400))
    old = await alice.send(conversation.id, "P").reply()
    assert old.state == FAILED
    new = await alice.regenerate(old.id).reply()
    assert (new.state, new.attempt) == (COMPLETED, 1)
    assert not new.HasField("error")


async def test_making_again_waits_its_turn_in_a_busy_conversation(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Again")
    old = await alice.send(conversation.id, "P").reply()
    held = await hold(colloquy, alice, conversation.id, "live")
    waiting = alice.send(conversation.id, "waiting")
    await waiting.accepted()
    stream = alice.regenerate(old.id)
    assert (await stream.accepted()).reply.state == QUEUED
    held.gate.set()
    assert (await stream.reply()).state == COMPLETED
    asked = [request.last_user_text for request in colloquy.provider.reply_requests]
    assert asked == ["P", "live", "waiting", "P"]
    await waiting.rest()


@ANY
async def test_a_caller_that_goes_away_does_not_stop_what_it_asked_to_make_again(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Again")
    old = await alice.send(conversation.id, "P").reply()
    gate = asyncio.Event()
    colloquy.provider.script(half(gate))
    stream = alice.regenerate(old.id)
    new = (await stream.accepted()).reply
    await text_of(stream, new.id, HALF)
    stream.cancel()
    watch = alice.watch(conversation.id, stream.events[-1].resume_token)
    gate.set()
    assert (await watch.final(new.id)).state == COMPLETED
    watch.cancel()

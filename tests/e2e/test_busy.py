"""A send to a busy conversation waits, is refused, or interrupts: as its caller wants it."""

from __future__ import annotations

import asyncio

from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources

from tests.e2e.talk import HALF, half, hold, said, text_of
from tests.fleets import ALONE_BY_ALL, ALSO_BY_HTTP
from tests.harness import Caller, Colloquy
from tests.statuses import refused

CANCELLED = resources.Message.STATE_CANCELLED
COMPLETED = resources.Message.STATE_COMPLETED
GENERATING = resources.Message.STATE_GENERATING
QUEUED = resources.Message.STATE_QUEUED

REJECT = api.ON_BUSY_REJECT
INTERRUPT = api.ON_BUSY_INTERRUPT


async def test_sends_wait_and_are_answered_in_the_order_in_which_they_came(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Busy")
    held = await hold(colloquy, alice, conversation.id, "0")
    watch = alice.watch(conversation.id)
    waiting = []
    for number in range(1, 5):
        on_busy = api.ON_BUSY_ENQUEUE if number % 2 else api.ON_BUSY_UNSPECIFIED
        stream = alice.send(conversation.id, str(number), on_busy=on_busy)
        assert (await stream.accepted()).reply.state == QUEUED
        waiting.append(stream)
    held.gate.set()
    replies = [await stream.reply() for stream in waiting]
    assert {reply.state for reply in replies} == {COMPLETED}
    asked = [request.last_user_text for request in colloquy.provider.reply_requests]
    assert asked == ["0", "1", "2", "3", "4"]

    await watch.final(replies[-1].id)
    states: dict[str, list[int]] = {}
    for event in watch.events:
        if event.WhichOneof("event") == "message":
            states.setdefault(event.message.id, []).append(event.message.state)
    for reply in replies:  # who is behind is not told what is over already
        assert states[reply.id][0] == QUEUED
        assert states[reply.id][-1] == COMPLETED
        assert states[reply.id] == sorted(states[reply.id])
    for stream in waiting:
        kinds = [event.WhichOneof("event") for event in stream.events]
        assert kinds[:2] == ["accepted", "message"], "it is told when it starts"
        assert stream.events[1].message.state == GENERATING
    watch.cancel()


async def test_a_reply_knows_nothing_that_was_said_after_its_prompt(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Busy")
    held = await hold(colloquy, alice, conversation.id, "first")
    second = alice.send(conversation.id, "second")
    await second.accepted()
    third = alice.send(conversation.id, "third")
    await third.accepted()
    held.gate.set()
    await asyncio.gather(second.reply(), third.reply())
    texts = [request.text for request in colloquy.provider.reply_requests]
    bodies = [said(request.body) for request in colloquy.provider.reply_requests]
    assert bodies[1] == [("user", "first"), ("assistant", texts[0]), ("user", "second")]
    assert bodies[2] == [*bodies[1], ("assistant", texts[1]), ("user", "third")]


@ALSO_BY_HTTP
async def test_a_send_that_will_not_wait_is_refused_and_nothing_is_stored(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Busy")
    free = alice.send(conversation.id, on_busy=REJECT)
    assert (await free.reply()).state == COMPLETED
    held = await hold(colloquy, alice, conversation.id)
    refusal = await refused(alice.send(conversation.id, "No", on_busy=REJECT, request_id="r"))
    assert (refusal.status, refusal.reason) == ("ABORTED", "CONVERSATION_BUSY")
    assert len(await alice.history(conversation.id)) == 4
    held.gate.set()
    await held.stream.rest()
    again = alice.send(conversation.id, "Now", on_busy=REJECT, request_id="r")
    assert (await again.reply()).state == COMPLETED


async def test_an_interrupt_cancels_the_live_reply_and_goes_before_all_that_wait(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Busy")
    held = await hold(colloquy, alice, conversation.id, "live")
    waiting = alice.send(conversation.id, "waiting")
    await waiting.accepted()
    urgent = alice.send(conversation.id, "urgent", on_busy=INTERRUPT)
    assert (await urgent.accepted()).reply.state == QUEUED
    stopped = await held.stream.reply()
    assert stopped.state == CANCELLED
    assert stopped.content == colloquy.provider.reply_requests[0].text
    assert (await urgent.reply()).state == COMPLETED
    assert (await waiting.reply()).state == COMPLETED
    requests = colloquy.provider.reply_requests
    assert [request.last_user_text for request in requests] == ["live", "urgent", "waiting"]
    assert requests[0].outcome == "client closed"
    # What was said is in the order in which it was said, each with its answer.
    assert said(requests[1].body) == [
        ("user", "live"),
        ("assistant", stopped.content),
        ("user", "waiting"),
        ("user", "urgent"),
    ]


async def test_an_interrupt_interrupts_an_interrupt(colloquy: Colloquy, alice: Caller) -> None:
    conversation = await alice.create(title="Busy")
    first = await hold(colloquy, alice, conversation.id, "1")
    gate = asyncio.Event()
    colloquy.provider.script(half(gate))
    second = alice.send(conversation.id, "2", on_busy=INTERRUPT)
    accepted = await second.accepted()
    kept = await text_of(second, accepted.reply.id, HALF)
    third = alice.send(conversation.id, "3", on_busy=INTERRUPT)
    assert (await third.reply()).state == COMPLETED
    assert (await first.stream.reply()).state == CANCELLED
    stopped = await second.reply()
    assert (stopped.state, stopped.content) == (CANCELLED, kept)


async def test_interrupts_at_the_same_time_lose_nobody(colloquy: Colloquy, alice: Caller) -> None:
    conversation = await alice.create(title="Busy")
    held = await hold(colloquy, alice, conversation.id, "live")
    streams = [alice.send(conversation.id, str(number), on_busy=INTERRUPT) for number in range(5)]
    replies = await asyncio.gather(*(stream.reply() for stream in streams))
    assert (await held.stream.reply()).state == CANCELLED
    assert {reply.state for reply in replies} <= {COMPLETED, CANCELLED}
    assert COMPLETED in {reply.state for reply in replies}
    assert len(await alice.history(conversation.id)) == 12


async def test_an_interrupt_of_nothing_is_a_send(colloquy: Colloquy, alice: Caller) -> None:
    conversation = await alice.create(title="Free")
    stream = alice.send(conversation.id, on_busy=INTERRUPT)
    assert (await stream.reply()).state == COMPLETED


@ALONE_BY_ALL
async def test_a_full_queue_takes_nothing_more_until_one_has_finished(
    colloquy: Colloquy, alice: Caller
) -> None:
    await colloquy.restart(max_queued_per_conversation=2)
    alice = alice.at(colloquy)
    conversation, other = await alice.create(title="Full"), await alice.create(title="Free")
    done = await alice.send(conversation.id, "Before").reply()
    held = await hold(colloquy, alice, conversation.id)
    waiting = [alice.send(conversation.id, f"Waiting {number}") for number in range(2)]
    for stream in waiting:
        await stream.accepted()
    before = await alice.history(conversation.id)
    for call in (
        alice.send(conversation.id, "One too many", request_id="r"),
        alice.send(conversation.id, "Urgent", on_busy=INTERRUPT),
        alice.regenerate(done.id),
    ):
        refusal = await refused(call)
        assert (refusal.status, refusal.reason) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
        assert refusal.retry_delay
        assert refusal.quota == (f"conversation:{conversation.id}",)
        assert "2" in refusal.message
    assert await alice.history(conversation.id) == before
    assert (await alice.send(other.id).reply()).state == COMPLETED, "other conversations go on"
    held.gate.set()
    for stream in waiting:
        await stream.rest()
    assert (await alice.send(conversation.id, "Again", request_id="r").reply()).state == COMPLETED


async def test_replies_of_several_conversations_are_written_at_the_same_time(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversations = [await alice.create(title=f"{number}") for number in range(5)]
    held = [await hold(colloquy, alice, conversation.id) for conversation in conversations]
    for reply in reversed(held):
        reply.gate.set()
        assert (await reply.stream.reply()).state == COMPLETED

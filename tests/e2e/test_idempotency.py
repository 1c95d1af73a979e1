"""One request_id is one request, however often and wherever it is sent."""

from __future__ import annotations

import asyncio

from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources

from tests.e2e.talk import HALF, half, hold, text_of
from tests.fakes.provider import Answer
from tests.fleets import ALONE, ALSO_BY_HTTP
from tests.harness import Caller, Colloquy
from tests.statuses import refused

CANCELLED = resources.Message.STATE_CANCELLED
COMPLETED = resources.Message.STATE_COMPLETED

REUSED = ("ALREADY_EXISTS", "REQUEST_ID_REUSED")


@ALSO_BY_HTTP
async def test_fifty_parallel_sends_are_one(colloquy: Colloquy, alice: Caller) -> None:
    assert colloquy.far is not None
    callers = [alice.on(colloquy.channel), alice.on(colloquy.far)]
    conversation = await alice.create(title="Fifty")
    colloquy.provider.default = Answer(tokens=30, rate=300)
    streams = [
        callers[number % 2].send(conversation.id, "Once", request_id="one") for number in range(50)
    ]
    replies = await asyncio.gather(*(stream.reply() for stream in streams))
    assert len({reply.SerializeToString(deterministic=True) for reply in replies}) == 1
    assert replies[0].state == COMPLETED
    assert len(replies[0].content.split()) == 30
    for stream in streams:
        assert stream.transcript.messages[replies[0].id].content == replies[0].content
    history = await alice.history(conversation.id)
    assert [message.role for message in history] == [1, 2]
    assert len(colloquy.provider.reply_requests) == 1


async def test_a_repeated_send_gives_the_text_so_far_and_then_the_rest(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Attach")
    held = await hold(colloquy, alice, conversation.id, "Once", request_id="r")
    text = held.stream.transcript.messages[held.id].content
    for caller in (alice, alice.on(colloquy.channel)):
        stream = caller.send(conversation.id, "Once", request_id="r")
        accepted = await stream.accepted()
        assert accepted.message == held.prompt
        assert accepted.reply.id == held.id
        assert accepted.reply.content == text
        stream.cancel()
    stream = alice.send(conversation.id, "Once", request_id="r")
    await stream.accepted()
    held.gate.set()
    reply = await stream.reply()
    assert text + stream.transcript.joined[reply.id, 1] == reply.content
    assert reply == await held.stream.reply()
    assert len(colloquy.provider.reply_requests) == 1


async def test_a_repeated_send_after_the_end_gives_the_whole_reply(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Attach")
    reply = await alice.send(conversation.id, "Once", request_id="r").reply()
    await colloquy.restart()
    stream = alice.at(colloquy).send(conversation.id, "Once", request_id="r")
    accepted = await stream.accepted()
    assert accepted.reply.content == reply.content
    assert await stream.reply() == reply
    assert [event.WhichOneof("event") for event in stream.events] == ["accepted", "message"]
    assert len(colloquy.provider.reply_requests) == 1


async def test_a_repeated_send_attaches_to_a_reply_that_waits(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Attach")
    held = await hold(colloquy, alice, conversation.id)
    streams = [alice.send(conversation.id, "Next", request_id="r") for _ in range(2)]
    accepted = [await stream.accepted() for stream in streams]
    assert accepted[0] == accepted[1]
    held.gate.set()
    first, second = [await stream.reply() for stream in streams]
    assert first == second
    assert first.state == COMPLETED


@ALSO_BY_HTTP
async def test_the_same_id_with_another_request_is_refused(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Reuse")
    author = resources.User(external_id="ann")
    said = alice.send(conversation.id, "Once", request_id="r", author=author)
    await said.rest()
    before = await alice.history(conversation.id)
    nobody = "01890000-0000-7000-8000-000000000000"
    for content, other in (
        ("Twice", author),
        ("Once ", author),
        ("Once", None),
        ("Once", resources.User(external_id="bea")),
        ("Once", resources.User(external_id="new")),
        ("Once", resources.User(id=nobody)),
    ):
        refusal = await refused(alice.send(conversation.id, content, request_id="r", author=other))
        assert (refusal.status, refusal.reason) == REUSED
    assert await alice.history(conversation.id) == before
    same = said.events[0].accepted.message.author.id
    again = alice.send(conversation.id, "Once", request_id="r", author=resources.User(id=same))
    await again.rest()
    assert len(colloquy.provider.reply_requests) == 1


@ALONE
async def test_ids_count_within_a_conversation_and_an_empty_one_is_none(
    colloquy: Colloquy, alice: Caller
) -> None:
    one, two = await alice.create(title="One"), await alice.create(title="Two")
    replies = [
        await stream.reply()
        for stream in (
            alice.send(one.id, request_id="r"),
            alice.send(two.id, request_id="r"),
            alice.send(one.id),
            alice.send(one.id),
            alice.send(one.id, request_id="R"),
            alice.send(one.id, request_id="ü" * 128),
        )
    ]
    assert len({reply.id for reply in replies}) == 6


@ALONE
async def test_a_known_id_is_answered_whatever_else_speaks_against_it(
    colloquy: Colloquy, alice: Caller
) -> None:
    """The conversation is busy, its queue is full, its model is gone: what was done is done."""
    await colloquy.restart(max_queued_per_conversation=1)
    alice = alice.at(colloquy)
    conversation = await alice.create(title="Known", model="other-model")
    done = await alice.send(conversation.id, "Once", request_id="r").reply()
    again = await alice.regenerate(done.id, request_id="again").reply()
    held = await hold(colloquy, alice, conversation.id)
    waiting = alice.send(conversation.id, "Waiting")
    await waiting.accepted()
    for _ in range(2):
        for on_busy in (api.ON_BUSY_REJECT, api.ON_BUSY_ENQUEUE, api.ON_BUSY_INTERRUPT):
            stream = alice.send(conversation.id, "Once", request_id="r", on_busy=on_busy)
            assert (await stream.reply()).id == done.id
        assert (await alice.regenerate(done.id, request_id="again").reply()).id == again.id
        if held.gate.is_set():
            break
        held.gate.set()
        assert (await held.stream.reply()).state == COMPLETED, "it was not interrupted"
        await waiting.rest()
        models = colloquy.models_file.read_text()
        colloquy.models_file.write_text(models.replace("  other-model: *model\n", ""))
        await colloquy.restart(max_queued_per_conversation=1)
        alice = alice.at(colloquy)
        assert (await refused(alice.send(conversation.id))).reason == "MODEL_UNKNOWN"


async def test_regenerate_and_send_share_one_space_of_ids(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Ids")
    first = await alice.send(conversation.id, "Once", request_id="send").reply()
    other = await alice.send(conversation.id, "Other").reply()
    gate = asyncio.Event()
    colloquy.provider.script(half(gate))
    stream = alice.regenerate(first.id, request_id="again")
    new = (await stream.accepted()).reply
    text = await text_of(stream, new.id, HALF)
    attached = alice.regenerate(first.id, request_id="again")
    assert (await attached.accepted()).reply.content == text
    gate.set()
    reply = await stream.reply()
    assert await attached.reply() == reply
    assert (await alice.regenerate(new.id, request_id="again").reply()).id == new.id

    for call in (
        alice.regenerate(first.id, request_id="send"),
        alice.regenerate(other.id, request_id="again"),
        alice.regenerate(first.id, request_id="again", model="other-model"),
        alice.send(conversation.id, "Once", request_id="again"),
    ):
        refusal = await refused(call)
        assert (refusal.status, refusal.reason) == REUSED
    # The first request still names its own reply, not the one that was made again.
    assert (await alice.send(conversation.id, "Once", request_id="send").reply()).id == first.id
    assert len(await alice.history(conversation.id)) == 5


async def test_parallel_regenerates_are_one(colloquy: Colloquy, alice: Caller) -> None:
    conversation = await alice.create(title="Ids")
    first = await alice.send(conversation.id, "Once").reply()
    replies = await asyncio.gather(
        *(alice.regenerate(first.id, request_id="r").reply() for _ in range(10))
    )
    assert len({reply.id for reply in replies}) == 1
    assert len(await alice.history(conversation.id)) == 3
    assert len(colloquy.provider.reply_requests) == 2


async def test_a_conversation_is_made_once(colloquy: Colloquy, alice: Caller) -> None:
    assert colloquy.far is not None
    callers = [alice.on(colloquy.channel), alice.on(colloquy.far)]
    for field in ("request_id", "external_id"):
        made = await asyncio.gather(
            *(callers[number % 2].create(title="Once", **{field: "x"}) for number in range(10))
        )
        assert len({conversation.id for conversation in made}) == 1
    listed = await alice.call("ListConversations", api.ListConversationsRequest())
    assert len(listed.conversations) == 2


async def test_an_external_id_returns_the_conversation_as_it_is(
    colloquy: Colloquy, alice: Caller
) -> None:
    made = await alice.create(title="Mine", external_id="x", model="other-model")
    await alice.send(made.id).rest()
    found = await alice.create(title="Another", external_id="x", system_prompt="Be brief")
    assert found.id == made.id
    assert (found.title, found.model, found.system_prompt) == ("Mine", "other-model", "")
    assert found.message_count == 2
    # One that exists is found even if it could not be made now.
    assert (await alice.create(external_id="x", model="no-such-model")).id == made.id
    await alice.call("DeleteConversation", api.DeleteConversationRequest(conversation_id=made.id))
    assert (await alice.create(external_id="x")).id != made.id


async def test_a_create_with_a_known_id_and_other_content_is_refused(
    colloquy: Colloquy, alice: Caller
) -> None:
    made = await alice.create(title="Once", request_id="c")
    for fields in ({"title": "Twice"}, {"title": "Once", "system_prompt": "x"}, {}):
        refusal = await refused(alice.create(request_id="c", **fields))
        assert (refusal.status, refusal.reason) == REUSED
    assert (await alice.create(title="Once", request_id="c")).id == made.id


async def test_a_repeated_send_of_a_cancelled_reply_is_not_sent_again(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Stop")
    held = await hold(colloquy, alice, conversation.id, "Once", request_id="r")
    cancelled = await alice.cancel(held.id)
    assert await alice.send(conversation.id, "Once", request_id="r").reply() == cancelled
    assert cancelled.state == CANCELLED
    assert len(colloquy.provider.reply_requests) == 1

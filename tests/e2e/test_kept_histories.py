"""A conversation that goes on is not read again; and what is kept of it is what was said."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy_server.context.kept_histories import KeptHistories
from colloquy_server.database.repository import history
from colloquy_server.database.repository.history import Earlier

from tests.e2e.talk import hold, said
from tests.fakes.provider import Answer
from tests.fleets import ANY
from tests.harness import Caller, Colloquy

STEPS = 40
IN_BETWEEN = (
    *("nothing",) * 6,
    "a refusal",
    "an empty answer",
    "a blank answer",
    "a blank message",
    "an answer that breaks off",
    "an answer that is stopped",
    "a regenerated answer",
    "an older answer regenerated",
    "a rating",
    "another system prompt",
)


async def happen(colloquy: Colloquy, alice: Caller, conversation_id: str, what: str) -> None:
    provider = colloquy.provider
    replies = [
        message
        for message in await alice.history(conversation_id)
        if message.role == resources.Message.ROLE_ASSISTANT
    ]
    if what == "a refusal":
        provider.script(Answer(status=400))
        await alice.send(conversation_id, "refused").rest()
    elif what == "an empty answer":
        provider.script(Answer(tokens=0, finish="length"))
        await alice.send(conversation_id, "not answered").rest()
    elif what == "a blank answer":
        provider.script(*[Answer(pieces=[" ", "\n"])] * 3)
        await alice.send(conversation_id, "not answered").rest()
        provider.forget_scripts()
    elif what == "a blank message":
        await alice.send(conversation_id, " \n").rest()
    elif what == "an answer that breaks off":
        provider.script(Answer(tokens=5, drop_after=2), Answer(status=400))
        await alice.send(conversation_id, "broken off").rest()
    elif what == "an answer that is stopped":
        held = await hold(colloquy, alice, conversation_id, "stopped")
        await alice.cancel(held.id)
    elif what == "a regenerated answer" and replies:
        await regenerate(colloquy, alice, replies[-1])
    elif what == "an older answer regenerated" and replies:
        await regenerate(colloquy, alice, replies[len(replies) // 2])
    elif what == "a rating" and replies:
        await alice.call(
            "RateReply",
            api.RateReplyRequest(message_id=replies[-1].id, rating=resources.RATING_GOOD),
        )
    elif what == "another system prompt":
        changed = resources.Conversation(id=conversation_id, system_prompt="Rhyme")
        await alice.call("UpdateConversation", api.UpdateConversationRequest(conversation=changed))


async def regenerate(colloquy: Colloquy, alice: Caller, reply: resources.Message) -> None:
    """Has a reply made again: its model knows what was said before the prompt, as it stands now,
    and nothing that was said after it."""
    before = await alice.history(reply.conversation_id)
    await alice.regenerate(reply.id).rest()
    known = given(before, reply.reply_to)
    told = said(colloquy.provider.reply_requests[-1].body)[1:]
    assert told == as_said(known, alternates=colloquy.provider.is_strict)


def as_said(
    messages: Sequence[resources.Message], *, alternates: bool = False
) -> list[tuple[str, str]]:
    """(role, text) of what a model is told of messages."""
    roles = {resources.Message.ROLE_USER: "user", resources.Message.ROLE_ASSISTANT: "assistant"}
    told: list[tuple[str, str]] = []
    for message in messages:
        role = roles[message.role]
        if alternates and told and told[-1][0] == role:
            told[-1] = (role, f"{told[-1][1]}\n\n{message.content}")
        else:
            told.append((role, message.content))
    return told


def given(messages: Sequence[resources.Message], asked: str = "") -> list[resources.Message]:
    """What of a conversation its model is to know, by the contract alone, up to the prompt that is
    asked."""
    known: list[resources.Message] = []
    for prompt in messages:
        if prompt.role != resources.Message.ROLE_USER:
            continue
        if prompt.id == asked:
            return [*known, prompt]
        if prompt.content.strip():
            known.append(prompt)
        known += [
            reply
            for reply in messages
            if known
            and reply.reply_to == prompt.id
            and reply.content.strip()
            and not reply.superseded
            and reply.state
            in (resources.Message.STATE_COMPLETED, resources.Message.STATE_CANCELLED)
        ]
    return known


@ANY
@pytest.mark.parametrize("model", ["test-model", "strict-model"])
async def test_what_is_kept_is_what_was_said_whatever_happens_in_between(
    colloquy: Colloquy, alice: Caller, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    colloquy.provider.is_strict = is_strict = model == "strict-model"
    reads = 0
    read = history.read_for_new

    def counted(*args: Any) -> history.History:
        nonlocal reads
        reads += 1
        return read(*args)

    monkeypatch.setattr(history, "read_for_new", counted)
    chance = Random(f"{colloquy.database_url[:6]}")
    conversation = await alice.create(title="Kept", model=model, system_prompt="Be brief")
    for step in range(STEPS):
        await happen(colloquy, alice, conversation.id, chance.choice(IN_BETWEEN))
        before = await alice.history(conversation.id)
        system = (await alice.conversation(conversation.id)).system_prompt
        reply = await alice.send(conversation.id, f"words {step}").reply()
        assert reply.state == resources.Message.STATE_COMPLETED
        known = given(before)
        asked = resources.Message(role=resources.Message.ROLE_USER, content=f"words {step}")
        assert said(colloquy.provider.reply_requests[-1].body) == [
            ("system", system),
            *as_said([*known, asked], alternates=is_strict),
        ]
        receipt = await alice.receipt(reply.id)
        assert list(receipt.message_ids) == [*(message.id for message in known), reply.reply_to]
        left_out = {left.message_id for left in receipt.left_out}
        assert left_out == {message.id for message in before} - {message.id for message in known}
    sends = len([m for m in await alice.history(conversation.id) if not m.reply_to])
    assert 0 < reads < sends * 3 / 4


@ANY
async def test_a_second_author_is_told_apart_from_the_one_of_what_is_kept(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Kept")
    for name in ("ann", "ann", "bob"):
        author = resources.User(external_id=name, display_name=name)
        await alice.send(conversation.id, f"I am {name}", author=author).rest()
    messages = colloquy.provider.reply_requests[-1].body["messages"]
    assert [m["name"] for m in messages if m["role"] == "user"] == ["ann", "ann", "bob"]


def test_no_more_is_kept_than_there_is_room_for() -> None:
    kept = KeptHistories(max_bytes=25)
    for number in range(4):
        kept.put(f"c{number}", 1, Earlier(b"x" * 10, 1, None, 1, ((1, 1),), ()))
    assert [kept.get(f"c{number}", 1) is not None for number in range(4)] == [
        False,
        False,
        True,
        True,
    ]
    assert kept.get("c3", 2) is None
    kept.forget("c3")
    assert kept.get("c3", 1) is None

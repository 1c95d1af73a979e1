"""Conversations get a title by themselves, after the first finished exchange."""

# ruff: noqa: RUF001 - quotes and ends of other scripts

from __future__ import annotations

import asyncio
import signal

import pytest
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy_server.replies.titles import MAX_WORDS, tidy
from google.protobuf.field_mask_pb2 import FieldMask

from tests.e2e.talk import hold
from tests.fakes.provider import Answer
from tests.fleets import ALONE, ANY
from tests.harness import TITLE, Caller, Colloquy, ServerProcess, Stream


async def titled(watch: Stream) -> str:
    """The title that a watcher is told of next."""
    event = await watch.until(lambda e: bool(e.conversation.title))
    return event.conversation.title


def rename(conversation_id: str, title: str) -> api.UpdateConversationRequest:
    return api.UpdateConversationRequest(
        conversation=resources.Conversation(id=conversation_id, title=title),
        update_mask=FieldMask(paths=["title"]),
    )


async def test_a_title_comes_without_asking_and_reaches_watchers(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create()
    assert conversation.title == ""
    watch = alice.watch(conversation.id)
    await watch.until("conversation")
    reply = await alice.send(conversation.id, "Why is the sky blue?").reply()
    assert await titled(watch) == TITLE
    assert (await alice.conversation(conversation.id)).title == TITLE
    (request,) = colloquy.provider.title_requests
    assert request.body["model"] == "title-model"
    asked = str(request.messages)
    assert "Why is the sky blue?" in asked
    assert reply.content.strip() in asked
    watch.cancel()


async def test_a_conversation_is_named_once(colloquy: Colloquy, alice: Caller) -> None:
    conversation = await alice.create()
    watch = alice.watch(conversation.id)
    await alice.send(conversation.id).rest()
    await titled(watch)
    for _ in range(2):
        await alice.send(conversation.id).rest()
    assert len(colloquy.provider.title_requests) == 1
    assert (await alice.conversation(conversation.id)).title == TITLE
    watch.cancel()


@pytest.mark.parametrize(
    ("answer", "title"),
    [
        ('"Blue skies."', "Blue skies"),
        ("Title: Blue skies!", "Blue skies"),
        ("**Blue** skies\n\nThat is a good title.", "Blue skies"),
        ("\n\n  «Le ciel bleu»  ", "Le ciel bleu"),
        ("one two three four five six seven eight", "one two three four five six"),
        ("天空为什么是蓝色的\N{FULLWIDTH QUESTION MARK}", "天空为什么是蓝色的"),
        ("C++ and C#: a tour…", "C++ and C#: a tour"),
        ("# Learning C#", "Learning C#"),
        ("## Vitamin B12 (cobalamin)", "Vitamin B12 (cobalamin)"),
        ("Save 20%!", "Save 20%"),
        ("Fix list[0].", "Fix list[0]"),
        ("(Almost) everything about C++", "(Almost) everything about C++"),
        ("„Hallo Welt“", "Hallo Welt"),
        ("‚Hallo Welt‘", "Hallo Welt"),
        ("‹Bonjour›", "Bonjour"),
        ("‘Hello there’", "Hello there"),
        ("「東京の旅」", "東京の旅"),
        ("『東京』と《上海》", "東京と上海"),
        ("مرحبا؟", "مرحبا"),
        ("日本語、", "日本語"),
        ("Париж；", "Париж"),
        ("你好，世界。", "你好，世界"),
        ("¿Qué es esto?", "¿Qué es esto"),
        ("Say 'hi'", "Say hi"),
        ("Don’t panic, it's the users' choice", "Don’t panic, it's the users choice"),
        ("“A” or “B”?", "A or B"),
        ("- Item", "Item"),
        ("a\0b\tc", "ab c"),
        ("w" * 500, "w" * 80),
        ("Don't panic", "Don't panic"),
        ("  ...  ", ""),
        ("", ""),
    ],
)
def test_a_title_is_tidied(answer: str, title: str) -> None:
    assert tidy(answer) == title
    assert len(tidy(answer).split()) <= MAX_WORDS == 6


@ANY
async def test_a_title_of_a_model_is_tidied(colloquy: Colloquy, alice: Caller) -> None:
    colloquy.provider.script_titles(
        Answer(pieces=['"The blue sky ', 'and the deep blue sea."'], usage=False)
    )
    conversation = await alice.create()
    watch = alice.watch(conversation.id)
    await alice.send(conversation.id).rest()
    assert await titled(watch) == "The blue sky and the deep"
    watch.cancel()


@ALONE
async def test_a_title_that_a_user_gave_stays(colloquy: Colloquy, alice: Caller) -> None:
    given = await alice.create(title="Mine")
    await alice.send(given.id).rest()

    gate = asyncio.Event()
    colloquy.provider.script_titles(Answer(pieces=["Theirs"], gate_after=0, gate=gate))
    renamed = await alice.create()
    await alice.send(renamed.id).rest()
    (request,) = await colloquy.provider.wait_for_titles(1)
    await alice.call("UpdateConversation", rename(renamed.id, "Ours"))
    gate.set()
    await request.ended()

    other = await alice.create()  # when its title is made, that of the one before is settled
    watch = alice.watch(other.id)
    await alice.send(other.id).rest()
    await titled(watch)
    assert (await alice.conversation(given.id)).title == "Mine"
    assert (await alice.conversation(renamed.id)).title == "Ours"
    assert len(colloquy.provider.title_requests) == 2, "none was asked for where one was given"
    watch.cancel()


@ALONE
async def test_a_title_that_fails_harms_nothing_and_comes_later(
    colloquy: Colloquy, alice: Caller
) -> None:
    await colloquy.restart(lease_ttl=0.5)
    alice = alice.at(colloquy)
    colloquy.provider.script_titles(Answer(status=500), Answer(drop_after=0))
    conversation = await alice.create()
    watch = alice.watch(conversation.id)
    reply = await alice.send(conversation.id).reply()
    assert reply.state == resources.Message.STATE_COMPLETED
    assert await titled(watch) == TITLE
    assert len(colloquy.provider.title_requests) == 3
    watch.cancel()


@ANY
async def test_titles_are_given_up_until_the_next_exchange(
    colloquy: Colloquy, alice: Caller
) -> None:
    await colloquy.restart(lease_ttl=0.5)
    alice = alice.at(colloquy)
    colloquy.provider.script_titles(*[Answer(status=400)] * 3)
    conversation = await alice.create()
    await alice.send(conversation.id).rest()
    for request in await colloquy.provider.wait_for_titles(3):
        await request.ended()
    watch = alice.watch(conversation.id)
    await alice.send(conversation.id).rest()
    assert await titled(watch) == TITLE
    assert len(colloquy.provider.title_requests) == 4
    watch.cancel()


async def test_only_a_finished_exchange_is_named(colloquy: Colloquy, alice: Caller) -> None:
    conversation = await alice.create()
    colloquy.provider.script(Answer(status=400))
    await alice.send(conversation.id, "Fails").rest()
    held = await hold(colloquy, alice, conversation.id, "Cancelled")
    await alice.cancel(held.id)
    assert (await alice.conversation(conversation.id)).title == ""
    watch = alice.watch(conversation.id)
    await alice.send(conversation.id, "Works").rest()
    assert await titled(watch) == TITLE
    (request,) = colloquy.provider.title_requests
    assert "Works" in str(request.messages)
    assert "Cancelled" not in str(request.messages)
    watch.cancel()


@ANY
async def test_a_model_that_says_nothing_leaves_the_question_as_the_title(
    colloquy: Colloquy, alice: Caller
) -> None:
    colloquy.provider.script_titles(Answer(pieces=['"..."']))
    conversation = await alice.create()
    watch = alice.watch(conversation.id)
    await alice.send(conversation.id, "How do I bake a really good rye bread?").rest()
    assert await titled(watch) == "How do I bake a really"
    watch.cancel()


@ALONE
async def test_a_title_that_is_owed_survives_a_crash(colloquy: Colloquy, alice: Caller) -> None:
    await colloquy.stop()
    process = ServerProcess(colloquy, LEASE_TTL="1")
    alice = alice.on(await process.start())
    colloquy.provider.script_titles(Answer(gate_after=0, gate=asyncio.Event()))
    conversation = await alice.create()
    await alice.send(conversation.id).rest()
    await colloquy.provider.wait_for_titles(1)
    await process.end(signal.SIGKILL)
    await colloquy.start()
    alice = alice.at(colloquy)
    assert (await alice.conversation(conversation.id)).title == ""
    watch = alice.watch(conversation.id)
    assert await titled(watch) == TITLE
    assert len(colloquy.provider.title_requests) == 2
    watch.cancel()


@ALONE
async def test_a_title_model_has_room_to_think_first(colloquy: Colloquy, alice: Caller) -> None:
    conversation = await alice.create()
    await alice.send(conversation.id).rest()
    (request,) = await colloquy.provider.wait_for_titles(1)
    assert request.body["max_tokens"] >= 1_000


@ALONE
async def test_a_title_model_that_only_thought_leaves_the_prompts_first_words(
    colloquy: Colloquy, alice: Caller
) -> None:
    thought = Answer(tokens=0, deltas=[{"reasoning_content": "hm"}], finish="length")
    colloquy.provider.script_titles(thought)
    conversation = await alice.create()
    watch = alice.watch(conversation.id)
    await alice.send(conversation.id, "Why is the sky blue?").rest()
    assert await titled(watch) == "Why is the sky blue"
    watch.cancel()

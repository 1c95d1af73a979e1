"""Slack's limits: many replies at once, long answers, and refusals of all kinds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
from colloquy import AsyncConversationClient, ColloquyError
from colloquy.api import resources_pb2 as resources
from colloquy.api.conversation_service_pb2 import ConversationEvent
from colloquy.errors import DeadlineExceeded, ResourceExhausted, ServerError

from tests.fakes.provider import Answer
from tests.fakes.slack import ScaledClock
from tests.harness import Colloquy
from tests.slack_harness import SlackStage, text_of, words_of


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[SlackStage]:
    async with Colloquy(tmp_path) as colloquy, SlackStage(colloquy) as running:
        yield running


async def all_exact(stage: SlackStage, asked: dict[str, str]) -> None:
    """Every thread shows the text that the server has. `asked` is channels by the prompts' ts."""
    for ts, channel_id in asked.items():
        channel = stage.slack.workspace.channels[channel_id]
        messages = await stage.answered(channel, ts, seconds=60)
        _, reply = await stage.stored(stage.thread(ts, channel))
        assert text_of(messages) == reply.content


@pytest.mark.timeout(360)
async def test_twenty_replies_at_once_in_twenty_channels(stage: SlackStage) -> None:
    """All are seen before any of them ends: none waits for another."""
    gate = asyncio.Event()
    stage.colloquy.provider.default = Answer(tokens=120, rate=30, gate_after=60, gate=gate)
    channels = [stage.slack.channel(f"team-{number}") for number in range(20)]
    posted = [stage.alice.post(channel, "Hello", mention=True) for channel in channels]
    threads = list(zip(channels, posted, strict=True))
    await stage.slack.wait_for(
        lambda: all(stage.slack.bot_messages(channel, one.ts) for channel, one in threads), 60
    )
    gate.set()
    asked = {one.ts: channel.id for channel, one in threads}
    await all_exact(stage, asked)
    statistics = stage.slack.rate_statistics()
    assert statistics.final_edits_lost == []
    assert statistics.refused == {}
    assert stage.slack.limits.busiest_minute("chat.update", stage.slack.workspace.id) <= 50


@pytest.mark.timeout(360)
async def test_minutes_of_many_replies_stay_inside_the_tier(tmp_path: Path) -> None:
    clock = ScaledClock(20)
    async with Colloquy(tmp_path) as colloquy, SlackStage(colloquy, clock=clock) as stage:
        await stage.stop()
        stage.slack.courier.ack_seconds = 60
        stage.more = {"clock": clock.time, "sleep": clock.sleep}
        await stage.start()
        colloquy.provider.default = Answer(tokens=80, rate=20)
        asked = {}
        for number in range(40):
            channel = stage.slack.channel(f"team-{number % 20}")
            asked[stage.alice.post(channel, "Hello", mention=True).ts] = channel.id
            await asyncio.sleep(0.2)
        await all_exact(stage, asked)
        assert stage.slack.rate_statistics().final_edits_lost == []
        assert stage.slack.limits.busiest_minute("chat.update", stage.slack.workspace.id) <= 50


async def test_a_final_edit_that_is_refused_for_its_rate_still_comes(stage: SlackStage) -> None:
    stage.colloquy.provider.script(Answer(tokens=60, rate=30))
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    await stage.slack.wait_for(lambda: stage.slack.bot_messages(stage.general, asked.ts))
    stage.slack.fail("chat.update", retry_after=1, times=4)
    await all_exact(stage, {asked.ts: stage.general.id})
    assert stage.slack.rate_statistics().final_edits_lost == []


@pytest.mark.parametrize("drop", ["before", "after"])
async def test_a_post_whose_answer_is_lost_is_not_posted_twice(
    stage: SlackStage, drop: Literal["before", "after"]
) -> None:
    stage.slack.fail("chat.postMessage", drop=drop)
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    await all_exact(stage, {asked.ts: stage.general.id})
    assert len(stage.slack.bot_messages(stage.general, asked.ts)) == 1


@pytest.mark.parametrize("method", ["chat.postMessage", "chat.update"])
@pytest.mark.parametrize("error", ["internal_error", 503])
async def test_slack_stumbles_and_the_reply_arrives(
    stage: SlackStage, method: str, error: str | int
) -> None:
    how = {"error": error} if isinstance(error, str) else {"status": error}
    stage.slack.fail(method, times=2, **how)
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    await all_exact(stage, {asked.ts: stage.general.id})
    assert len(stage.slack.bot_messages(stage.general, asked.ts)) == 1


@pytest.mark.parametrize("error", ["token_revoked", "team_added_to_org"])
async def test_a_reply_outlives_a_token_and_a_move_of_the_workspace(
    stage: SlackStage, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    monkeypatch.setattr("colloquy_slack.slack_api._MIGRATION_DELAY", 0.2)
    monkeypatch.setattr("colloquy_slack.serving.worker._RETRY_DELAY", 0.2)
    gate = asyncio.Event()
    stage.colloquy.provider.script(Answer(tokens=40, gate_after=20, gate=gate))
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    await stage.slack.wait_for(lambda: "r0w9" in stage.slack.thread(stage.general, asked.ts))
    for method in ("chat.postMessage", "chat.update"):
        stage.slack.fail(method, error, times=2)
    gate.set()
    await all_exact(stage, {asked.ts: stage.general.id})
    assert len(stage.slack.bot_messages(stage.general, asked.ts)) == 1


async def test_a_message_that_may_not_be_edited_any_more_is_posted_anew(stage: SlackStage) -> None:
    stage.colloquy.provider.script(Answer(tokens=60, rate=30))
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    await stage.slack.wait_for(lambda: stage.slack.bot_messages(stage.general, asked.ts))
    stage.slack.workspace.edit_window = 0.1
    await stage.answered(stage.general, asked.ts)
    await stage.slack.wait_for(lambda: stage.slack.calls("chat.delete"))
    (last,) = stage.slack.bot_messages(stage.general, asked.ts)
    _, reply = await stage.stored(stage.thread(asked.ts))
    assert text_of([last]) == reply.content


async def test_markdown_that_slack_refuses_is_sent_as_mrkdwn(stage: SlackStage) -> None:
    text = "# Title\n\n**bold** <!channel>\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    stage.colloquy.provider.script(Answer(pieces=[text]))
    for method in ("chat.postMessage", "chat.update"):
        stage.slack.fail(
            method,
            "invalid_blocks",
            times=None,
            when=lambda call: '"type": "markdown"' in str(call.args).replace("'", '"'),
        )
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    (message,) = await stage.answered(stage.general, asked.ts)
    assert "*bold*" in words_of(message)
    assert "```\n| a | b |" in words_of(message)
    assert not stage.slack.notified


def manuscript(length: int) -> str:
    """Nested code fences, tables, emoji and right-to-left text."""
    piece = (
        "## Section {n} 👩‍👩‍👧‍👦\n\nSome *words* that go on and on, as answers do. 🇩🇪👍🏽\n\n"
        "````markdown\nHow to write code:\n```python\nprint('{n}')  # <!channel>\n```\n````\n\n"
        "| name | שם |\n|---|---|\n| one | אחת |\n| two | שתיים |\n\n"
        "שלום עולם, זה טקסט ארוך מימין לשמאל עם מספר {n}.\n\n- a list\n  ```sh\n  ls {n}\n  ```\n\n"
    )
    text = ""
    number = 0
    while len(text) < length:
        text += piece.format(n=number)
        number += 1
    return text[:length]


@pytest.mark.timeout(360)
async def test_sixty_thousand_characters_arrive_complete(stage: SlackStage) -> None:
    text = manuscript(60_000)
    pieces = [text[start : start + 500] for start in range(0, len(text), 500)]
    stage.colloquy.provider.script(Answer(pieces=pieces, rate=60))
    asked = stage.alice.post(stage.general, "Write a book", mention=True)
    messages = await stage.answered(stage.general, asked.ts, seconds=40)
    _, reply = await stage.stored(stage.thread(asked.ts))
    assert reply.content == text
    assert text_of(messages).replace("\u200b", "") == text
    assert len(messages) >= 6
    for message in messages:
        words = next(block["text"] for block in message.blocks if block["type"] == "markdown")
        assert words.count("````") % 2 == 0
    (file,) = await stage.slack.wait_for(lambda: stage.slack.thread_files(stage.general, asked.ts))
    assert file.content.decode() == text
    assert not stage.slack.notified


@pytest.mark.parametrize("drop", ["before", "after"])
async def test_a_file_whose_sharing_is_in_doubt_is_shared_once(
    stage: SlackStage, monkeypatch: pytest.MonkeyPatch, drop: Literal["before", "after"]
) -> None:
    monkeypatch.setattr("colloquy_slack.outgoing.answer_file._SHARED_POLL_INTERVAL", 0.05)
    stage.slack.share_delay = 0.15
    stage.slack.fail("files.completeUploadExternal", drop=drop)
    stage.colloquy.provider.script(Answer(pieces=["word " * 10_000]))
    asked = stage.alice.post(stage.general, "Write a book", mention=True)
    await stage.slack.wait_for(lambda: stage.slack.thread_files(stage.general, asked.ts))
    again = stage.alice.post(stage.general, "Hello", mention=True)
    await stage.answered(stage.general, again.ts)
    assert len(stage.slack.thread_files(stage.general, asked.ts)) == 1


async def test_a_very_long_answer_goes_on_in_the_file(
    stage: SlackStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("colloquy_slack.outgoing.reply_messages.MAX_MESSAGES", 5)
    text = manuscript(20_000)
    stage.colloquy.provider.script(Answer(pieces=[text]))
    asked = stage.alice.post(stage.general, "Write a library", mention=True)
    messages = await stage.answered(stage.general, asked.ts, seconds=40)
    (file,) = await stage.slack.wait_for(lambda: stage.slack.thread_files(stage.general, asked.ts))
    assert file.content.decode() == text
    assert len(messages) == 5
    assert text.startswith(text_of(messages).replace("\u200b", ""))
    assert "in the file" in words_of(messages[-1])


async def test_an_attempt_that_begins_again_replaces_what_was_shown(stage: SlackStage) -> None:
    long = [f"word{number} " for number in range(3_000)]
    stage.colloquy.provider.script(Answer(pieces=long, rate=2_000, drop_after=2_990), Answer())
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    messages = await stage.answered(stage.general, asked.ts)
    _, reply = await stage.stored(stage.thread(asked.ts))
    assert reply.state == resources.Message.STATE_COMPLETED
    await stage.slack.wait_for(lambda: len(stage.slack.bot_messages(stage.general, asked.ts)) == 1)
    assert text_of(messages[:1]) == reply.content


async def test_a_server_that_is_down_is_told_and_answers_later(stage: SlackStage) -> None:
    port = stage.colloquy.app.port
    await stage.colloquy.stop()
    asked = stage.alice.post(stage.general, "Are you there?", mention=True)
    await asked.settled()
    assert all(delivery.acked for delivery in asked.deliveries)
    told = "cannot reach my server"
    await stage.slack.wait_for(lambda: told in stage.slack.thread(stage.general, asked.ts))
    await stage.colloquy.start(grpc_address=f"127.0.0.1:{port}")
    messages = await stage.answered(stage.general, asked.ts, seconds=30)
    assert len(stage.slack.bot_messages(stage.general, asked.ts)) == 1
    prompt, reply = await stage.stored(stage.thread(asked.ts))
    assert prompt.content == "Are you there?"
    assert text_of(messages) == reply.content


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DeadlineExceeded("no answer"), "cannot reach my server"),
        (ServerError("a bug that comes and goes"), None),
        (ResourceExhausted("too many", retry_after=0.5), "In line"),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, Exception) else "",
)
async def test_a_passing_trouble_of_the_server_does_not_end_a_message(
    stage: SlackStage, monkeypatch: pytest.MonkeyPatch, error: ColloquyError, told: str | None
) -> None:
    create, tried = AsyncConversationClient.create_conversation, []

    async def fail_first(client: AsyncConversationClient, **how: Any) -> resources.Conversation:
        tried.append(how)
        if len(tried) <= 2:
            raise error
        return await create(client, **how)

    monkeypatch.setattr(AsyncConversationClient, "create_conversation", fail_first)
    asked = stage.alice.post(stage.general, "Are you there?", mention=True)
    if told:
        await stage.slack.wait_for(lambda: told in stage.slack.thread(stage.general, asked.ts))
    await all_exact(stage, {asked.ts: stage.general.id})
    (message,) = stage.slack.bot_messages(stage.general, asked.ts)
    if told is None:
        states = [version.shown for version in message.versions]
        assert not any("cannot reach" in state for state in states)


async def test_an_error_of_the_server_that_stays_is_told(
    stage: SlackStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_client: AsyncConversationClient, **_how: str) -> None:
        raise ServerError("a bug")

    monkeypatch.setattr(AsyncConversationClient, "create_conversation", fail)
    monkeypatch.setattr("colloquy_slack.serving.backoff._FIRST_DELAY", 0.01)
    asked = stage.alice.post(stage.general, "Are you there?", mention=True)
    (message,) = await stage.answered(stage.general, asked.ts)
    assert "a bug" in words_of(message)


async def test_a_server_that_takes_a_message_and_says_nothing_is_asked_again(
    stage: SlackStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, opened = AsyncConversationClient._events, []

    async def hang_first(client: Any, *how: Any) -> AsyncIterator[ConversationEvent]:
        opened.append(how)
        if len(opened) == 1:
            await asyncio.Event().wait()
        async for event in events(client, *how):
            yield event

    monkeypatch.setattr(AsyncConversationClient, "_events", hang_first)
    monkeypatch.setattr("colloquy_slack.serving.reply_job.ACCEPT_TIMEOUT", 0.3)
    asked = stage.alice.post(stage.general, "Are you there?", mention=True)
    await all_exact(stage, {asked.ts: stage.general.id})


async def test_a_server_that_restarts_does_not_show(stage: SlackStage) -> None:
    port = stage.colloquy.app.port
    stage.colloquy.provider.default = Answer(tokens=100, rate=30)
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    await stage.slack.wait_for(lambda: stage.slack.thread(stage.general, asked.ts))
    await stage.colloquy.stop(grace=0)
    await stage.colloquy.start(grpc_address=f"127.0.0.1:{port}")
    messages = await stage.answered(stage.general, asked.ts, seconds=30)
    _, reply = await stage.stored(stage.thread(asked.ts))
    assert text_of(messages) == reply.content

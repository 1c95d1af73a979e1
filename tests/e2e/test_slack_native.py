"""Native streaming: used where it works, and left at any point without losing or doubling text."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from colloquy.api import resources_pb2 as resources

from tests.fakes.provider import Answer
from tests.harness import Colloquy
from tests.slack_harness import SlackStage, text_of


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[SlackStage]:
    async with (
        Colloquy(tmp_path) as colloquy,
        SlackStage(colloquy, slack_native_streaming=True) as running,
    ):
        running.colloquy.provider.default = Answer(tokens=75, rate=30)
        yield running


async def exact(stage: SlackStage, ts: str) -> None:
    messages = await stage.answered(stage.general, ts)
    _, reply = await stage.stored(stage.thread(ts))
    assert text_of(messages).replace("\u200b", "") == reply.content
    assert stage.slack.bot_messages(stage.general, ts) == messages
    assert not stage.slack.notified


async def test_a_reply_is_streamed(stage: SlackStage) -> None:
    stage.colloquy.provider.script(Answer(tokens=150, rate=30))
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    await exact(stage, asked.ts)
    assert len(stage.slack.calls("chat.appendStream")) >= 2
    assert not stage.slack.calls("chat.postMessage")


async def test_mentions_within_a_stream_notify_nobody(stage: SlackStage) -> None:
    pieces = ["Hi <!cha", "nnel> and <@U0", "DBL000002> ", "@he", "re ", *["word "] * 60]
    stage.colloquy.provider.script(Answer(pieces=pieces, rate=20))
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    await exact(stage, asked.ts)


async def test_a_workspace_without_the_feature_gets_edits_from_then_on(stage: SlackStage) -> None:
    stage.slack.fail("chat.startStream", "feature_not_enabled", times=None)
    for _ in range(2):
        asked = stage.alice.post(stage.general, "Hello", mention=True)
        await exact(stage, asked.ts)
    assert len(stage.slack.calls("chat.startStream")) == 1


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        ("chat.startStream", {"drop": "before"}),
        ("chat.startStream", {"drop": "after"}),
        ("chat.startStream", {"retry_after": 1}),
        ("chat.appendStream", {"error": "message_not_in_streaming_state"}),
        ("chat.appendStream", {"status": 503}),
        ("chat.appendStream", {"drop": "after"}),
        ("chat.appendStream", {"retry_after": 1}),
        ("chat.stopStream", {"drop": "after"}),
        ("chat.stopStream", {"retry_after": 1}),
    ],
)
async def test_a_stream_that_breaks_goes_on_with_edits(
    stage: SlackStage, method: str, fault: dict[str, object]
) -> None:
    stage.slack.fail(method, times=1, **fault)  # type: ignore[arg-type]
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    await exact(stage, asked.ts)


@pytest.mark.parametrize("is_shown", [True, False])
async def test_a_model_that_thinks_long_is_seen_to_think(
    stage: SlackStage, monkeypatch: pytest.MonkeyPatch, is_shown: bool
) -> None:
    monkeypatch.setattr("colloquy_slack.serving.thinking_status._STATUS_INTERVAL", 0.1)
    status = "assistant.threads.setStatus"
    if not is_shown:
        stage.slack.fail(status, status=503)
    stage.colloquy.provider.script(Answer(delay=2, tokens=75, rate=100))
    asked = stage.alice.post(stage.general, "Think hard", mention=True)
    if is_shown:
        await stage.slack.wait_for(lambda: len(stage.slack.calls(status)) >= 3)
        assert not stage.slack.bot_messages(stage.general, asked.ts)
    else:
        told = "Thinking"
        await stage.slack.wait_for(lambda: told in stage.slack.thread(stage.general, asked.ts))
    await exact(stage, asked.ts)


async def test_slacks_own_stop_button_stops_the_reply(stage: SlackStage) -> None:
    stage.colloquy.provider.script(Answer(tokens=60, rate=30, stall_after=50))
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    await stage.slack.wait_for(lambda: stage.slack.calls("chat.appendStream"))
    pressed = stage.alice.stop(stage.general, asked)
    assert pressed is not None
    await pressed.settled()
    await exact(stage, asked.ts)
    _, reply = await stage.stored(stage.thread(asked.ts))
    assert reply.state == resources.Message.STATE_CANCELLED


async def test_a_restart_in_the_middle_of_a_stream(stage: SlackStage) -> None:
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    await stage.slack.wait_for(lambda: stage.slack.calls("chat.appendStream"))
    await stage.restart()
    await exact(stage, asked.ts)


async def test_a_long_answer_leaves_its_stream(stage: SlackStage) -> None:
    pieces = [f"Word number {number} of many.\n" for number in range(800)]
    stage.colloquy.provider.script(Answer(pieces=pieces, rate=400))
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    await exact(stage, asked.ts)

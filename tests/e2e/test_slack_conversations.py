"""Talking in Slack: mentions, threads, direct messages, with a real server behind the bot."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.fakes.provider import Answer
from tests.harness import Colloquy
from tests.slack_harness import SlackStage, text_of


@pytest.fixture
async def stage(colloquy: Colloquy) -> AsyncIterator[SlackStage]:
    async with SlackStage(colloquy) as running:
        yield running


async def test_a_mention_gets_a_threaded_reply_that_grows_to_the_stored_text(
    stage: SlackStage,
) -> None:
    stage.colloquy.provider.script(Answer(tokens=100, rate=25))
    asked = stage.alice.post(stage.general, "What is a monad?", mention=True)
    await asked.settled()
    (message,) = await stage.answered(stage.general, asked.ts)
    assert message.thread_ts == asked.ts
    states = [version.shown for version in message.versions]
    assert len(states) >= 3
    prompt, reply = await stage.stored(stage.thread(asked.ts))
    assert prompt.content == "What is a monad?"
    assert prompt.author.display_name == "Alice"
    assert text_of([message]) == reply.content == states[-1]
    assert not stage.slack.notified

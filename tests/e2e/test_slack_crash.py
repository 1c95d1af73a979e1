"""The bot dies at any failpoint, and whatever Slack delivers again: one answer, whole."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from colloquy_slack.failpoints import FAILPOINTS

from tests.fakes.provider import Answer
from tests.harness import Colloquy
from tests.slack_harness import BotProcess, SlackStage, text_of

# Long enough for two messages.
LONG = [f"Line {number} of a long answer that goes on.\n" for number in range(300)]
AT_THE_SECOND_MESSAGE = ("post intended*2", "posted*2", "post recorded*2")

PARTS = 3
"""The failpoints are shared out among so many tests, which run side by side."""


class QuietStage(SlackStage):
    is_started_at_once = False


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[SlackStage]:
    async with Colloquy(tmp_path) as colloquy, QuietStage(colloquy, slack_lease_ttl=1.0) as running:
        running.slack.courier.retry_delays = (0.3,) * 200
        yield running


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
async def test_killed_at_every_failpoint_it_answers_once_and_whole(
    stage: SlackStage, part: int
) -> None:
    stage.colloquy.provider.default = Answer(pieces=LONG, rate=1_000)
    bot = BotProcess(stage)
    await bot.start()
    chance = random.Random(part)
    failpoints = (*FAILPOINTS, *AT_THE_SECOND_MESSAGE)[part::PARTS]
    for failpoint in failpoints:
        bot.die_at.write_text(failpoint)
        stage.slack.courier.hold()
        asked = stage.alice.post(stage.general, f"Say much ({failpoint})", mention=True)
        order = [0, 1]
        chance.shuffle(order)
        stage.slack.courier.release(times=3, order=order)
        await bot.died()
        await bot.start()
        await stage.answered(stage.general, asked.ts, seconds=30)
        for delivery in asked.deliveries:
            stage.slack.courier.again(delivery, times=1)
        messages = stage.reply_messages(stage.general, asked.ts)
        prompt, reply = await stage.stored(stage.thread(asked.ts))
        assert prompt.content == f"Say much ({failpoint})", failpoint
        assert text_of(messages) == reply.content == "".join(LONG), failpoint
        assert len(messages) == 2, failpoint
        assert stage.slack.bot_messages(stage.general, asked.ts) == messages, failpoint
    assert len(stage.colloquy.provider.reply_requests) == len(failpoints)
    await bot.kill()
    for secret in (stage.slack.bot_token, stage.slack.app.app_token, stage.caller.key):
        assert secret not in bot.log.read_text()


async def test_killed_in_a_thread_it_reads_it_once_and_gives_it_once(stage: SlackStage) -> None:
    bot = BotProcess(stage)
    await bot.start()
    for failpoint in ("message prepared", "reply accepted", "reply delivered"):
        root = stage.bob.post(stage.general, "The deploy fails")
        await root.settled()
        bot.die_at.write_text(failpoint)
        stage.alice.post(stage.general, "What now?", thread=root, mention=True)
        await bot.died()
        await bot.start()
        await stage.answered(stage.general, root.ts, seconds=30)
        stage.bob.post(stage.general, "And then?", thread=root)
        await stage.answered(stage.general, root.ts, count=2, seconds=30)
        first, second = [
            one.content for one in await stage.stored(stage.thread(root.ts)) if one.role == 1
        ]
        assert first.count("The deploy fails") == 1, failpoint
        assert second == "And then?", failpoint
        # A post that is in doubt after a crash is looked up by the same method.
        reads = [
            call
            for call in stage.slack.calls("conversations.replies")
            if call.args["ts"] == root.ts and "latest" in call.args
        ]
        assert len(reads) == 1, failpoint
    await bot.kill()

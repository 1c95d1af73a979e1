"""Several processes of the bot: one serves a workspace, the others only take events in."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from colloquy_slack.app import Bot, BotFailed
from colloquy_slack.process import serve
from colloquy_slack.serving.lease_keeper import LeaseKeeper
from colloquy_slack.slack_api import TokenRejected

from tests.fakes.provider import Answer
from tests.harness import Colloquy
from tests.slack_harness import BotProcess, SlackStage, text_of


@pytest.fixture(params=["sqlite", "postgres"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SlackStage]:
    url = f"sqlite:///{tmp_path}/slack.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    async with (
        Colloquy(tmp_path) as colloquy,
        SlackStage(colloquy, slack_database_url=url) as running,
    ):
        yield running


async def test_two_processes_answer_each_message_once(stage: SlackStage) -> None:
    other = Bot(stage.settings())
    await other.start()
    asked = [stage.alice.post(stage.general, f"Question {n}", mention=True) for n in range(6)]
    for one in asked:
        messages = await stage.answered(stage.general, one.ts)
        _, reply = await stage.stored(stage.thread(one.ts))
        assert text_of(messages) == reply.content
    assert len(stage.slack.bot_messages(stage.general)) == 6
    # One goes away in good order: the other serves at once.
    await stage.bot.stop()
    late = stage.alice.post(stage.general, "Still there?", mention=True)
    await stage.answered(stage.general, late.ts)
    await other.stop()


async def test_a_process_that_dies_is_replaced_by_the_one_beside_it(stage: SlackStage) -> None:
    await stage.stop()
    stage.overrides["slack_lease_ttl"] = 1.0
    stage.slack.courier.retry_delays = (0.3,) * 100
    process = BotProcess(stage)
    stage.colloquy.provider.script(Answer(tokens=120, rate=40))
    await process.start()
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    await stage.slack.wait_for(lambda: stage.slack.thread(stage.general, asked.ts), 20)
    await stage.start()
    await process.kill()
    messages = await stage.answered(stage.general, asked.ts)
    _, reply = await stage.stored(stage.thread(asked.ts))
    assert text_of(messages) == reply.content
    assert len(stage.slack.bot_messages(stage.general, asked.ts)) == 1
    assert len(stage.colloquy.provider.reply_requests) == 1


async def test_a_bot_that_can_serve_nobody_any_more_ends(
    stage: SlackStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_lease_keeper: LeaseKeeper) -> None:
        raise ZeroDivisionError("with a secret in it")

    monkeypatch.setattr(LeaseKeeper, "_reconcile", fail)
    with pytest.raises(BotFailed, match="ZeroDivisionError") as caught:
        await asyncio.wait_for(serve(stage.settings()), 10)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("stage", ["sqlite"], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_bot_that_is_still_starting_can_be_stopped(
    stage: SlackStage, number: signal.Signals
) -> None:
    gate = stage.slack.hold("auth.test")
    serving = asyncio.create_task(serve(stage.settings()))
    await gate.reached.wait()
    os.kill(os.getpid(), number)
    await asyncio.wait_for(serving, 5)


@pytest.mark.parametrize("stage", ["sqlite"], indirect=True)
async def test_a_wrong_app_token_ends_the_bot(stage: SlackStage) -> None:
    with pytest.raises(TokenRejected, match="invalid_auth"):
        await asyncio.wait_for(serve(stage.settings(slack_app_token="xapp-wrong")), 10)

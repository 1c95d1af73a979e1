"""When the bot answers and when it leaves people alone, and what models are told in a channel."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from colloquy.api.conversation_service_pb2 import ListModelsRequest

from tests.fakes.slack import Posted
from tests.harness import Colloquy
from tests.slack_harness import SlackStage, words_of


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[SlackStage]:
    async with Colloquy(tmp_path) as colloquy, SlackStage(colloquy) as running:
        yield running


async def told(stage: SlackStage, words: str) -> None:
    """Waits until Alice was told something in private."""
    await stage.slack.wait_for(
        lambda: any(words in words_of(one) for one in stage.alice.sees(stage.general))
    )


async def called(stage: SlackStage) -> Posted:
    """A thread that the bot was called into."""
    asked = stage.alice.post(stage.general, "Which sea is warm?", mention=True)
    await stage.answered(stage.general, asked.ts)
    return asked


async def answered_to(stage: SlackStage, asked: Posted) -> list[str]:
    """The prompts of a thread that the server has, once one more that is sure to be answered is."""
    before = len(stage.reply_messages(stage.general, asked.ts))
    last = stage.alice.post(stage.general, "LAST", thread=asked, mention=True)
    await last.settled()
    await stage.slack.wait_for(lambda: len(stage.reply_messages(stage.general, asked.ts)) > before)
    history = await stage.stored(stage.thread(asked.ts))
    return [one.content for one in history if one.role == 1][1:-1]


async def test_what_is_said_to_somebody_else_is_not_answered(stage: SlackStage) -> None:
    asked = await called(stage)
    for text in (f"<@{stage.bob.id}> are you coming?", f"Ask <@{stage.bob.id}|bob>", "<!here> hi"):
        said = stage.alice.post(stage.general, text, thread=asked, raw=True)
        await said.settled()
    # He answers her, and she him.
    await stage.bob.post(stage.general, "Yes, at six.", thread=asked).settled()
    await stage.alice.post(stage.general, "Great, see you", thread=asked).settled()
    assert await answered_to(stage, asked) == []
    # Who calls the bot again has it back, also with another's name in the message.
    text = f"<@{stage.slack.workspace.bot.id}> what would <@{stage.bob.id}> like?"
    await stage.alice.post(stage.general, text, thread=asked, raw=True).settled()
    await stage.answered(stage.general, asked.ts, count=3)
    await stage.bob.post(stage.general, "Me too?", thread=asked).settled()
    await stage.answered(stage.general, asked.ts, count=4)


async def test_who_writes_to_the_bot_alone_is_answered_whomever_they_name(
    stage: SlackStage,
) -> None:
    asked = stage.alice.dm("What would @Bob say?")
    await stage.answered(stage.alice.direct, asked.ts)
    await stage.alice.dm("And <!here>?", thread=asked, raw=True).settled()
    await stage.answered(stage.alice.direct, asked.ts, count=2)


async def test_mode_all_answers_people_who_turned_to_each_other(stage: SlackStage) -> None:
    asked = await called(stage)
    stage.alice.post(stage.general, "mode all", thread=asked, mention=True)
    await told(stage, "In this thread")
    await stage.alice.post(stage.general, "@Bob look", thread=asked).settled()
    await stage.bob.post(stage.general, "I do", thread=asked).settled()
    await stage.answered(stage.general, asked.ts, count=2)
    (given,) = await answered_to(stage, asked)
    assert given.endswith("\n\nI do")
    assert given.count("@Bob look") == 1  # said before, to somebody else


@pytest.mark.parametrize("where", ["thread", "channel"])
async def test_mode_mentions_answers_nothing_else(stage: SlackStage, where: str) -> None:
    asked = await called(stage)
    if where == "channel":
        await stage.alice.command("/colloquy", "mode mentions", stage.general).settled()
    else:
        with pytest.raises(LookupError, match="not supported in threads"):
            stage.alice.command("/colloquy", "mode mentions", stage.general, thread=asked)
        stage.alice.post(stage.general, "Mode mentions.", thread=asked, mention=True)
    await told(stage, "only when I am mentioned")
    await stage.bob.post(stage.general, "Rather the mountains", thread=asked).settled()
    assert await answered_to(stage, asked) == []
    # In a thread it holds for that thread, in a channel for all of its threads.
    other = stage.alice.post(stage.general, "Another", mention=True)
    await stage.answered(stage.general, other.ts)
    await stage.bob.post(stage.general, "More", thread=other).settled()
    expected = ["More"] if where == "thread" else []
    assert await answered_to(stage, other) == expected
    # A thread's own mode comes first.
    stage.alice.post(stage.general, "mode all", thread=asked, mention=True)
    await told(stage, "unless you call somebody else")
    await stage.bob.post(stage.general, "And lakes?", thread=asked).settled()
    provider = stage.colloquy.provider
    await stage.slack.wait_for(
        lambda: any("And lakes?" in str(one.messages) for one in provider.reply_requests)
    )


@pytest.mark.parametrize("mention", [True, False])
async def test_mute_and_unmute_in_words(stage: SlackStage, mention: bool) -> None:
    asked = await called(stage)
    stage.alice.post(stage.general, "mute", thread=asked, mention=mention)
    await told(stage, "I say nothing here")
    await stage.bob.post(stage.general, "Anything?", thread=asked).settled()
    await stage.alice.post(stage.general, "Are you there?", thread=asked, mention=True).settled()
    await told(stage, "I am muted here")
    stage.alice.post(stage.general, "unmute", thread=asked, mention=mention)
    await told(stage, "until you turn to each other")
    await stage.bob.post(stage.general, "Hello again", thread=asked).settled()
    await stage.answered(stage.general, asked.ts, count=2)
    (given,) = await answered_to(stage, asked)
    assert given.endswith("\n\nHello again")
    for said_while_muted in ("Anything?", "Are you there?"):
        assert given.count(said_while_muted) == 1
    assert "mute" not in given


@pytest.mark.parametrize(
    ("in_channel", "in_thread"),
    [("mute", "unmute"), ("mute", "mode auto"), ("mode mentions", "mode auto")],
)
async def test_a_thread_is_answered_again_whatever_holds_in_its_channel(
    stage: SlackStage, in_channel: str, in_thread: str
) -> None:
    asked = await called(stage)
    await stage.alice.command("/colloquy", in_channel, stage.general).settled()
    await told(stage, "In the threads of this channel")
    stage.alice.post(stage.general, in_thread, thread=asked, mention=True)
    await told(stage, "In this thread: I answer here without being mentioned, until")
    await stage.bob.post(stage.general, "Hello again", thread=asked).settled()
    await stage.answered(stage.general, asked.ts, count=2)


async def test_a_thread_that_was_muted_is_answered_as_before(stage: SlackStage) -> None:
    asked = await called(stage)
    await stage.alice.command("/colloquy", "mode mentions", stage.general).settled()
    stage.alice.post(stage.general, "mute", thread=asked, mention=True)
    await told(stage, "I say nothing here")
    stage.alice.post(stage.general, "unmute", thread=asked, mention=True)
    await told(stage, "In this thread: I answer here only when I am mentioned")


async def test_a_command_is_done_once_however_often_it_is_delivered(stage: SlackStage) -> None:
    asked = await called(stage)
    muted = stage.alice.post(stage.general, "mute", thread=asked, mention=True)
    await told(stage, "I say nothing here")
    await stage.alice.post(stage.general, "unmute", thread=asked, mention=True).settled()
    await told(stage, "until you turn to each other")
    for delivery in muted.deliveries:
        stage.slack.courier.again(delivery, times=2)
    await muted.settled()
    await stage.bob.post(stage.general, "Still there?", thread=asked).settled()
    await stage.answered(stage.general, asked.ts, count=2)


async def test_a_thread_changes_its_model_by_a_mention(stage: SlackStage) -> None:
    asked = await called(stage)
    listed = await stage.caller.on(stage.colloquy.channel).call("ListModels", ListModelsRequest())
    other = next(
        one.id for one in listed.models if one.available and one.id != listed.default_model
    )
    stage.alice.post(stage.general, f"model {other}", thread=asked, mention=True)
    await told(stage, "This thread uses")
    await stage.bob.post(stage.general, "And now?", thread=asked).settled()
    await stage.answered(stage.general, asked.ts, count=2)
    history = await stage.stored(stage.thread(asked.ts))
    assert history[-1].model == other
    stage.alice.post(stage.general, "help", thread=asked, mention=True)
    await told(stage, "answers you in Slack")
    # A question that begins with such a word is a question.
    question = stage.alice.post(stage.general, "help me with my tax", mention=True)
    await stage.answered(stage.general, question.ts)


async def test_models_are_told_where_they_are_what_day_it_is_and_who_is_there(
    stage: SlackStage,
) -> None:
    now = datetime.datetime(2026, 3, 1, 23, 30, tzinfo=datetime.UTC).timestamp()
    stage.more = {"now": lambda: now}
    await stage.restart()
    asked = await called(stage)
    # It is an hour later where she is.
    assert "Slack" in stage.system_prompt()
    assert "Monday, 2 March 2026" in stage.system_prompt()
    assert "Alice" in stage.system_prompt()
    assert "Bob" not in stage.system_prompt()
    now += 86_400
    await stage.bob.post(stage.general, "And today?", thread=asked).settled()
    await stage.answered(stage.general, asked.ts, count=2)
    assert "Tuesday, 3 March 2026" in stage.system_prompt()
    assert "Alice, Bob" in stage.system_prompt()
    assert "2 March" not in stage.system_prompt()
    # What is regenerated is of today too.
    now += 86_400
    shown = stage.reply_messages(stage.general, asked.ts)[-1]
    await stage.alice.click(shown, "Regenerate").settled()
    await stage.answered(stage.general, asked.ts, count=3)
    assert "Wednesday, 4 March 2026" in stage.system_prompt()


async def test_a_channel_replaces_the_prompt_and_has_it_back(stage: SlackStage) -> None:
    asked = await called(stage)
    await stage.alice.command("/colloquy", "prompt", stage.general).settled()
    await told(stage, "an assistant in Slack")
    await stage.alice.command("/colloquy", "prompt Talk like a pirate.", stage.general).settled()
    await stage.bob.post(stage.general, "Go on", thread=asked).settled()
    await stage.answered(stage.general, asked.ts, count=2)
    assert stage.system_prompt().startswith("Talk like a pirate.\n\nToday is ")
    await stage.alice.command("/colloquy", "prompt", stage.general).settled()
    await told(stage, "Talk like a pirate.")
    await stage.alice.command("/colloquy", "prompt reset", stage.general).settled()
    await stage.bob.post(stage.general, "And on", thread=asked).settled()
    await stage.answered(stage.general, asked.ts, count=3)
    assert "pirate" not in stage.system_prompt()
    assert "an assistant in Slack" in stage.system_prompt()

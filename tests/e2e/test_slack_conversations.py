"""Talking in Slack: mentions, threads, direct messages, with a real server behind the bot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from colloquy import AsyncConversationClient, AsyncReply
from colloquy.api import resources_pb2 as resources
from colloquy.errors import InvalidArgument, Unavailable
from colloquy_slack.database import inbox
from colloquy_slack.database.engine import Database
from colloquy_slack.database.models import State

from tests.fakes.provider import Answer
from tests.fakes.slack import Message, Posted
from tests.harness import TITLE, Colloquy, eventually
from tests.slack_harness import SlackStage, text_of, words_of


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[SlackStage]:
    async with Colloquy(tmp_path) as colloquy, SlackStage(colloquy) as running:
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


async def test_a_direct_message_is_a_conversation_of_its_own(stage: SlackStage) -> None:
    first = stage.alice.dm("First question")
    second = stage.alice.dm("Second question")
    direct = stage.alice.direct
    await stage.answered(direct, first.ts)
    await stage.answered(direct, second.ts)
    follow_up = stage.alice.post(direct, "And then?", thread=first)
    await follow_up.settled()
    await stage.answered(direct, first.ts, count=2)
    contents = [message.content for message in await stage.stored(stage.thread(first.ts, direct))]
    assert contents[0] == "First question"
    assert contents[2] == "And then?"
    other = await stage.stored(stage.thread(second.ts, direct))
    assert other[0].content == "Second question"
    assert len(other) == 2


async def test_a_second_persons_follow_up_is_theirs_at_the_provider(stage: SlackStage) -> None:
    asked = stage.alice.post(stage.general, "Let us plan a trip.", mention=True)
    await stage.answered(stage.general, asked.ts)
    follow_up = stage.bob.post(stage.general, "I would like the sea.", thread=asked)
    await follow_up.settled()
    await stage.answered(stage.general, asked.ts, count=2)
    request = stage.colloquy.provider.reply_requests[-1]
    told = str(request.messages)
    assert "Alice" in told
    assert "Bob" in told
    history = await stage.stored(stage.thread(asked.ts))
    authors = [message.author.external_id for message in history if message.role == 1]
    team = stage.slack.workspace.id
    assert authors == [f"slack:{team}:{stage.alice.id}", f"slack:{team}:{stage.bob.id}"]


async def test_chatter_is_not_answered(stage: SlackStage) -> None:
    said = stage.alice.post(stage.general, "Good morning all")
    await said.settled()
    reply = stage.bob.post(stage.general, "Morning!", thread=said)
    await reply.settled()
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    await stage.answered(stage.general, asked.ts)
    assert len(stage.slack.bot_messages(stage.general)) == 1
    assert len(stage.colloquy.provider.reply_requests) == 1


async def test_a_channel_that_is_switched_on_is_one_conversation(stage: SlackStage) -> None:
    command = stage.alice.command("/colloquy", "channel on", stage.general)
    await command.settled()
    stage.alice.post(stage.general, "One")
    await stage.answered(stage.general)
    stage.bob.post(stage.general, "Two")
    messages = await stage.answered(stage.general, count=2)
    assert all(message.thread_ts is None for message in messages)
    name = f"slack:{stage.slack.workspace.id}:{stage.general.id}:channel:0"
    assert [message.content for message in await stage.stored(name)][::2] == ["One", "Two"]
    await stage.alice.command("/colloquy", "new", stage.general).settled()
    stage.bob.post(stage.general, "Three")
    await stage.answered(stage.general, count=3)
    assert (await stage.stored(name[:-1] + "1"))[0].content == "Three"
    await stage.alice.command("/colloquy", "channel off", stage.general).settled()
    quiet = stage.bob.post(stage.general, "Four")
    await quiet.settled()
    assert len(stage.colloquy.provider.reply_requests) == 3
    # Under an answer it is still meant.
    stage.bob.post(stage.general, "Five", thread=messages[-1].ts)
    await stage.answered(stage.general, messages[-1].ts, count=2)
    assert "Five" in [one.content for one in await stage.stored(name)]


async def test_a_message_that_comes_while_a_reply_is_written_is_queued_and_said_to_be(
    stage: SlackStage,
) -> None:
    gate = asyncio.Event()
    stage.colloquy.provider.script(Answer(tokens=20, gate_after=10, gate=gate))
    asked = stage.alice.post(stage.general, "First", mention=True)
    await stage.colloquy.provider.wait_for_requests(1)
    second = stage.bob.post(stage.general, "Second", thread=asked)
    await second.settled()
    await stage.slack.wait_for(lambda: "Queued" in stage.slack.thread(stage.general, asked.ts))
    gate.set()
    await stage.answered(stage.general, asked.ts, count=2)
    assert "Queued" not in stage.slack.thread(stage.general, asked.ts)


async def test_a_deleted_prompt_is_cancelled(stage: SlackStage) -> None:
    stage.colloquy.provider.script(Answer(tokens=50, stall_after=10))
    asked = stage.alice.post(stage.general, "Forget it", mention=True)
    await stage.slack.wait_for(lambda: "r0w9" in stage.slack.thread(stage.general, asked.ts))
    stage.alice.delete(asked)
    await stage.answered(stage.general, asked.ts)
    assert len(stage.colloquy.provider.reply_requests) == 1
    await eventually(lambda: messages_kept(stage, asked), 0)


async def messages_kept(stage: SlackStage, asked: Posted) -> int:
    try:
        return len(await stage.stored(stage.thread(asked.ts)))
    except grpc.aio.AioRpcError as error:  # the conversation goes between the two calls
        if error.code() != grpc.StatusCode.NOT_FOUND:
            raise
        return 0


async def test_an_answered_prompt_that_is_deleted_is_forgotten(stage: SlackStage) -> None:
    alone, talked = [
        stage.alice.post(stage.general, "My password is hunter2", mention=True) for _ in range(2)
    ]
    for asked in (alone, talked):
        await stage.answered(stage.general, asked.ts)
    stage.bob.post(stage.general, "Is it safe?", thread=talked)
    await stage.answered(stage.general, talked.ts, count=2)
    for asked in (talked, alone):
        stage.alice.delete(asked)
    # Where nothing else was asked the conversation goes, else only what was deleted.
    await eventually(lambda: messages_kept(stage, alone), 0)
    await eventually(lambda: messages_kept(stage, talked), 2)
    stage.bob.post(stage.general, "What was it?", thread=talked.ts, mention=True)
    await stage.slack.wait_for(lambda: len(stage.colloquy.provider.reply_requests) == 4)
    assert "hunter2" not in str(stage.colloquy.provider.reply_requests[-1].messages)
    # What is said in its thread from then on begins anew.
    stage.bob.post(stage.general, "What did she say?", thread=alone.ts, mention=True)
    await stage.slack.wait_for(lambda: len(stage.colloquy.provider.reply_requests) == 5)
    assert "hunter2" not in str(stage.colloquy.provider.reply_requests[-1].messages)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]], ids=["late", "first"])
async def test_a_prompt_that_is_deleted_before_the_answer_begins_gets_none(
    stage: SlackStage, order: list[int]
) -> None:
    stage.slack.courier.hold()
    asked = stage.alice.post(stage.general, "Oops", mention=True)
    stage.alice.delete(asked)
    stage.slack.courier.release(order=order)
    await asked.settled()
    team_id, db = stage.slack.workspace.id, Database(stage.settings().slack_database_url)

    async def is_done() -> bool:
        row = await db.run(inbox.by_ts, team_id, stage.general.id, asked.ts)
        return row is not None and row.state == State.DONE

    async with asyncio.timeout(60):
        while not await is_done():  # noqa: ASYNC110 - a row in a database
            await asyncio.sleep(0.02)
    await db.close()
    assert not stage.slack.bot_messages(stage.general)


async def test_what_is_deleted_while_the_server_is_away_never_reaches_it(
    stage: SlackStage,
) -> None:
    port = stage.colloquy.app.port
    await stage.colloquy.stop()
    asked = stage.alice.post(stage.general, "My password is hunter2", mention=True)

    def is_said(words: str) -> bool:
        return words in stage.slack.thread(stage.general, asked.ts)

    await stage.slack.wait_for(lambda: is_said("cannot reach"))
    stage.alice.delete(asked)
    await stage.slack.wait_for(lambda: is_said("Stopped"))
    await stage.colloquy.start(grpc_address=f"127.0.0.1:{port}")
    assert not await stage.stored(stage.thread(asked.ts))


async def test_all_who_wait_for_the_server_are_told_and_a_stop_is_shown_at_once(
    stage: SlackStage,
) -> None:
    await stage.colloquy.stop()
    asked = stage.alice.post(stage.general, "One", mention=True)
    await asked.settled()
    stage.bob.post(stage.general, "Two", thread=asked)

    def told(words: str) -> list[Message]:
        messages = stage.slack.bot_messages(stage.general, asked.ts)
        return [one for one in messages if words in words_of(one)]

    await stage.slack.wait_for(lambda: len(told("cannot reach")) == 2)
    await stage.alice.click(told("cannot reach")[1], "Stop").settled()
    await stage.slack.wait_for(lambda: told("Stopping"), 2)
    assert len(told("cannot reach")) == 1


async def test_a_refused_direct_message_is_tried_again_at_once(
    stage: SlackStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, tried = AsyncConversationClient.send, []

    def refuse_first(client: AsyncConversationClient, *what: Any, **how: Any) -> AsyncReply:
        tried.append(what)
        if len(tried) == 1:
            raise InvalidArgument("no")
        return send(client, *what, **how)

    monkeypatch.setattr(AsyncConversationClient, "send", refuse_first)
    asked, direct = stage.alice.dm("Hello"), stage.alice.direct
    (message,) = await stage.answered(direct, asked.ts)
    await stage.alice.click(message, "Try again").settled()
    await stage.slack.wait_for(lambda: "Regenerate" in str(message.blocks), 10)


@pytest.mark.parametrize("way", ["button", "word", "reaction"])
async def test_a_reply_is_stopped(stage: SlackStage, way: str) -> None:
    stage.colloquy.provider.script(Answer(tokens=50, stall_after=10))
    asked = stage.alice.post(stage.general, "Tell me everything", mention=True)
    await stage.slack.wait_for(lambda: "r0w9" in stage.slack.thread(stage.general, asked.ts))
    (message,) = stage.slack.bot_messages(stage.general, asked.ts)
    if way == "button":
        await stage.bob.click(message, "Stop").settled()
    elif way == "word":
        await stage.bob.post(stage.general, "Stop!", thread=asked).settled()
    else:
        reaction = stage.bob.react(message, "octagonal_sign")
        assert reaction is not None
        await reaction.settled()
    (message,) = await stage.answered(stage.general, asked.ts)
    assert "stopped" in words_of(message)
    history = await stage.stored(stage.thread(asked.ts))
    assert len(history) == 2
    assert history[1].state == resources.Message.STATE_CANCELLED
    assert text_of([message]) == history[1].content


async def test_stop_in_a_direct_message_stops_what_is_being_written_there(
    stage: SlackStage,
) -> None:
    stage.colloquy.provider.script(Answer(tokens=50, stall_after=10))
    asked, direct = stage.alice.dm("Tell me everything"), stage.alice.direct
    await stage.slack.wait_for(lambda: "r0w9" in stage.slack.thread(direct, asked.ts))
    await stage.alice.dm("stop").settled()
    (message,) = await stage.answered(direct)
    assert "stopped" in words_of(message)
    assert len(stage.colloquy.provider.reply_requests) == 1


async def test_a_mention_that_says_stop_stops_what_is_being_written_in_the_channel(
    stage: SlackStage,
) -> None:
    stage.alice.post(stage.general, "stop", mention=True)
    (told,) = await stage.slack.wait_for(lambda: stage.alice.sees(stage.general))
    assert "not writing" in words_of(told)
    stage.colloquy.provider.script(Answer(tokens=50, stall_after=10))
    asked = stage.alice.post(stage.general, "Tell me everything", mention=True)
    await stage.slack.wait_for(lambda: "r0w9" in stage.slack.thread(stage.general, asked.ts))
    await stage.alice.post(stage.general, "stop", mention=True).settled()
    (message,) = await stage.answered(stage.general, asked.ts)
    assert "stopped" in words_of(message)
    assert len(stage.colloquy.provider.reply_requests) == 1


async def test_what_is_said_after_a_mention_is_answered_also_when_it_comes_before_it(
    stage: SlackStage,
) -> None:
    before = stage.bob.post(stage.general, "Is there a machine?")
    chatter = stage.bob.post(stage.general, "Anybody?", thread=before)
    await chatter.settled()
    stage.slack.courier.hold()
    stage.alice.post(stage.general, "Here is one", thread=before, mention=True)
    stage.bob.post(stage.general, "And two?", thread=before)
    held = stage.slack.courier.held
    late = next(number for number, one in enumerate(held) if one.event.get("text") == "And two?")
    mention = [number for number, one in enumerate(held) if "one" in one.event.get("text", "")]
    stage.slack.courier.release(order=[late, *mention])
    await stage.answered(stage.general, before.ts, count=2)
    contents = [message.content for message in await stage.stored(stage.thread(before.ts))]
    first, second = contents[::2]
    assert first.endswith("</slack_context>\n\nHere is one")
    assert "Is there a machine?" in first
    assert "Anybody?" in first
    assert second == "And two?"


async def test_stop_with_nothing_to_stop_is_not_a_question(stage: SlackStage) -> None:
    said = stage.alice.dm("Stop!")
    await said.settled()
    for delivery in said.deliveries:
        stage.slack.courier.again(delivery, times=1)
    (told,) = await stage.slack.wait_for(lambda: stage.alice.sees(stage.alice.direct))
    assert "not writing" in words_of(told)
    asked = stage.alice.dm("Hello")
    await stage.answered(stage.alice.direct, asked.ts)
    assert len(stage.colloquy.provider.reply_requests) == 1
    assert len(stage.alice.sees(stage.alice.direct)) == 1


async def test_a_stop_that_another_process_took_in_stops_the_reply(stage: SlackStage) -> None:
    stage.colloquy.provider.script(Answer(tokens=50, stall_after=10))
    asked = stage.alice.post(stage.general, "Tell me everything", mention=True)
    await stage.slack.wait_for(lambda: "r0w9" in stage.slack.thread(stage.general, asked.ts))
    elsewhere = Database(stage.settings().slack_database_url)
    team_id = stage.slack.workspace.id
    row = await elsewhere.run(inbox.by_ts, team_id, stage.general.id, asked.ts)
    assert row is not None
    await elsewhere.run(inbox.mark_stopped, team_id, row.id)
    await elsewhere.close()
    (message,) = await stage.answered(stage.general, asked.ts)
    assert "stopped" in words_of(message)


async def test_a_stop_is_not_lost_while_the_server_is_away(
    stage: SlackStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, cancel = [], AsyncConversationClient.cancel_reply

    async def fail_twice(client: AsyncConversationClient, **which: str) -> resources.Message | None:
        tried.append(which)
        if len(tried) <= 2:
            raise Unavailable("the server is away")
        return await cancel(client, **which)

    monkeypatch.setattr(AsyncConversationClient, "cancel_reply", fail_twice)
    stage.colloquy.provider.script(Answer(tokens=50, stall_after=10))
    asked = stage.alice.post(stage.general, "Tell me everything", mention=True)
    await stage.slack.wait_for(lambda: "r0w9" in stage.slack.thread(stage.general, asked.ts))
    (message,) = stage.slack.bot_messages(stage.general, asked.ts)
    await stage.bob.click(message, "Stop").settled()
    (message,) = await stage.answered(stage.general, asked.ts)
    assert "stopped" in words_of(message)


async def test_a_reply_is_made_again(stage: SlackStage) -> None:
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    (message,) = await stage.answered(stage.general, asked.ts)
    await asyncio.gather(*(stage.alice.click(message, "Regenerate").settled() for _ in range(2)))
    messages = await stage.answered(stage.general, asked.ts, count=2)
    history = await stage.stored(stage.thread(asked.ts))
    assert [held.superseded for held in history] == [False, True, False]
    assert {text_of([one]) for one in messages} == {held.content for held in history[1:]}


async def test_a_failed_reply_says_why_and_is_tried_again(stage: SlackStage) -> None:
    stage.colloquy.provider.script(Answer(status=401))
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    (message,) = await stage.answered(stage.general, asked.ts)
    assert "⚠" in words_of(message) or ":warning:" in words_of(message)
    await stage.alice.click(message, "Try again").settled()
    messages = await stage.answered(stage.general, asked.ts, count=2)
    history = await stage.stored(stage.thread(asked.ts))
    assert text_of(messages[-1:]) == history[-1].content != ""


@pytest.mark.parametrize("finish", ["length", "stop"])
async def test_an_answer_that_reached_its_limit_says_so_after_its_text(
    stage: SlackStage, finish: str
) -> None:
    stage.colloquy.provider.script(Answer(tokens=5, finish=finish))
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    (message,) = await stage.answered(stage.general, asked.ts)
    note = "(cut off: the model reached its output limit)"
    assert (note in words_of(message)) == (finish == "length")
    history = await stage.stored(stage.thread(asked.ts))
    assert text_of([message]) == history[-1].content


async def test_a_blank_answer_says_what_happened(stage: SlackStage) -> None:
    thinking = [{"reasoning_content": "hm"}]
    stage.colloquy.provider.script(Answer(tokens=0, deltas=thinking, finish="length"))
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    (message,) = await stage.answered(stage.general, asked.ts)
    assert "used its whole output on thinking" in words_of(message)


async def test_feedback_rates_the_reply(stage: SlackStage) -> None:
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    (message,) = await stage.answered(stage.general, asked.ts)
    await stage.bob.rate(message, good=True).settled()
    watch = stage.caller.watch((await stage.stored(stage.thread(asked.ts)))[1].conversation_id)
    while (await stage.stored(stage.thread(asked.ts)))[1].rating != resources.RATING_GOOD:
        await watch.next()
    watch.cancel()


async def test_an_edited_prompt_is_answered_when_its_author_says_so(stage: SlackStage) -> None:
    asked = stage.alice.post(stage.general, "What is a monda?", mention=True)
    await stage.answered(stage.general, asked.ts)
    stage.slack.unfurl(asked.message)
    # The first try of the offer is refused, and Slack tells of the edit again.
    stage.slack.fail("chat.postEphemeral", retry_after=0)
    for delivery in stage.alice.edit(asked, "What is a monad?"):
        stage.slack.courier.again(delivery)
    (offer,) = await stage.slack.wait_for(lambda: stage.alice.sees(stage.general))
    assert not stage.bob.sees(stage.general)
    assert len(stage.colloquy.provider.reply_requests) == 1
    await stage.alice.click(offer, "Answer again").settled()
    await stage.answered(stage.general, asked.ts, count=2)
    history = await stage.stored(stage.thread(asked.ts))
    assert history[2].content == "What is a monad?"


async def test_an_edit_that_changes_nothing_in_the_end_offers_nothing(stage: SlackStage) -> None:
    asked = stage.alice.post(stage.general, "What is a monad?", mention=True)
    await stage.answered(stage.general, asked.ts)
    wire = asked.message.text
    stage.alice.edit(asked, "What is a monda?")
    await stage.slack.wait_for(lambda: stage.alice.sees(stage.general))
    for delivery in stage.alice.edit(
        asked, wire.replace(f"<@{stage.slack.workspace.bot.id}>", f"@{stage.slack.app.name}")
    ):
        await delivery.settled()
    assert asked.message.text == wire
    second = stage.alice.post(stage.general, "Next", mention=True)
    await stage.answered(stage.general, second.ts)
    assert len(stage.alice.sees(stage.general)) == 1


async def test_mass_mentions_of_a_model_notify_nobody(stage: SlackStage) -> None:
    bad = "<!channel> <!here> @channel <@U0DBL000002> `<!everyone>`\n```\n<!channel>\n```"
    stage.colloquy.provider.script(Answer(pieces=[bad]))
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    (message,) = await stage.answered(stage.general, asked.ts)
    assert not stage.slack.notified
    assert text_of([message]).replace("\u200b", "") == bad


async def test_the_bot_does_not_talk_to_bots_or_to_itself(stage: SlackStage) -> None:
    stage.slack.other_bot_posts(stage.general, f"<@{stage.slack.workspace.bot.id}> hi")
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    await stage.answered(stage.general, asked.ts)
    assert len(stage.colloquy.provider.reply_requests) == 1


async def test_commands_choose_models_and_help(stage: SlackStage) -> None:
    listed = stage.alice.command("/colloquy", "model", stage.general)
    await listed.settled()
    assert "test-model" in listed.response["text"]
    wrong = stage.alice.command("/colloquy", "model nonsense", stage.general)
    await wrong.settled()
    assert "other-model" in wrong.response["text"]
    await stage.alice.command("/colloquy", "model other-model", stage.general).settled()
    asked = stage.bob.post(stage.general, "Hello", mention=True)
    (message,) = await stage.answered(stage.general, asked.ts)
    assert stage.colloquy.provider.reply_requests[-1].body["model"] == "other-model"
    assert "other-model" in words_of(message)
    helped = stage.alice.command("/colloquy", "", stage.general)
    await helped.settled()
    assert "/colloquy new" in helped.response["text"]


async def test_a_command_is_answered_in_time_when_the_server_hangs(
    stage: SlackStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_client: AsyncConversationClient) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(AsyncConversationClient, "list_models", hang)
    monkeypatch.setattr("colloquy_slack.incoming.listeners.COMMAND_TIMEOUT", 0.1)
    command = stage.alice.command("/colloquy", "model", stage.general)
    await asyncio.wait_for(command.settled(), 60)
    assert "cannot reach" in command.response["text"]


async def test_an_author_has_a_name_also_when_slack_is_busy(stage: SlackStage) -> None:
    stage.slack.fail("users.info", retry_after=0, times=2)
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    await stage.answered(stage.general, asked.ts)
    assert (await stage.stored(stage.thread(asked.ts)))[0].author.display_name == "Alice"


async def test_app_home_shows_models_and_conversations(stage: SlackStage) -> None:
    asked = stage.alice.dm("Hello")
    await stage.answered(stage.alice.direct, asked.ts)
    stage.alice.open_home()
    view = await stage.slack.wait_for(lambda: stage.alice.home)
    assert asked.ts.replace(".", "") in str(view)
    await stage.alice.choose(view, "colloquy_pick_model", "other-model").settled()
    second = stage.alice.dm("Hello again")
    await stage.answered(stage.alice.direct, second.ts)
    assert stage.colloquy.provider.reply_requests[-1].body["model"] == "other-model"


async def test_a_direct_message_gets_prompts_and_a_title(stage: SlackStage) -> None:
    workspace, direct = stage.slack.workspace, stage.alice.direct
    stage.alice.open_home("messages")
    await stage.slack.wait_for(lambda: workspace.prompts.get((direct.id, None)))
    asked = stage.alice.dm("Hello")
    await stage.slack.wait_for(lambda: workspace.titles.get((direct.id, asked.ts)))
    assert workspace.titles[direct.id, asked.ts] == TITLE

"""What people reported of other bots in Slack: none of it happens here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_slack_modes import told
from tests.e2e.test_slack_threads import content_of, delivered, reads, split, texts
from tests.fakes.provider import Answer
from tests.fakes.slack import Posted, Upload
from tests.harness import Colloquy
from tests.slack_harness import SlackStage, words_of


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[SlackStage]:
    async with Colloquy(tmp_path) as colloquy, SlackStage(colloquy) as running:
        yield running


async def prompts(stage: SlackStage, root: str) -> list[str]:
    """What the server has of a thread's requests."""
    history = await stage.stored(stage.thread(root))
    return [message.content for message in history if message.role == 1]


def rich(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"type": "rich_text", "elements": list(parts)}]


def section(*elements: dict[str, Any]) -> dict[str, Any]:
    return {"type": "rich_text_section", "elements": list(elements)}


# Who is called.


@pytest.mark.parametrize("kind", ["code", "block", "quote"])
async def test_a_name_in_code_or_in_a_quote_calls_nobody(stage: SlackStage, kind: str) -> None:
    bot = f"<@{stage.slack.workspace.bot.id}>"
    text = {
        "code": f"We write `{bot} hi` to call it",
        "block": f"Like this:\n```\n{bot} hi\n```",
        "quote": f"&gt; {bot} what is up?\nNobody answered that",
    }[kind]
    name = {"type": "user", "user_id": stage.slack.workspace.bot.id}
    blocks = {
        "code": rich(section({"type": "text", "text": f"{bot} hi", "style": {"code": True}})),
        "block": rich({"type": "rich_text_preformatted", "elements": [name]}),
        "quote": rich({"type": "rich_text_quote", "elements": [name]}),
    }[kind]
    await stage.bob.post(stage.general, text, raw=True, blocks=blocks).settled()
    asked = stage.alice.post(stage.general, "Which sea is warm?", mention=True)
    await stage.answered(stage.general, asked.ts)
    assert len(stage.colloquy.provider.reply_requests) == 1
    # Beside such a one it calls.
    both = stage.bob.post(stage.general, f"{bot} what does this do?\n{text}", raw=True)
    await stage.answered(stage.general, both.ts)


async def test_slackbot_is_not_answered(stage: SlackStage) -> None:
    """Its messages have no bot_id, and no subtype."""
    bot = f"<@{stage.slack.workspace.bot.id}>"
    for channel, text in ((stage.general, f"Reminder: {bot} report"), (stage.alice.direct, "Hi")):
        message = stage.slack.messages.post(
            stage.slack.workspace, channel, user="USLACKBOT", text=text
        )
        for delivery in stage.slack.messages.announce(stage.slack.workspace, channel, message):
            await delivery.settled()
    asked = stage.alice.post(stage.general, "Which sea is warm?", mention=True)
    await stage.answered(stage.general, asked.ts)
    assert len(stage.colloquy.provider.reply_requests) == 1


async def test_a_workflow_that_names_the_bot_is_not_answered_and_given_with_the_next(
    stage: SlackStage,
) -> None:
    root = stage.alice.post(stage.general, "Which sea is warm?", mention=True)
    await stage.answered(stage.general, root.ts)
    text = f"<@{stage.slack.workspace.bot.id}> deploy staging"
    said = stage.slack.other_bot_posts(stage.general, text, thread_ts=root.ts, username="Deploys")
    for delivery in stage.slack.courier.deliveries:
        if delivery.event.get("ts") == said.ts:
            await delivery.settled()
    stage.alice.post(stage.general, "And now?", thread=root)
    await stage.answered(stage.general, root.ts, count=2)
    assert texts((await prompts(stage, root.ts))[1]) == [("Deploys", "deploy staging")]
    assert len(stage.colloquy.provider.reply_requests) == 2


async def test_in_a_group_message_who_names_the_bot_is_answered_and_nobody_else(
    stage: SlackStage,
) -> None:
    """Slack may say it by `message.mpim` alone."""
    stage.slack.app.events.discard("app_mention")
    group = stage.slack.channel("mpdm-alice--bob-1", kind="mpim")
    await stage.bob.post(group, "Lunch?").settled()
    asked = stage.alice.post(group, "Which sea is warm?", mention=True)
    await stage.answered(group, asked.ts)
    assert len(stage.colloquy.provider.reply_requests) == 1


@pytest.mark.parametrize("mention", [True, False])
async def test_an_answer_in_a_thread_that_is_sent_to_the_channel_too_is_one_message(
    stage: SlackStage, mention: bool
) -> None:
    root = stage.alice.post(stage.general, "Which sea is warm?", mention=True)
    await stage.answered(stage.general, root.ts)
    await stage.alice.post(
        stage.general, "Which is cold?", thread=root, broadcast=True, mention=mention
    ).settled()
    await stage.answered(stage.general, root.ts, count=2)
    assert len(stage.colloquy.provider.reply_requests) == 2


async def test_an_answer_below_the_bots_message_in_private_is_answered_there(
    stage: SlackStage,
) -> None:
    asked = stage.alice.dm("Which sea is warm?")
    (answer,) = await stage.answered(stage.alice.direct, asked.ts)
    stage.alice.dm("Why?", thread=answer)
    await stage.answered(stage.alice.direct, asked.ts, count=2)


async def test_who_slack_does_not_name_has_an_id(stage: SlackStage) -> None:
    """Of people of other companies it may refuse to say anything."""
    guest = stage.slack.person("Carol Far", stranger=True)
    stage.slack.fail(
        "users.info",
        "user_not_found",
        times=None,
        when=lambda call: call.args.get("user") == guest.id,
    )
    root = guest.post(stage.general, "Which sea is warm?")
    await root.settled()
    stage.alice.post(stage.general, "And when?", thread=root, mention=True)
    await stage.answered(stage.general, root.ts)
    assert texts(await content_of(stage, root.ts)) == [(guest.id, "Which sea is warm?")]
    guest.post(stage.general, "In May?", thread=root)
    await stage.answered(stage.general, root.ts, count=2)


# Files.


@pytest.mark.parametrize("first", ["app_mention", "message"])
async def test_a_file_is_given_whichever_event_comes_first(stage: SlackStage, first: str) -> None:
    """app_mention may leave files out."""
    stage.slack.courier.hold()
    plan = Upload("plan.txt", b"We move on Friday")
    asked = stage.alice.post(stage.general, "When?", mention=True, files=[plan])
    held = stage.slack.courier.held
    for delivery in held:
        if delivery.event["type"] == "app_mention":
            del delivery.event["files"]
    # The second comes while the first is being prepared.
    gate = stage.slack.hold("users.info")
    order = sorted(range(len(held)), key=lambda n: held[n].event["type"] != first)
    stage.slack.courier.release(order=order[:1])
    await gate.reached.wait()
    stage.slack.courier.again(held[order[1]])
    await held[order[1]].settled()
    gate.open()
    await stage.answered(stage.general, asked.ts)
    assert "We move on Friday" in str(stage.colloquy.provider.reply_requests[-1].messages)
    assert len(stage.colloquy.provider.reply_requests) == 1


async def test_a_file_that_is_kept_outside_slack_is_named_and_breaks_no_thread(
    stage: SlackStage,
) -> None:
    extra = {
        "mode": "external",
        "is_external": True,
        "external_type": "gdrive",
        "url_private": "https://docs.example.com/document/d/1/edit",
        "url_private_download": None,
    }
    sheet = Upload("Budget", b"", "application/vnd.google-apps.document", extra=extra)
    root = stage.bob.post(stage.general, "Our budget", files=[sheet])
    await root.settled()
    stage.alice.post(stage.general, "What is it?", thread=root, mention=True)
    (message,) = await stage.answered(stage.general, root.ts)
    assert "could not read Budget: it is kept outside Slack" in words_of(message)
    assert "not given to you" in split(await content_of(stage, root.ts))[0][1]["files"][0]
    stage.alice.post(stage.general, "And now?", thread=root)
    await stage.answered(stage.general, root.ts, count=2)
    assert await content_of(stage, root.ts, 1) == "And now?"


async def test_a_picture_without_a_word_is_answered(stage: SlackStage) -> None:
    asked = stage.alice.dm(files=[Upload("note.txt", b"We move on Friday")])
    await stage.answered(stage.alice.direct, asked.ts)
    assert "We move on Friday" in str(stage.colloquy.provider.reply_requests[-1].messages)


# What Slack says of messages that nobody touched.


@pytest.mark.parametrize("has_previous", [True, False])
async def test_a_message_that_slack_says_changed_with_the_same_words_is_answered_once(
    stage: SlackStage, has_previous: bool
) -> None:
    asked = stage.alice.post(stage.general, "Which sea is warm?", mention=True)
    await stage.answered(stage.general, asked.ts)
    said = stage.slack.messages.to_json(stage.slack.workspace, asked.message, in_event=True)
    for _ in range(3):
        delivery = stage.slack.events.changed(
            stage.slack.workspace, stage.general, asked.message, said
        )
        assert delivery is not None
        if not has_previous:
            delivery.event.pop("previous_message", None)
        await delivery.settled()
    other = stage.alice.post(stage.general, "And cold?", mention=True)
    await stage.answered(stage.general, other.ts)
    assert len(stage.colloquy.provider.reply_requests) == 2
    assert not stage.alice.sees(stage.general)


async def test_an_edit_that_names_the_bot_is_answered_once_and_is_not_said_before(
    stage: SlackStage,
) -> None:
    root = stage.bob.post(stage.general, "The deploy hangs")
    said = stage.alice.post(stage.general, "Why?", thread=root)
    await said.settled()
    for delivery in stage.alice.edit(said, "@Colloquy why?"):
        await delivery.settled()
    await stage.answered(stage.general, root.ts)
    stage.alice.post(stage.general, "And now?", thread=root)
    await stage.answered(stage.general, root.ts, count=2)
    first, second = await prompts(stage, root.ts)
    assert texts(first) == [("Bob", "The deploy hangs")]
    assert second == "And now?"


async def test_an_alert_whose_rich_text_begins_with_nothing_is_read(stage: SlackStage) -> None:
    root = stage.bob.post(stage.general, "Look")
    await root.settled()
    quote = {"type": "rich_text_quote", "elements": [{"type": "text", "text": ""}]}
    alert = stage.slack.other_bot_posts(
        stage.general, "&gt; `app.py:7` fails", thread_ts=root.ts, blocks=rich(quote)
    )
    await delivered(stage, alert)
    stage.alice.post(stage.general, "Why?", thread=root, mention=True)
    await stage.answered(stage.general, root.ts)
    assert "`app.py:7` fails" in texts(await content_of(stage, root.ts))[1][1]


async def test_an_event_that_comes_as_a_retry_only_is_answered(stage: SlackStage) -> None:
    """While no connection was open, the first delivery went nowhere."""
    stage.slack.courier.hold()
    asked = stage.alice.dm("Which sea is warm?")
    for delivery in stage.slack.courier.held:
        stage.slack.courier.again(delivery)
    await stage.answered(stage.alice.direct, asked.ts)


async def test_threads_know_nothing_of_each_other(stage: SlackStage) -> None:
    for word in ("heron", "plover"):
        asked = stage.alice.post(stage.general, f"The word is {word}", mention=True)
        await stage.answered(stage.general, asked.ts)
    sent = str(stage.colloquy.provider.reply_requests[-1].messages)
    assert "plover" in sent
    assert "heron" not in sent


# How answers look.


async def test_links_of_an_answer_have_no_previews(stage: SlackStage) -> None:
    stage.colloquy.provider.script(
        Answer(pieces=["See https://example.com and https://example.org"])
    )
    asked = stage.alice.post(stage.general, "Where?", mention=True)
    await stage.answered(stage.general, asked.ts)
    posts = stage.slack.calls("chat.postMessage")
    assert all(not post.args["unfurl_links"] and not post.args["unfurl_media"] for post in posts)


# What is said while the bot is left alone.


async def between(stage: SlackStage, root: Posted, *said: str) -> None:
    """Messages of Bob's that are not for the bot."""
    for text in said:
        await stage.bob.post(stage.general, text, thread=root).settled()


@pytest.mark.parametrize("command", ["mode mentions", "mute"])
@pytest.mark.parametrize("is_first", [True, False])
async def test_what_was_said_while_it_was_left_alone_is_given_once_without_the_commands(
    stage: SlackStage, command: str, is_first: bool
) -> None:
    if is_first:
        # Nothing was asked before the command.
        root = stage.bob.post(stage.general, "The deploy hangs")
        await root.settled()
    else:
        root = stage.alice.post(stage.general, "Which sea is warm?", mention=True)
        await stage.answered(stage.general, root.ts)
    stage.alice.post(stage.general, command, thread=root, mention=True)
    await told(stage, "only when I am mentioned" if command != "mute" else "I say nothing here")
    await between(stage, root, "It is node seven", "No, eight")
    if command == "mute":
        stage.alice.post(stage.general, "unmute", thread=root, mention=True)
        await told(stage, "until you turn to each other")
    answered = 0 if is_first else 1
    for count, text in enumerate(("What do we do?", "Anything else?"), answered + 1):
        stage.alice.post(stage.general, text, thread=root, mention=True)
        await stage.answered(stage.general, root.ts, count=count)
    first, second = (await prompts(stage, root.ts))[answered:]
    expected = [("Bob", "It is node seven"), ("Bob", "No, eight")]
    assert texts(first) == ([("Bob", "The deploy hangs")] if is_first else []) + expected
    assert second == "Anything else?"
    assert reads(stage) == is_first


@pytest.mark.parametrize("how", ["mode mentions", "aside"])
async def test_stop_between_people_is_theirs(stage: SlackStage, how: str) -> None:
    root = stage.alice.post(stage.general, "Which sea is warm?", mention=True)
    await stage.answered(stage.general, root.ts)
    if how == "aside":
        await stage.alice.post(stage.general, "@Bob I press it now", thread=root).settled()
    else:
        stage.alice.post(stage.general, how, thread=root, mention=True)
        await told(stage, "only when I am mentioned")
    await between(stage, root, "Stop!")
    stage.alice.post(stage.general, "What happened?", thread=root, mention=True)
    await stage.answered(stage.general, root.ts, count=2)
    assert texts((await prompts(stage, root.ts))[1])[-1] == ("Bob", "Stop!")
    assert not stage.bob.sees(stage.general)

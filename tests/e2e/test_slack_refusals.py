"""Posts that Slack refuses are told in private; what Slack itself writes is nobody's question."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.harness import Colloquy
from tests.slack_harness import SlackStage, text_of


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[SlackStage]:
    async with Colloquy(tmp_path) as colloquy, SlackStage(colloquy) as running:
        yield running


def told(stage: SlackStage) -> list[str]:
    """What Alice was told in private, either way."""
    direct = [message.text for message in stage.slack.bot_messages(stage.alice.direct)]
    return direct + [message.text for message in stage.alice.sees(stage.general)]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("is_archived", "is archived"),
        ("restricted_action", "only some may post"),
        ("not_in_channel", "/invite"),
        ("restricted_action_thread_locked", "thread is locked"),
    ],
)
async def test_a_refused_answer_is_told_in_private(
    stage: SlackStage, error: str, words: str
) -> None:
    gate = stage.slack.hold("users.info", applied=False)
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    await gate.reached.wait()
    if error == "is_archived":
        stage.general.archived = True
    elif error == "not_in_channel":
        stage.general.members.discard(stage.slack.workspace.bot.id)
    else:
        stage.general.restricted = error
    gate.open()
    await stage.slack.wait_for(lambda: told(stage))
    (text,) = told(stage)
    assert words in text
    assert f"<#{stage.general.id}>" in text
    assert not stage.slack.bot_messages(stage.general, asked.ts)


async def test_where_nothing_can_be_told_the_others_are_answered(stage: SlackStage) -> None:
    stage.slack.fail(
        "chat.postMessage",
        "messages_tab_disabled",
        when=lambda call: call.args["channel"] == stage.alice.direct.id,
    )
    await stage.alice.dm("Hello").settled()
    await stage.slack.wait_for(
        lambda: stage.slack.calls("chat.postMessage", error="messages_tab_disabled")
    )
    asked = stage.bob.dm("Hello")
    assert text_of(await stage.answered(stage.bob.direct, asked.ts))
    assert not stage.slack.bot_messages(stage.alice.direct)


@pytest.mark.parametrize(
    "subtype",
    ["channel_topic", "channel_purpose", "channel_join", "channel_name", "pinned_item", "bot_add"],
)
async def test_what_slack_itself_writes_is_not_answered(stage: SlackStage, subtype: str) -> None:
    bot_id = stage.slack.workspace.bot.id
    said = stage.slack.system_message(stage.general, subtype, f"<@{bot_id}> has joined")
    assert len(said.deliveries) == 2
    await said.settled()
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    await stage.answered(stage.general, asked.ts)
    assert len(stage.colloquy.provider.reply_requests) == 1


async def test_guests_and_strangers_are_answered_by_name(stage: SlackStage) -> None:
    for name in ("Gina Guest", "Sam Stranger"):
        person = stage.slack.person(name, guest="Guest" in name, stranger="Stranger" in name)
        asked = person.post(stage.general, "Hello", mention=True)
        await stage.answered(stage.general, asked.ts)
        prompt, _ = await stage.stored(stage.thread(asked.ts))
        assert prompt.author.display_name == name.split()[0]


async def test_names_reach_the_model_also_where_slack_sends_ids(stage: SlackStage) -> None:
    workspace = stage.slack.workspace
    workspace.groups["S0DBL000001"] = "designers"
    text = (
        f"<@{workspace.bot.id}> is <@{workspace.bot.id}> in <#{stage.general.id}|> known to"
        " <!subteam^S0DBL000001>, <#C0NOWHERE>?"
    )
    asked = stage.alice.post(stage.general, text, raw=True)
    await stage.answered(stage.general, asked.ts)
    prompt, _ = await stage.stored(stage.thread(asked.ts))
    assert prompt.content == "is @Colloquy in #general known to @designers, #C0NOWHERE?"

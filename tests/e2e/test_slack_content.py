"""Everything that a person can post in Slack reaches the model, or is named to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from colloquy.api.resources_pb2 import Attachment, Message
from colloquy_slack.serving import linked_messages

from tests.fakes.slack import Posted, Upload, canvas, clip
from tests.harness import Colloquy
from tests.slack_harness import SlackStage, words_of


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[SlackStage]:
    async with Colloquy(tmp_path) as colloquy, SlackStage(colloquy) as running:
        yield running


async def prompt_of(stage: SlackStage, asked: Posted) -> Message:
    """What the server has of a direct message, once it is answered."""
    await stage.answered(stage.alice.direct, asked.ts)
    return (await stage.stored(stage.thread(asked.ts, stage.alice.direct)))[0]


@pytest.mark.parametrize("words", ["", "What do you think?"])
async def test_a_forwarded_message_is_read_with_its_files(stage: SlackStage, words: str) -> None:
    plan = Upload("plan.txt", b"We move on Friday")
    said = stage.bob.post(stage.general, "Have you seen <this>, @Alice?", files=[plan])
    prompt = await prompt_of(stage, stage.alice.forward(said, stage.alice.direct, words))
    head, quoted = prompt.content.removeprefix(f"{words}\n").split("\n", 1)
    assert head.startswith("[Message from Bob in #general, 20")
    assert quoted == "> Have you seen <this>, @Alice?\n> [file: plan.txt]"
    assert [file.filename for file in prompt.attachments] == ["plan.txt"]
    assert "We move on Friday" in str(stage.colloquy.provider.reply_requests[-1].messages)


async def test_a_forwarded_alert_is_read_whose_words_are_in_blocks(stage: SlackStage) -> None:
    header = {"type": "header", "text": {"type": "plain_text", "text": "Disk full"}}
    alert = stage.slack.other_bot_posts(
        stage.general, blocks=[header], attachments=[{"text": "97 %"}], username="Alerts"
    )
    prompt = await prompt_of(stage, stage.alice.forward(alert, stage.alice.direct))
    assert prompt.content.endswith("forwarded:]\n> Disk full\n> 97 %")
    assert "from Alerts" in prompt.content


async def test_the_message_that_a_link_leads_to_is_read_as_slack_shows_it(
    stage: SlackStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linked_messages, "UNFURL_DELAY", 0.2)
    said = stage.bob.post(stage.general, "We move on Friday")
    link = stage.slack.messages.as_shared(said.message)["from_url"]
    asked = stage.alice.dm(f"Is that so? {link}")
    stage.slack.unfurl(asked.message, shows=said.message)
    prompt = await prompt_of(stage, asked)
    assert prompt.content.startswith("Is that so? https://")
    assert prompt.content.endswith("forwarded:]\n> We move on Friday")
    # Where Slack shows nothing, since it may not be seen, the bot does not look either.
    unseen = await prompt_of(stage, stage.alice.dm(f"And that? {link}"))
    assert "not shown" in unseen.content
    assert "Friday" not in unseen.content
    assert len(stage.colloquy.provider.reply_requests) == 2


async def test_a_pasted_table_is_read(stage: SlackStage) -> None:
    asked = stage.alice.dm("Sum it up", table=[["City", "People"], ["Bonn | Rhine", "300"]])
    prompt = await prompt_of(stage, asked)
    assert prompt.content == (
        "Sum it up\n| City | People |\n| --- | --- |\n| Bonn \\| Rhine | 300 |"
    )


async def test_a_table_alone_is_a_message(stage: SlackStage) -> None:
    prompt = await prompt_of(stage, stage.alice.dm("", table=[["a"], ["b"]]))
    assert prompt.content == "| a |\n| --- |\n| b |"


async def test_words_that_are_in_blocks_alone_are_read(stage: SlackStage) -> None:
    text = {"type": "mrkdwn", "text": f"Is *this* read, <@{stage.bob.id}>?"}
    section = {"type": "section", "text": text}
    prompt = await prompt_of(stage, stage.alice.dm("", blocks=[section]))
    assert prompt.content == "Is *this* read, @Bob?"


async def test_a_canvas_is_read_as_text(stage: SlackStage) -> None:
    page = "<!DOCTYPE html><html><body><h1>Plan</h1><p>We move on <b>Friday</b></p></body></html>"
    asked = stage.alice.dm("What is in it?", files=[canvas("Our plan", page)])
    prompt = await prompt_of(stage, asked)
    assert [file.filename for file in prompt.attachments] == ["Our plan.html"]
    assert "We move on" in str(stage.colloquy.provider.reply_requests[-1].messages)


QUICKTIME = b"\x00\x00\x00\x14ftypqt  \x00\x00\x02\x00qt  " + b"\x00\x00\x00\x08moov"
WEBM = b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x84webm"


@pytest.mark.parametrize(
    ("content", "mimetype", "suffix", "told"),
    [
        (QUICKTIME, "video/quicktime", "mov", "audio/mp4"),
        (QUICKTIME, "application/octet-stream", "mov", "audio/mp4"),
        (WEBM, "video/webm", "webm", "audio/webm"),
        (WEBM, "audio/webm", "webm", "audio/webm"),
    ],
)
async def test_a_voice_clip_is_a_recording_whatever_slack_calls_it(
    stage: SlackStage, content: bytes, mimetype: str, suffix: str, told: str
) -> None:
    asked = stage.alice.dm("", files=[clip(content, mimetype, suffix)])
    (attachment,) = (await prompt_of(stage, asked)).attachments
    assert attachment.content_type == told
    assert attachment.kind == Attachment.KIND_AUDIO


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ({"filetype": "list", "mode": "list"}, "Slack list"),
        ({"mode": "hidden_by_limit"}, "plan"),
        ({"mode": "tombstone"}, "not kept"),
        (
            {
                "mode": "external",
                "url_private": "https://docs.example.com/d/1",
                "url_private_download": "",
            },
            "outside Slack",
        ),
    ],
)
async def test_a_file_that_cannot_be_read_is_named_to_the_model_and_to_people(
    stage: SlackStage, extra: dict[str, str], why: str
) -> None:
    file = Upload("plan", b"", extra=extra)
    asked = stage.alice.dm("What is in it?", files=[file])
    prompt = await prompt_of(stage, asked)
    (message,) = stage.reply_messages(stage.alice.direct, asked.ts)
    assert why in words_of(message)
    block, words = prompt.content.split("\n</slack_context>\n\n")
    assert "plan" in block
    assert why in block
    assert words == "What is in it?"
    assert why in str(stage.colloquy.provider.reply_requests[-1].messages)


async def test_a_message_may_be_nothing_but_a_file_that_cannot_be_had(stage: SlackStage) -> None:
    stage.slack.download_troubles = [(404, {})]
    prompt = await prompt_of(stage, stage.alice.dm("", files=[Upload("a.txt", b"a")]))
    assert "Slack answered 404" in prompt.content
    assert prompt.content.endswith("Alice shared a.txt without a word.")

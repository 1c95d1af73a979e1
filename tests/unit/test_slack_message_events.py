"""What message events tell."""

from __future__ import annotations

from typing import Any

import pytest
from colloquy_slack.incoming.message_events import MessageDeleted, MessageEdited, UserMessage, parse


def event(**more: Any) -> dict[str, Any]:
    return {"type": "message", "channel": "C1", "ts": "5.0", "user": "U1", "text": "hi", **more}


@pytest.mark.parametrize("subtype", [None, "file_share", "thread_broadcast"])
def test_what_people_write_is_read(subtype: str | None) -> None:
    said = parse(event(subtype=subtype, files=[{"id": "F1"}], thread_ts="1.0"), "UBOT")
    assert isinstance(said, UserMessage)
    assert (said.text, said.thread_ts, said.files) == ("hi", "1.0", [{"id": "F1"}])


@pytest.mark.parametrize(
    "more",
    [
        {"bot_id": "B1"},
        {"bot_profile": {"id": "B1"}},
        {"user": "UBOT"},
        {"user": "USLACKBOT"},
        {"user": ""},
        {"subtype": "channel_join"},
        {"subtype": "bot_message"},
        {"subtype": "message_replied"},
    ],
)
def test_bots_and_notices_are_not(more: dict[str, Any]) -> None:
    assert parse(event(**more), "UBOT") is None


def test_mentions_and_direct_messages_are_told_apart() -> None:
    mention = parse(event(text="<@UBOT> hi"), "UBOT")
    direct = parse(event(channel="D1", channel_type="im"), "UBOT")
    assert isinstance(mention, UserMessage)
    assert isinstance(direct, UserMessage)
    assert mention.is_mention
    assert not mention.is_direct
    assert direct.is_direct


@pytest.mark.parametrize(
    ("text", "stops"),
    [
        ("stop", True),
        ("Stop!", True),
        ("<@UBOT> stop", True),
        ("🛑", True),
        ("stop doing that", False),
        ("", False),
    ],
)
def test_the_word_that_stops(text: str, stops: bool) -> None:
    said = parse(event(text=text), "UBOT")
    assert isinstance(said, UserMessage)
    assert said.is_stop is stops


def changed(now: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "message",
        "subtype": "message_changed",
        "channel": "C1",
        "ts": "9.0",
        "message": {"ts": "5.0", "user": "U1", **now},
        "previous_message": {"ts": "5.0", "user": "U1", **before},
    }


def test_an_edit_is_one_only_when_the_words_changed() -> None:
    edited = parse(changed({"text": "b", "edited": {"ts": "8.0"}}, {"text": "a"}), "UBOT")
    assert isinstance(edited, MessageEdited)
    assert (edited.message.text, edited.message.ts, edited.edited_ts) == ("b", "5.0", "8.0")
    assert parse(changed({"text": "a", "reply_count": 1}, {"text": "a"}), "UBOT") is None
    assert parse(changed({"text": "b"}, {"text": "a", "bot_id": "B1"}), "UBOT") is None


def test_deletions_also_of_a_threads_root() -> None:
    tombstone = changed({"text": "This message was deleted.", "subtype": "tombstone"}, {"text": ""})
    read_tombstone = parse(tombstone, "UBOT")
    assert isinstance(read_tombstone, MessageDeleted)
    assert (read_tombstone.channel_id, read_tombstone.ts) == ("C1", "5.0")
    deleted = {"type": "message", "subtype": "message_deleted", "channel": "C1"}
    assert parse({**deleted, "deleted_ts": "5.0"}, "UBOT") == MessageDeleted("C1", "5.0")
    own = {**deleted, "deleted_ts": "5.0", "previous_message": {"bot_id": "B1", "user": "UBOT"}}
    assert parse(own, "UBOT") is None
    apps = {**deleted, "deleted_ts": "5.0", "previous_message": {"bot_id": "B2", "ts": "5.0"}}
    assert parse(apps, "UBOT") == MessageDeleted("C1", "5.0")


def test_what_other_apps_write_is_told_in_threads_only_and_as_theirs() -> None:
    alert = event(
        user="",
        bot_id="B2",
        subtype="bot_message",
        thread_ts="1.0",
        username="Alerts",
        text="",
        attachments=[{"fallback": "Disk is full"}],
    )
    told = parse(alert, "UBOT")
    assert isinstance(told, UserMessage)
    assert (told.is_bot, told.bot_name, told.text) == (True, "Alerts", "Disk is full")


def test_words_are_read_where_they_are_and_what_is_forwarded_calls_nobody() -> None:
    section = {"type": "section", "text": {"type": "mrkdwn", "text": "<@UBOT> look"}}
    in_blocks = parse(event(text="", blocks=[section]), "UBOT")
    assert isinstance(in_blocks, UserMessage)
    assert in_blocks.is_mention
    shared = {"is_share": True, "text": "<@UBOT> hi", "files": [{"id": "F2", "name": "a.pdf"}]}
    forward = parse(event(text="", attachments=[shared], files=[{"id": "F1"}]), "UBOT")
    assert isinstance(forward, UserMessage)
    assert not forward.is_mention
    assert "hi" in forward.text
    assert [file["id"] for file in forward.files] == ["F1", "F2"]


@pytest.mark.parametrize(
    "text",
    [
        "see `<@UBOT> hi`",
        "```\n<@UBOT> hi\n```",
        "&gt; <@UBOT> hi\nWhy?",
        "&gt;&gt;&gt; a\n<@UBOT> hi",
    ],
)
def test_code_and_quotes_call_nobody_also_without_blocks(text: str) -> None:
    quoted = parse(event(text=text), "UBOT")
    other = parse(event(text=text.replace("UBOT", "U2")), "UBOT")
    beside = parse(event(text=f"<@UBOT> {text}"), "UBOT")
    assert isinstance(quoted, UserMessage)
    assert isinstance(other, UserMessage)
    assert isinstance(beside, UserMessage)
    assert not quoted.is_mention
    assert not other.is_aside
    assert beside.is_mention


def test_a_name_in_a_list_calls_also_after_backticks_that_are_none() -> None:
    name = {"type": "user", "user_id": "UBOT"}
    item = {"type": "rich_text_section", "elements": [{"type": "text", "text": "` "}, name]}
    parts = [{"type": "rich_text_list", "style": "ordered", "elements": [item]}]
    blocks = [{"type": "rich_text", "elements": parts}]
    said = parse(event(text="1. ` <@UBOT> what is ` for?", blocks=blocks), "UBOT")
    assert isinstance(said, UserMessage)
    assert said.is_mention


def test_a_preview_that_comes_later_is_no_edit_and_a_changed_table_is_one() -> None:
    preview = [{"from_url": "https://example.com", "title": "Example"}]
    shared = [{"is_msg_unfurl": True, "text": "Hello", "from_url": "https://a.slack.com"}]
    for attachments in (preview, shared):
        now = {"text": "a", "attachments": attachments}
        assert parse(changed(now, {"text": "a"}), "UBOT") is None
    tables = [
        {"text": "a", "attachments": [{"blocks": [{"type": "table", "rows": [[cell]]}]}]}
        for cell in ({"type": "raw_text", "text": "1"}, {"type": "raw_text", "text": "2"})
    ]
    assert isinstance(parse(changed(*tables), "UBOT"), MessageEdited)

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
    own = {**deleted, "deleted_ts": "5.0", "previous_message": {"bot_id": "B1"}}
    assert parse(own, "UBOT") is None

"""What a message in Slack says, wherever it says it."""

from __future__ import annotations

from typing import Any

import pytest
from colloquy_slack.mentions import to_plain_text
from colloquy_slack.message_text import files_of, own_words, text_of, when, written_text


def read(**message: Any) -> str:
    """A message as a model reads it."""
    names = {"U1": "Alice"}
    return to_plain_text(text_of(message), names, "UBOT")


def rich(*elements: dict[str, Any]) -> dict[str, Any]:
    return {"type": "rich_text", "elements": list(elements)}


def section(*elements: dict[str, Any]) -> dict[str, Any]:
    return {"type": "rich_text_section", "elements": list(elements)}


def word(text: str, **style: bool) -> dict[str, Any]:
    return {"type": "text", "text": text, **({"style": style} if style else {})}


def mrkdwn(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text}


def plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text}


BLOCKS: list[tuple[dict[str, Any], str]] = [
    (rich(section(word("a < b & "), {"type": "user", "user_id": "U1"})), "a < b & @Alice"),
    (rich(section({"type": "link", "url": "https://a.b", "text": "A"})), "A (https://a.b)"),
    (rich(section({"type": "channel", "channel_id": "C1"})), "#C1"),
    (rich(section({"type": "usergroup", "usergroup_id": "S1"})), "@subteam"),
    (rich(section({"type": "broadcast", "range": "here"})), "@here"),
    (rich(section({"type": "emoji", "name": "tada", "unicode": "1f389"})), "🎉"),
    (rich(section({"type": "emoji", "name": "ours"})), ":ours:"),
    (rich(section({"type": "date", "timestamp": 0, "fallback": "today"})), "today"),
    (rich(section({"type": "color", "value": "#fff"})), "#fff"),
    (rich(section(word("x", code=True))), "`x`"),
    (
        rich(
            {
                "type": "rich_text_list",
                "style": "ordered",
                "offset": 1,
                "indent": 1,
                "elements": [section(word("a")), section(word("b"))],
            }
        ),
        "2. a\n  3. b",
    ),
    (
        rich({"type": "rich_text_list", "style": "bullet", "elements": [section(word("a"))]}),
        "• a",
    ),
    (rich({"type": "rich_text_quote", "elements": [word("a\nb")]}), "> a\n> b"),
    (rich({"type": "rich_text_preformatted", "elements": [word("a\n b")]}), "```\na\n b\n```"),
    ({"type": "section", "text": mrkdwn("a"), "fields": [plain("b < c")]}, "a\nb < c"),
    (
        {
            "type": "section",
            "text": mrkdwn("a"),
            "accessory": {"type": "button", "text": plain("Open"), "url": "https://a.b"},
        },
        "a\nOpen (https://a.b)",
    ),
    ({"type": "header", "text": plain("Title")}, "Title"),
    (
        {
            "type": "context",
            "elements": [mrkdwn("a"), {"type": "image", "alt_text": "b", "image_url": "https://c"}],
        },
        "a [image: b (https://c)]",
    ),
    ({"type": "markdown", "text": "**a** <b>"}, "**a** <b>"),
    ({"type": "image", "title": plain("Plan"), "alt_text": "b"}, "[image: Plan]"),
    (
        {"type": "video", "title": plain("Film"), "title_url": "https://a.b"},
        "[video: Film (https://a.b)]",
    ),
    ({"type": "actions", "elements": [{"type": "button", "text": plain("Ack")}]}, "[Ack]"),
    (
        {
            "type": "table",
            "rows": [
                [{"type": "raw_text", "text": "a|b"}, {"type": "raw_text", "text": "c\nd"}],
                [rich(section({"type": "link", "url": "https://a.b", "text": "A"}))],
                [{"type": "raw_number", "value": 7}],
            ],
        },
        "| a\\|b | c d |\n| --- | --- |\n| A (https://a.b) |  |\n| 7 |  |",
    ),
    # Kinds that are not known, or not yet.
    ({"type": "card", "title": plain("Offer"), "body": mrkdwn("Buy *it*")}, "Offer Buy *it*"),
    ({"type": "hologram", "payload": 3}, "[hologram: cannot be read]"),
    ({"type": "divider"}, ""),
]


@pytest.mark.parametrize(("block", "text"), BLOCKS)
def test_blocks_are_read(block: dict[str, Any], text: str) -> None:
    assert read(text="", blocks=[block]) == text


def test_what_text_and_blocks_both_say_is_said_once() -> None:
    body = {"type": "section", "text": mrkdwn("*Disk full* on node-7")}
    # An app's text is what a notification shows.
    assert read(bot_id="B1", text="Disk full", blocks=[body]) == "*Disk full* on node-7"
    assert read(bot_id="B1", text="Look", blocks=[body]) == "Look\n*Disk full* on node-7"
    assert read(bot_id="B1", text="It is a disk full on node-7!", blocks=[]) == (
        "It is a disk full on node-7!"
    )
    # A person's is made by Slack, and a word of theirs is not lost to a table that has it.
    table = {"type": "table", "rows": [[{"type": "raw_text", "text": "ok"}]]}
    typed = rich(section(word("ok")))
    assert read(text="ok", blocks=[typed, table]) == "ok\n| ok |\n| --- |"


def test_attachments_are_read_as_apps_write_them() -> None:
    attachment = {
        "pretext": "New alert",
        "title": "Disk full",
        "title_link": "https://a.b",
        "text": "97 %",
        "fields": [{"title": "Host", "value": "node-7"}, {"title": "Rack"}],
        "footer": "Grafana",
        "fallback": "never shown",
    }
    assert read(text="", attachments=[attachment]) == (
        "New alert\nDisk full (https://a.b)\n97 %\nHost: node-7\nRack\nGrafana"
    )
    assert read(text="", attachments=[{"fallback": "Disk full"}]) == "Disk full"
    # Slack's preview of a link is not the author's.
    preview = {"from_url": "https://a.b", "title": "A", "text": "B"}
    assert read(text="Look", attachments=[preview]) == "Look"


def test_a_shared_message_says_whose_it_is_and_holds_what_it_holds() -> None:
    inner = {"blocks": [rich(section(word("Hello")))], "files": [{"id": "F2", "name": "b.txt"}]}
    shared = {
        "is_share": True,
        "author_id": "U1",
        "channel_id": "C1",
        "ts": "1000000000.000100",
        "text": "Hello",
        "message_blocks": [{"message": inner}],
        "files": [{"id": "F1", "name": "a.txt"}],
    }
    assert read(text="Look", attachments=[shared]) == (
        "Look\n[Message from @Alice in #C1, 2001-09-09 01:46 UTC, forwarded:]\n> Hello\n"
        "> [file: a.txt]\n> [file: b.txt]"
    )
    assert [file["id"] for file in files_of({"attachments": [shared]})] == ["F1", "F2"]
    assert own_words({"text": "", "attachments": [shared]}) == ""
    assert written_text({"text": "Look", "attachments": [shared]}) == "Look"


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"text": None, "blocks": None, "attachments": "x", "files": 3},
        {"blocks": [3, {"type": None}, {"type": "section"}, {"type": "table", "rows": [3, [4]]}]},
        {"attachments": [{"is_share": True, "message_blocks": [{}, {"message": 3}], "ts": "x"}]},
    ],
)
def test_whatever_slack_sends_breaks_nothing(message: dict[str, Any]) -> None:
    assert isinstance(text_of(message), str)
    assert isinstance(files_of(message), list)
    assert when("") == ""

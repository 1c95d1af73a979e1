"""What people post at the double arrives as Slack sends it, and is read back within its limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.fakes.slack import Posted, SlackDouble, Upload, canvas, clip


@pytest.fixture
async def slack() -> AsyncIterator[SlackDouble]:
    async with SlackDouble() as double:
        yield double


async def call(slack: SlackDouble, method: str, **arguments: Any) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {slack.bot_token}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{slack.api_url}{method}", data=arguments) as answer,
    ):
        body: dict[str, Any] = await answer.json()
        return {**body, "status": answer.status, "retry_after": answer.headers.get("Retry-After")}


def event_of(posted: Posted) -> dict[str, Any]:
    return posted.deliveries[0].event


async def test_a_forwarded_message_is_an_attachment_that_holds_it(slack: SlackDouble) -> None:
    general, alice = slack.channel("general"), slack.person("Alice Smith")
    said = slack.person("Bob Jones").post(general, "Hello", files=[Upload("a.txt", b"a")])
    event = event_of(alice.forward(said, general, "Look"))
    (shared,) = event["attachments"]
    assert event["text"] == "Look"
    assert (shared["is_share"], shared["author_name"], shared["channel_name"]) == (
        True,
        "Bob",
        "general",
    )
    assert shared["message_blocks"][0]["message"]["blocks"] == said.message.blocks
    assert shared["files"][0]["name"] == "a.txt"


async def test_a_link_to_a_message_shows_it_later(slack: SlackDouble) -> None:
    general, alice = slack.channel("general"), slack.person("Alice Smith")
    said = alice.post(general, "Hello")
    asked = alice.post(general, "See there")
    changed = slack.unfurl(asked.message, shows=said.message)
    assert changed is not None
    assert "attachments" not in changed.event["previous_message"]
    (shared,) = changed.event["message"]["attachments"]
    assert shared["is_msg_unfurl"]
    assert "is_share" not in shared


async def test_a_pasted_table_is_in_no_text(slack: SlackDouble) -> None:
    general, alice = slack.channel("general"), slack.person("Alice Smith")
    event = event_of(alice.post(general, "", table=[["a", "b"]]))
    assert event["text"] == ""
    assert event["attachments"][0]["blocks"][0]["rows"][0][1] == {"type": "raw_text", "text": "b"}


async def test_a_canvas_is_html_and_a_clip_a_film_by_name(slack: SlackDouble) -> None:
    general, alice = slack.channel("general"), slack.person("Alice Smith")
    files = [canvas("Our plan", "<p>Friday</p>"), clip(b"moov")]
    page, recording = event_of(alice.post(general, "Look", files=files))["files"]
    assert (page["filetype"], page["mimetype"]) == ("quip", "application/vnd.slack-docs")
    headers = {"Authorization": f"Bearer {slack.bot_token}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(page["url_private_download"]) as answer,
    ):
        assert answer.content_type == "text/html"
    assert (recording["subtype"], recording["mimetype"]) == ("slack_audio", "video/quicktime")


async def test_a_thread_comes_in_pages_each_with_its_root(slack: SlackDouble) -> None:
    general, alice = slack.channel("general"), slack.person("Alice Smith")
    root = alice.post(general, "Root")
    posts = [alice.post(general, f"{number}", thread=root) for number in range(5)]
    where = {"channel": general.id, "ts": root.ts, "limit": 2, "latest": posts[4].ts}
    first = await call(slack, "conversations.replies", **where)
    cursor = first["response_metadata"]["next_cursor"]
    second = await call(slack, "conversations.replies", **where, cursor=cursor)
    assert [one["text"] for one in first["messages"]] == ["Root", "0", "1"]
    assert [one["text"] for one in second["messages"]] == ["Root", "2", "3"]
    assert not second["has_more"]


async def test_who_may_hardly_read_gets_15_messages_a_minute(slack: SlackDouble) -> None:
    slack.limits.restricted_history = True
    general, alice = slack.channel("general"), slack.person("Alice Smith")
    root = alice.post(general, "Root")
    for number in range(20):
        alice.post(general, f"{number}", thread=root)
    where = {"channel": general.id, "ts": root.ts, "limit": 200}
    page = await call(slack, "conversations.replies", **where)
    assert len([one for one in page["messages"] if one["ts"] != root.ts]) == 15
    refused = await call(slack, "conversations.replies", **where)
    assert (refused["status"], refused["error"]) == (429, "ratelimited")
    assert int(refused["retry_after"]) > 50


@pytest.mark.parametrize("method", ["conversations.replies", "conversations.history"])
async def test_reading_needs_the_scope_of_the_place(slack: SlackDouble, method: str) -> None:
    general, alice = slack.channel("general"), slack.person("Alice Smith")
    root = alice.post(general, "Root")
    slack.workspace.scopes.discard("channels:history")
    answer = await call(slack, method, channel=general.id, ts=root.ts)
    assert (answer["error"], answer["needed"]) == ("missing_scope", "channels:history")

"""The Slack double's channels as text and as pages, and the double as a process to play with."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from slack_sdk.web.async_client import AsyncWebClient

from tests.fakes.slack import Channel, ManualClock, SlackDouble, Upload

ROOT = Path(__file__).resolve().parents[2]
ANSWER = """## Plan

| Step | Who |
|---|---|
| Draft | **Alice** |

```python
print("<!here>")
```
<script>alert(1)</script> ask <!here>
"""


@pytest.fixture
async def slack() -> AsyncIterator[SlackDouble]:
    async with SlackDouble(clock=ManualClock()) as double:
        yield double


async def answered(slack: SlackDouble) -> tuple[Channel, str]:
    """A question with a file, and its answer with all its dressing."""
    general = slack.channel("general")
    alice = slack.person("Alice Smith")
    asked = alice.post(
        general, "what is *the plan* & why?", mention=True, files=[Upload("notes.pdf", b"%PDF")]
    )
    alice.react(asked, "eyes")
    client = AsyncWebClient(token=slack.bot_token, base_url=slack.api_url)
    button = {"type": "button", "action_id": "again", "style": "primary"}
    thumbs = {
        "type": "feedback_buttons",
        "action_id": "rate",
        "positive_button": {"text": _plain("Good"), "value": "1"},
        "negative_button": {"text": _plain("Bad"), "value": "0"},
    }
    await client.chat_postMessage(
        channel=general.id,
        thread_ts=asked.ts,
        text="Plan",
        blocks=[
            {"type": "markdown", "text": ANSWER},
            {"type": "actions", "elements": [button | {"text": _plain("Regenerate")}]},
            {"type": "context_actions", "elements": [thumbs]},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": "by _gpt_"}]},
        ],
    )
    await client.assistant_threads_setStatus(
        channel_id=general.id, thread_ts=asked.ts, status="is thinking…"
    )
    return general, asked.ts


def _plain(text: str) -> dict[str, str]:
    return {"type": "plain_text", "text": text}


async def test_a_channel_as_text(slack: SlackDouble) -> None:
    general, _ = await answered(slack)

    lines = slack.text(general).splitlines()

    assert lines[0] == "Alice: @Colloquy what is *the plan* &amp; why?"
    assert lines[1] == "  [file] notes.pdf"
    assert lines[2] == "  Colloquy: ## Plan"


async def test_a_thread_as_a_page(slack: SlackDouble) -> None:
    general, ts = await answered(slack)

    page = slack.html(general, ts)

    assert '<span class="mention">@Colloquy</span> what is <strong>the plan</strong> &amp;' in page
    assert "<h2>Plan</h2>" in page
    assert "<td><strong>Alice</strong></td>" in page
    assert "<script>alert" not in page
    assert '<span class="mention all">@here</span>' in page
    assert '<button class="primary" data-action="again">Regenerate</button>' in page
    assert "👍" in page
    assert "<em>gpt</em>" in page
    assert "notes.pdf" in page
    assert "👀 1" in page
    assert "Colloquy is thinking…" in page


async def test_the_process_takes_messages_and_shows_them() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fakes.slack", "--port", "0"),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        printed: dict[str, str] = {}
        while "Open" not in printed:
            line = (await process.stdout.readline()).decode().strip()
            name, _, value = line.replace(" ", "=", 1).partition("=")
            printed[name] = value
        client = AsyncWebClient(token=printed["SLACK_BOT_TOKEN"], base_url=printed["SLACK_API_URL"])
        home = printed["Open"]
        async with aiohttp.ClientSession() as session:

            async def control(what: str, /, **body: object) -> dict[str, str]:
                body.setdefault("channel", "general")
                async with session.post(f"{home}control/{what}", data=json.dumps(body)) as sent:
                    answer: dict[str, str] = await sent.json()
                    return answer

            asked = await control("post", person="Alice Smith", text="hello")
            await client.chat_postMessage(channel="#general", thread_ts=asked["ts"], text="hi!")
            await control("react", ts=asked["ts"], name="octagonal_sign")
            assert "error" in await control("click", ts=asked["ts"], action="none")
            async with session.get(home) as page:
                text = await page.text()
            assert "hello" in text
            assert "hi!" in text
            assert "🛑" in text
            async with session.get(f"{home}control/calls") as calls:
                assert (await calls.json())[0]["method"] == "chat.postMessage"
    finally:
        process.terminate()
        await process.wait()

"""Makes the pictures of the README: the real page in a real browser, the real terminal client in a
real terminal (tmux), and the real Slack bot in the tests' double of Slack, drawn by the browser.
Only the model's words come from a script, so that the pictures show the same every time.

    .venv/bin/python scripts/make_pictures.py
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.page_pictures import opened, save, take_pictures  # noqa: E402
from tests.browser.chromium import browser_path, launched  # noqa: E402
from tests.fakes.provider import Answer  # noqa: E402
from tests.harness import Colloquy  # noqa: E402
from tests.slack_harness import SlackStage  # noqa: E402

WIDTH, HEIGHT = 76, 34
QUESTION = "Write a haiku about gRPC, then show how to stop a reply."
REPLY = """*Streams cross the quiet wire,*
*each word arrives but once.*
*The line breaks. It goes on.*

To stop a reply press **Ctrl-C**, or from code:

```python
reply = await client.cancel_reply(message_id)
print(reply.state)  # STATE_CANCELLED, with the text so far
```

| what breaks | what you lose |
| --- | --- |
| your connection | nothing |
| the provider, half way | nothing |
| the server | nothing |
"""

SLACK_FIRST = """For a side project on one machine: **SQLite**.

| | SQLite | Postgres |
| --- | --- | --- |
| to install | nothing | a server |
| writers at once | one | many |
| backup | copy a file | `pg_dump` |

Colloquy keeps the same promises on both, so you can move later.
"""
SLACK_SECOND = """Then **Postgres**: set `DATABASE_URL`, start as many servers as you like,
and any of them answers any call."""


async def main() -> None:
    """Makes all pictures."""
    Colloquy.models = Colloquy.models.replace("test-model", "gpt-4o")
    await page()
    await terminal()
    await slack()


async def page() -> None:
    """docs/page.png, docs/page-dark.png and docs/page-phone.png."""
    with tempfile.TemporaryDirectory() as folder:
        async with Colloquy(Path(folder)) as colloquy, launched(browser_path()) as browser:
            await take_pictures(colloquy, browser, ROOT / "docs")


async def slack() -> None:
    """docs/slack.png."""
    with tempfile.TemporaryDirectory() as folder:
        async with Colloquy(Path(folder)) as colloquy, SlackStage(colloquy) as stage:
            colloquy.provider.title_answer = "Postgres or SQLite"
            colloquy.provider.script(
                Answer(pieces=re.findall(r"\S+\s*", SLACK_FIRST), rate=200),
                Answer(pieces=re.findall(r"\S+\s*", SLACK_SECOND), rate=200),
            )
            asked = stage.alice.post(
                stage.general, "Should our side project use Postgres or SQLite?", mention=True
            )
            await stage.answered(stage.general, asked.ts)
            stage.bob.post(stage.general, "And if it must run on two machines?", thread=asked)
            await stage.answered(stage.general, asked.ts, count=2)
            page = Path(folder) / "slack.html"
            page.write_text(stage.slack.html(stage.general, asked.ts))
            await screenshot(page.as_uri(), ROOT / "docs" / "slack.png")


async def screenshot(url: str, path: Path) -> None:
    """A picture of a file that is no part of the page."""
    async with launched(browser_path()) as browser:
        tab = await browser.new_page(
            viewport={"width": 900, "height": 700}, device_scale_factor=1.5
        )
        await tab.goto(url)
        save(opened(await tab.screenshot()), path)


async def terminal() -> None:
    """docs/terminal.svg."""
    with tempfile.TemporaryDirectory() as folder:
        async with Colloquy(Path(folder)) as colloquy:
            colloquy.provider.title_answer = "A haiku about gRPC"
            colloquy.provider.default = Answer(pieces=re.findall(r"\S+\s*", REPLY), rate=60)
            alice = await colloquy.account("Alice")
            screen = await record(
                f"{sys.executable} -m colloquy --address 127.0.0.1:{colloquy.app.port} chat",
                {"CONVERSATION_API_KEY": alice.key},
            )
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(Text.from_ansi(screen.rstrip() + "\n"))
    console.save_svg(str(ROOT / "docs" / "terminal.svg"), title="make chat")


async def record(command: str, environment: dict[str, str]) -> str:
    """What the terminal shows after one question, with its colours."""
    name = f"colloquy-picture-{os.getpid()}"
    variables = [part for item in environment.items() for part in ("-e", "=".join(item))]
    tmux("new-session", "-d", "-s", name, "-x", str(WIDTH), "-y", str(HEIGHT),
         *variables, command)  # fmt: skip
    try:
        await shown(name, "^>")
        tmux("send-keys", "-t", name, QUESTION, "Enter")
        await shown(name, "A haiku about gRPC")
        return tmux("capture-pane", "-t", name, "-p", "-e")
    finally:
        tmux("kill-session", "-t", name)


async def shown(name: str, pattern: str) -> None:
    """Waits until the terminal shows this."""
    async with asyncio.timeout(60):  # nothing tells of a change on a screen
        while not re.search(pattern, tmux("capture-pane", "-t", name, "-p"), re.M):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    await asyncio.sleep(1)


def tmux(*arguments: str) -> str:
    """Runs a tmux command."""
    done = subprocess.run(["tmux", *arguments], capture_output=True, text=True, check=True)  # noqa: S607
    return done.stdout


if __name__ == "__main__":
    asyncio.run(main())

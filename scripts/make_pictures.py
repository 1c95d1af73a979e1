"""Makes the pictures of the README: the real terminal client in a real terminal (tmux), and the
real Slack bot in the tests' double of Slack, drawn by a browser (chromium). Only the model's words
come from a script, so that the pictures are the same every time.

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
    """Makes both pictures."""
    await terminal()
    await slack()


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
            subprocess.run(  # noqa: ASYNC221
                ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",  # noqa: S607
                 "--disable-background-networking", "--disable-sync", "--no-first-run",
                 f"--user-data-dir={folder}/browser", "--window-size=900,700",
                 "--force-device-scale-factor=1.5",
                 f"--screenshot={ROOT / 'docs' / 'slack.png'}", page.as_uri()],
                check=True, capture_output=True,
            )  # fmt: skip


async def terminal() -> None:
    """docs/terminal.svg."""
    Colloquy.models = Colloquy.models.replace("test-model", "gpt-4o")
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

"""The bot, which kills itself at the step that a file names.

The file holds `STEP` or `STEP*2` for the second time that it is reached; it is deleted before.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

from colloquy_slack import logs
from colloquy_slack.app import Bot
from colloquy_slack.outgoing import delivery
from colloquy_slack.settings import load

DIE_AT = "DIE_AT"
"""The variable with the file's path."""


def main() -> None:
    """Runs the bot until it is killed."""
    asyncio.run(_run(Path(os.environ[DIE_AT])))


async def _run(file: Path) -> None:
    counts: Counter[str] = Counter()

    def reached(step: str) -> None:
        if not file.exists():
            return
        counts[step] += 1
        wanted, _, number = file.read_text().partition("*")
        if step == wanted and counts[step] == int(number or 1):
            file.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    logs.configure("json")
    # The double does at once what it is told.
    delivery.ARRIVES_WITHIN = 0.1
    await Bot(load(), reached=reached).start()
    await asyncio.Event().wait()

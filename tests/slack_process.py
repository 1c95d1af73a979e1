"""`python -m tests.slack_process STEP`: the bot, which kills itself at the first STEP."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from slack_bot import logs
from slack_bot.app import Bot
from slack_bot.settings import load


async def main(die_at: str) -> None:
    def reached(step: str) -> None:
        if step == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    logs.configure("json")
    await Bot(load(), reached=reached).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

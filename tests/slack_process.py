"""The bot, which kills itself at the failpoint that a file names.

The file holds `FAILPOINT` or `FAILPOINT*2` for the second time that it is reached; it is deleted
before.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

from colloquy import AsyncConversationClient
from colloquy_slack import logs
from colloquy_slack.app import Bot
from colloquy_slack.outgoing import reply_messages
from colloquy_slack.settings import load

DIE_AT = "DIE_AT"
"""The variable with the file's path."""

CONVERSATION_DELETED = "conversation deleted"
"""What is as good as a failpoint, outside of a request's life."""


def main() -> None:
    """Runs the bot until it is killed."""
    asyncio.run(_run(Path(os.environ[DIE_AT])))


async def _run(file: Path) -> None:
    counts: Counter[str] = Counter()

    def failpoint(reached: str) -> None:
        if not file.exists():
            return
        counts[reached] += 1
        wanted, _, number = file.read_text().partition("*")
        if reached == wanted and counts[reached] == int(number or 1):
            file.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    delete = AsyncConversationClient.delete_conversation

    async def delete_conversation(client: Any, conversation_id: str) -> None:
        await delete(client, conversation_id)
        failpoint(CONVERSATION_DELETED)

    AsyncConversationClient.delete_conversation = delete_conversation
    logs.configure("json")
    # The double does at once what it is told.
    reply_messages.ARRIVES_WITHIN = 0.1
    await Bot(load(), failpoint=failpoint).start()
    await asyncio.Event().wait()

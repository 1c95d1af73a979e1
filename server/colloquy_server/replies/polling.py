"""Looks in the database for what the bus may have lost."""

from __future__ import annotations

import asyncio

from colloquy_server.replies.feeds import Feeds

_INTERVAL = 1.0


class Polling:
    """Keeps the feeds of a process true without the bus."""

    name = "poll"

    def __init__(self, feeds: Feeds) -> None:
        self._feeds = feeds

    async def run_once(self) -> None:
        """One look at all conversations that are watched here."""
        await asyncio.sleep(_INTERVAL)
        await self._feeds.poll()

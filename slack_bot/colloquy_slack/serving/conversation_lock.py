"""Who may say something in a conversation: one request after the other, in the order they came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from colloquy_slack.outgoing.rendering import Phase


class Turn:
    """The turn in one conversation. What holds up whose turn it is holds up all who wait."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._phase = Phase.THINKING
        self._waiting: set[Callable[[Phase], None]] = set()

    @asynccontextmanager
    async def taken(self, show: Callable[[Phase], None]) -> AsyncIterator[None]:
        """Hold the turn; until it came, `show` is told what there is to wait for."""
        show(self._phase)
        self._waiting.add(show)
        try:
            await self._lock.acquire()
        finally:
            self._waiting.remove(show)
        try:
            yield
        finally:
            self.tell(Phase.THINKING)
            self._lock.release()

    def tell(self, phase: Phase) -> None:
        """Tell those who wait what the one whose turn it is waits for."""
        self._phase = phase
        for show in self._waiting:
            show(phase)

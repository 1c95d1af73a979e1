"""One request after the other in a conversation, in the order they came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from colloquy_slack.outgoing.reply_view import Phase


class ConversationLock:
    """The lock of one conversation. Who waits for it shows what its owner waits for."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._phase = Phase.THINKING
        self._waiting: set[Callable[[Phase], None]] = set()

    @asynccontextmanager
    async def acquired(self, show: Callable[[Phase], None]) -> AsyncIterator[None]:
        """Own the lock; until then `show` is called with what there is to wait for."""
        show(self._phase)
        self._waiting.add(show)
        try:
            await self._lock.acquire()
        finally:
            self._waiting.remove(show)
        try:
            yield
        finally:
            self.set_phase(Phase.THINKING)
            self._lock.release()

    def set_phase(self, phase: Phase) -> None:
        """Say what the owner waits for."""
        self._phase = phase
        for show in self._waiting:
            show(phase)

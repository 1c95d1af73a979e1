"""A server that kills itself on the way of an event to its receiver, at the point that a file
names. The file is deleted before."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from colloquy_server.database.repository import deliveries
from colloquy_server.database.transactions import Session
from colloquy_server.process import run_server
from colloquy_server.webhooks.deliverer import Deliverer
from colloquy_server.webhooks.sender import Sender

from tests.harness import Colloquy, ServerProcess

POINTS = ("committed", "found", "claimed", "answered", "settled")
"""Between any two of them the process may die."""


class DyingServer(ServerProcess):
    """A server as a process of its own."""

    def __init__(self, colloquy: Colloquy, **environment: str) -> None:
        self.die_at = colloquy.folder / "die_at"
        super().__init__(colloquy, workers=1, run=run, DIE_AT=str(self.die_at), **environment)

    async def died(self) -> None:
        """Waits until it has killed itself."""
        assert self._process is not None
        assert self._reading is not None
        assert await self._process.wait() == -signal.SIGKILL
        await self._reading


def run() -> int:
    """Runs the server."""
    file = Path(os.environ["DIE_AT"])

    def reach(point: str) -> None:
        if file.exists() and file.read_text() == point:
            file.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    def after(owner: type[Any], name: str, point: str) -> None:
        function = getattr(owner, name)

        async def both(*args: Any) -> Any:
            result = await function(*args)
            if name != "_claim" or result is not None:
                reach(point)
            return result

        setattr(owner, name, both)

    def start(self: Deliverer) -> None:
        def told() -> None:
            reach("committed")
            self._has_work.set()

        self._db.on_events = told
        begin(self)

    begin, Deliverer.start = Deliverer.start, start  # type: ignore[method-assign]
    look = deliveries.waiting

    def waiting(s: Session) -> list[str]:
        found = look(s)
        if found:
            reach("found")
        return found

    deliveries.waiting = waiting
    after(Deliverer, "_claim", "claimed")
    after(Sender, "post", "answered")
    after(Deliverer, "_settle", "settled")
    return run_server()

"""Looks how much waits in the database, for those who watch the server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from colloquy_server.database.models import MICROS
from colloquy_server.database.repository import queue
from colloquy_server.database.repository.queue import Backlog
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database
from colloquy_server.telemetry import Telemetry

_INTERVAL = 5.0
"""Seconds between two looks: who comes for metrics more often gets the same once more, and asks
the database nothing."""


class BacklogGauges:
    """Keeps what waits ready to be told. Runs only where somebody wants metrics."""

    name = "look at the backlog"

    def __init__(self, db: Database, telemetry: Telemetry) -> None:
        self._db = db
        self._found: Backlog | None = None
        self._observe(telemetry, "colloquy.reply.queued", lambda found: found.queued)
        self._observe(telemetry, "colloquy.reply.stuck", lambda found: found.stuck)
        self._observe(
            telemetry, "colloquy.reply.oldest_waiting", lambda found: found.oldest / MICROS
        )

    async def run_once(self) -> None:
        """One look; while the database is away there is nothing to tell."""
        try:
            self._found = await self._db.read(EVERY_ACCOUNT, queue.backlog)
        except BaseException:
            self._found = None
            raise
        await asyncio.sleep(_INTERVAL)

    def _observe(
        self, telemetry: Telemetry, name: str, value_of: Callable[[Backlog], float]
    ) -> None:
        def observed() -> list[tuple[float, dict[str, str]]]:
            found = self._found
            return [] if found is None else [(value_of(found), {})]

        telemetry.observe(name, observed)

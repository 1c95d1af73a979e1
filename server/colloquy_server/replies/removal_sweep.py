"""Forgets which conversations were removed, when nobody can ask for it any more."""

from __future__ import annotations

import asyncio

from colloquy_server.database.repository import removals
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database

_INTERVAL = 3_600.0


class RemovalSweep:
    """Keeps the table of removals as small as it can be."""

    name = "forget removals"

    def __init__(self, db: Database) -> None:
        self._db = db

    async def run_once(self) -> None:
        """One look at what is old."""
        await self._db.write(EVERY_ACCOUNT, removals.forget_old)
        await asyncio.sleep(_INTERVAL)

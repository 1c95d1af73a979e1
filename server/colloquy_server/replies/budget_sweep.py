"""Counts anew what budgets have used and reserved, where that is not what it should be."""

from __future__ import annotations

import asyncio

import structlog

from colloquy_server.database.repository import budgets
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database

log = structlog.get_logger()

_INTERVAL = 60.0

_AT_ONCE = 200
"""Budgets that are looked at in one look; the others come next."""


class BudgetSweep:
    """Mends the counters of budgets: of one that was set while a reply ended, or when an older
    version of the server ended one."""

    name = "mend budgets"

    def __init__(self, db: Database) -> None:
        self._db = db
        self._after = ""

    async def run_once(self) -> None:
        """One look at some budgets."""
        await asyncio.sleep(_INTERVAL)
        await self.look()

    async def look(self) -> None:
        """The same, at once."""
        wrong, self._after = await self._db.read(
            EVERY_ACCOUNT, budgets.wrong_counters, self._after, _AT_ONCE
        )
        for budget_id, start in wrong:
            log.info("budget counted anew", budget_id=budget_id)
            await self._db.write(EVERY_ACCOUNT, budgets.mend, budget_id, start)
        if not self._after:
            await self._db.write(EVERY_ACCOUNT, budgets.forget_counters)

"""Renews the leases of this process, and fences what could not be renewed in time."""

from __future__ import annotations

import asyncio

from colloquy_server.database.models import MICROS
from colloquy_server.database.repository import titles as title_rows
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database
from colloquy_server.replies.bus import Bus
from colloquy_server.replies.ownership import Ownership
from colloquy_server.replies.titles import Titles

_BUS_DOWN_INTERVAL = 0.25
"""Seconds between renewals when the bus is down, over which an owner hears that its reply was
cancelled: a renewal says so too."""

_EXPIRY_INTERVAL = 0.25
"""Seconds between looks whether a lease of this process is over."""


class LeaseRenewal:
    """Renews the leases of replies."""

    name = "renew leases"

    def __init__(self, ownership: Ownership, bus: Bus, ttl: float) -> None:
        self._ownership = ownership
        self._bus = bus
        self._interval = ttl / 3

    async def run_once(self) -> None:
        """One renewal of all leases."""
        await asyncio.sleep(self._interval if self._bus.is_up else _BUS_DOWN_INTERVAL)
        await self._ownership.renew()


class TitleRenewal:
    """The same for titles, apart, because this waits for whoever changes a conversation."""

    name = "renew titles"

    def __init__(self, db: Database, titles: Titles, ttl: float) -> None:
        self._db = db
        self._titles = titles
        self._ttl = ttl

    async def run_once(self) -> None:
        """One renewal of all titles that are being made."""
        await asyncio.sleep(self._ttl / 3)
        if self._titles.making:
            ttl = int(self._ttl * MICROS)
            making = set(self._titles.making)
            await self._db.write(EVERY_ACCOUNT, title_rows.renew, making, ttl)


class LeaseExpiry:
    """Fences replies whose lease is over, also while a renewal hangs."""

    name = "fence expired leases"

    def __init__(self, ownership: Ownership) -> None:
        self._ownership = ownership

    async def run_once(self) -> None:
        """One look at all leases."""
        await asyncio.sleep(_EXPIRY_INTERVAL)
        self._ownership.fence_expired()

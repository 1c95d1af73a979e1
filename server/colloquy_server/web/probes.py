"""What load balancers ask: whether the process lives, and whether to send it calls."""

from __future__ import annotations

import asyncio
import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from colloquy_server.database.repository import access
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database, DatabaseUnavailable

_LASTS = 1.0
"""Seconds that an answer of the database is good for: whoever asks has no key, and may not make
work."""

_TIMEOUT = 3.0
"""Seconds after which a database that says nothing is taken to be away."""


class Probes:
    """Answers `/healthz` and `/readyz`."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.is_draining = False
        self._until = 0.0
        self._answers = False
        self._asking: asyncio.Task[bool] | None = None

    def routes(self) -> list[Route]:
        """Where they are."""
        return [Route("/healthz", self._live), Route("/readyz", self._ready)]

    async def _live(self, _request: Request) -> Response:
        return _said("ok", 200)

    async def _ready(self, _request: Request) -> Response:
        if self.is_draining:
            return _said("shutting down", 503)
        if not await self._database_answers():
            return _said("the database does not answer", 503)
        return _said("ok", 200)

    async def _database_answers(self) -> bool:
        if time.monotonic() < self._until:
            return self._answers
        if self._asking is None:  # once for all who ask meanwhile
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(self._keep)
        return await asyncio.shield(self._asking)

    async def _ask(self) -> bool:
        try:
            async with asyncio.timeout(_TIMEOUT):
                await self._db.read(EVERY_ACCOUNT, access.has_keys)
        except (DatabaseUnavailable, TimeoutError):
            return False
        return True

    def _keep(self, asked: asyncio.Task[bool]) -> None:
        self._asking = None
        if not asked.cancelled() and asked.exception() is None:
            self._answers = asked.result()
            self._until = time.monotonic() + _LASTS


def _said(status: str, code: int) -> Response:
    return JSONResponse({"status": status}, code, {"cache-control": "no-store"})

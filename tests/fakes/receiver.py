"""A receiver of events: a real HTTP server that takes what is posted, and misbehaves as told.

It checks signatures by the words of the specification, with nothing of the server's.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web

from tests.postgres import free_port


@dataclass(frozen=True)
class Arrival:
    """An event that was posted, however it was answered."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, Any]:
        return json.loads(self.body)  # type: ignore[no-any-return]

    @property
    def type(self) -> str:
        return str(self.event["type"])

    @property
    def data(self) -> dict[str, Any]:
        return self.event["data"]  # type: ignore[no-any-return]

    def is_signed_with(self, secret: str) -> bool:
        """Whether the signature is that of this secret over id, time and body."""
        signed = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        key = base64.b64decode(secret[len("whsec_") :], validate=True)
        mac = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return f"v1,{mac}" in self.headers["webhook-signature"].split(" ")


Behaviour = Callable[[Arrival, web.Request], Awaitable[web.StreamResponse]]


def answering(status: int, **headers: str) -> Behaviour:
    """Answers with a status."""

    async def behave(_arrival: Arrival, _request: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, headers=named)

    return behave


async def hanging_up(_arrival: Arrival, request: web.Request) -> web.StreamResponse:
    """Hangs up without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response(status=500)


async def silent(_arrival: Arrival, _request: web.Request) -> web.StreamResponse:
    """Never answers."""
    await asyncio.Event().wait()
    return web.Response()


async def endless(_arrival: Arrival, request: web.Request) -> web.StreamResponse:
    """Says 200, and goes on talking."""
    response = web.StreamResponse()
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await response.write(b"x" * 65_536)
    return response


class ReceiverDouble:
    """The receiver. Each path on it may be another webhook's."""

    def __init__(self) -> None:
        self.port = free_port()
        self.arrivals: list[Arrival] = []
        self.taken: list[Arrival] = []
        """Those that were answered with 2xx."""
        self.script: list[Behaviour] = []
        """How the next ones are answered; all others are taken."""
        self.paths: dict[str, Behaviour] = {}
        """How those are answered that come to a path."""
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listens, where it did before."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0, handler_cancellation=True
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def stop(self) -> None:
        """Goes away."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def url(self, path: str = "/events") -> str:
        """Where a webhook posts to."""
        return f"http://127.0.0.1:{self.port}{path}"

    async def until(self, condition: Callable[[], Any]) -> None:
        """Waits until what arrived fulfils a condition."""
        async with self._changed:
            await self._changed.wait_for(condition)

    async def got(self, count: int, path: str = "/events") -> list[Arrival]:
        """Waits until so many events were taken at a path, each counted once; returns those."""

        def seen() -> list[Arrival]:
            return list({one.id: one for one in self.taken[::-1] if one.path == path}.values())[
                ::-1
            ]

        await self.until(lambda: len(seen()) >= count)
        return seen()

    async def took(self, delivery_id: str) -> None:
        """Waits until it took an event."""
        await self.until(lambda: any(one.id == delivery_id for one in self.taken))

    async def _take(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        arrival = Arrival(request.path, headers, await request.read())
        behave = self.paths.get(request.path)
        if behave is None:
            behave = self.script.pop(0) if self.script else answering(204)
        async with self._noting():
            self.arrivals.append(arrival)
        response = await behave(arrival, request)
        if 200 <= response.status < 300 and not response.prepared and request.transport:
            async with self._noting():
                self.taken.append(arrival)
        return response

    @contextlib.asynccontextmanager
    async def _noting(self) -> AsyncIterator[None]:
        async with self._changed:
            yield
            self._changed.notify_all()

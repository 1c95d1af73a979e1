"""Listens for HTTP on the server's own event loop, with uvicorn's connections, and ends in good
order. uvicorn's own server would take the process's signals, and wake up ten times a second."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import ssl
import time
from collections.abc import Sequence
from email.utils import formatdate
from typing import Any, Protocol

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from colloquy_server.settings import Settings
from colloquy_server.web.connections import IDLE_TIMEOUT, Bounds, Connection

_HANDSHAKE_TIMEOUT = 10.0
"""Seconds for TLS; asyncio would give a minute."""

_MAX_CONNECTIONS = 10_000


class Drains(Protocol):
    """What answers otherwise when the server shuts down."""

    is_draining: bool


class HttpFront:
    """The HTTP side of one server process."""

    def __init__(self, settings: Settings, app: ASGIApp, draining: Sequence[Drains]) -> None:
        """`draining` are told when this begins to drain."""
        self._draining = draining
        self._bounds = Bounds(_max_connections())
        ca = settings.tls_client_ca_file
        self._config = uvicorn.Config(
            app,
            interface="asgi3",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            # What strangers send wrong is no line of the log.
            log_level="critical",
            access_log=False,
            proxy_headers=False,  # TRUSTED_PROXIES says whom to believe
            timeout_keep_alive=round(IDLE_TIMEOUT),
            ssl_certfile=settings.tls_cert_file,
            ssl_keyfile=settings.tls_key_file,
            ssl_ca_certs=str(ca) if ca else None,
            ssl_cert_reqs=ssl.CERT_REQUIRED if ca else ssl.CERT_NONE,
        )
        self._state = ServerState()
        self._servers: list[asyncio.Server] = []
        self._clock: asyncio.TimerHandle | None = None

    async def start(self, sockets: list[socket.socket]) -> None:
        """Serves whoever connects to these sockets, which listen."""
        self._config.load()
        self._tick()
        tls: dict[str, Any] = {}
        if self._config.ssl is not None:
            tls = {"ssl": self._config.ssl, "ssl_handshake_timeout": _HANDSHAKE_TIMEOUT}
        loop = asyncio.get_running_loop()
        self._servers = [
            await loop.create_server(self._connection, sock=each, **tls) for each in sockets
        ]

    def _connection(self) -> Connection:
        loop = asyncio.get_running_loop()
        return Connection(self._config, self._state, {}, loop, bounds=self._bounds)

    def _tick(self) -> None:
        """Sets the date that answers have."""
        self._state.default_headers = [(b"date", formatdate(time.time(), usegmt=True).encode())]
        self._clock = asyncio.get_running_loop().call_later(1, self._tick)

    def drain(self) -> None:
        """Refuses new calls, and takes no more connections: the next server may have the port.
        Those that are open go on, each to the end of one more answer."""
        for each in (*self._draining, self._bounds):
            each.is_draining = True
        for server in self._servers:
            server.close()

    async def stop(self, patience: float) -> None:
        """Ends connections as their answers end, and after so many seconds all that are left."""
        for connection in list(self._state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self._state.connections:
                    await self._bounds.wait_for_an_end()
        for connection in list(self._state.connections):
            connection.transport.abort()
        left = list(self._state.tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if self._clock is not None:
            self._clock.cancel()


def _max_connections() -> int:
    """A quarter of the files that the process may open: gRPC has half of them."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MAX_CONNECTIONS if allowed < 0 else min(_MAX_CONNECTIONS, max(1, allowed // 4))

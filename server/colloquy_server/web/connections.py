"""What a connection by HTTP may do before anybody is known, and how long it is kept.

uvicorn reads any number of headers for any time, and lets what follows a refused request come for
ever; all that is bounded here.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADER_BYTES = 32 << 10
"""Of a request's line and headers, and of what follows a body that comes in pieces."""

HEADER_TIMEOUT = 10.0
"""Seconds in which a request's headers have to come, from its first byte or, of the first one, from
the connection's beginning."""

IDLE_TIMEOUT = 75.0
"""Seconds that a connection without a request is kept: a little longer than proxies keep theirs,
who would else send a request to one that is being closed."""

_HEADER_COST = 100
"""Bytes that each header takes beside its own."""

REST_TIMEOUT = 5.0
"""Seconds for the rest of a body that nobody reads; the answer may be lost without that."""

_REST_BYTES = 1 << 20


@dataclass(slots=True)
class Bounds:
    """What holds for all connections of a server."""

    max_connections: int
    is_draining: bool = False
    """Whether each ends with its next answer."""
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait_for_an_end(self) -> None:
        """Waits until another connection has ended."""
        self._ended.clear()
        await self._ended.wait()

    def note_end(self) -> None:
        """A connection has ended."""
        self._ended.set()


class Connection(HttpToolsProtocol):
    """One connection of a client or a proxy."""

    def __init__(self, *arguments: Any, bounds: Bounds, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._bounds = bounds
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        """What has come of headers that are not complete."""
        self._header_bytes = 0
        self._rest_bytes = 0
        self._is_in_body = False
        self._is_deaf = False
        """Whether what comes is no more listened to: the connection ends with its answer."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._bounds.max_connections:
            transport.abort()
            return
        self._close_in(HEADER_TIMEOUT)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_timer()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        self._bounds.note_end()

    @property
    def _is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        if self._is_in_body:
            if not self._is_busy:
                self._rest_bytes += len(data)
                if self._rest_bytes > _REST_BYTES:
                    self.transport.close()
                    return
        elif not self._is_busy:
            if self._head_bytes == 0:
                self._close_in(HEADER_TIMEOUT)
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > MAX_HEADER_BYTES:  # and no end of them
            self.send_400_response("The headers are too long.")

    def send_400_response(self, msg: str) -> None:
        self._is_deaf = True
        if self._is_busy:  # the answer to what came before has begun
            self.transport.close()
        elif not self.transport.is_closing():
            super().send_400_response(msg)

    def on_message_begin(self) -> None:
        if self._is_deaf or self._is_busy:
            return
        self._header_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._is_deaf and not self._is_busy:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_deaf or self._is_in_body or self._is_busy:
            return
        self._header_bytes += len(name) + len(value) + _HEADER_COST
        if self._header_bytes > MAX_HEADER_BYTES:
            self.send_400_response("The headers are too long.")
            return
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._is_deaf:
            return
        if self._is_busy:
            # A request that did not wait for the answer to the last: no client of today sends one.
            # The connection ends with that answer, and whoever sent it may send it again.
            self._is_deaf = True
            self.cycle.keep_alive = False
            return
        self._forget_timer()
        self._is_in_body = True
        self._head_bytes = self._rest_bytes = 0
        super().on_headers_complete()
        if self.parser.should_upgrade():  # to what is not spoken here: the parser stops after this
            self.cycle.keep_alive = False
        if self._bounds.is_draining:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        if not self._is_deaf:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._is_deaf:
            return
        self._is_in_body = False
        super().on_message_complete()
        if self.cycle.response_complete:
            self._close_in(IDLE_TIMEOUT)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_in_body and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self._close_in(REST_TIMEOUT)

    def _close_in(self, seconds: float) -> None:
        self._forget_timer()
        self._timer = self.loop.call_later(seconds, self._close)

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

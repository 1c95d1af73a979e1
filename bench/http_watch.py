"""Watches a conversation by HTTP, by Connect with messages as bytes, and counts what comes."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

import httptools
from colloquy.api import conversation_service_pb2 as api

_PATH = "/conversation.v1.ConversationService/WatchConversation"


class HttpWatch(asyncio.Protocol):
    """One watcher, on a connection of its own."""

    def __init__(
        self, request: api.WatchConversationRequest, secret: str, on_event: Callable[[], None]
    ) -> None:
        body = request.SerializeToString()
        framed = struct.pack(">BI", 0, len(body)) + body
        self._asks = (
            f"POST {_PATH} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {secret}\r\n"
            f"content-type: application/connect+proto\r\ncontent-length: {len(framed)}\r\n\r\n"
        ).encode() + framed
        self._on_event = on_event
        self._parser = httptools.HttpResponseParser(self)
        self._came = bytearray()
        self.transport: asyncio.Transport | None = None

    @classmethod
    async def open(
        cls,
        address: str,
        request: api.WatchConversationRequest,
        secret: str,
        on_event: Callable[[], None],
    ) -> HttpWatch:
        """Begins to watch."""
        host, _, port = address.rpartition(":")
        _, watch = await asyncio.get_running_loop().create_connection(
            lambda: cls(request, secret, on_event), host, int(port)
        )
        return watch

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Asks."""
        self.transport = transport
        transport.write(self._asks)

    def data_received(self, data: bytes) -> None:
        """Takes what came."""
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        """Counts the events that are whole."""
        self._came += data
        while len(self._came) >= 5:
            end = 5 + int.from_bytes(self._came[1:5], "big")
            if len(self._came) < end:
                return
            del self._came[:end]
            self._on_event()

    def close(self) -> None:
        """Goes away."""
        if self.transport is not None:
            self.transport.abort()

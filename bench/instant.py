"""A provider that answers at once with five tokens, for some microseconds a request.

It runs in the process of the load, so that two processors are enough for all: it reads no more of
a request than its length, and its answer is the same bytes every time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

TEXT = "Five tokens make this answer."

_TOKENS = ("Five", " tokens", " make", " this", " answer.")
_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


def _event(**fields: Any) -> str:
    chunk = {
        "id": "chatcmpl-0123456789abcdefghijklmnopqrs",
        "object": "chat.completion.chunk",
        "created": 1_800_000_000,
        "model": "bench",
        **fields,
    }
    return f"data: {json.dumps(chunk, separators=(',', ':'))}\n\n"


def _answer() -> bytes:
    events = [
        _event(choices=[{"index": 0, "delta": {"content": token}, "finish_reason": None}])
        for token in _TOKENS
    ]
    events.append(_event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]))
    usage = {"prompt_tokens": 9, "completion_tokens": len(_TOKENS), "total_tokens": 14}
    events.append(_event(choices=[], usage=usage))
    events.append("data: [DONE]\n\n")
    body = "".join(events).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked"
    return head + b"\r\n\r\n%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"


_ANSWER = _answer()


class _Connection(asyncio.Protocol):
    """One keep-alive connection."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._received = bytearray()
        self._missing = 0  # of the body whose head was read
        self._in_body = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is of no such class

    def data_received(self, data: bytes) -> None:
        if self._in_body:
            self._missing -= len(data)
        else:
            self._received += data
            head, end, body = self._received.partition(_HEAD_END)
            if not end:
                return
            length = head.lower().partition(_LENGTH)[2].partition(b"\r\n")[0]
            self._in_body = True
            self._missing = int(length) - len(body)
            self._received.clear()
        if self._missing <= 0:  # a client sends its next request after the answer
            self._in_body = False
            self._transport.write(_ANSWER)


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """Serves in this process; gives the base URL."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0, backlog=1_024)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()

"""One call by HTTP: how its request is taken in, and how its answers are sent."""

from __future__ import annotations

import asyncio
import gzip
import re
import struct
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

import orjson
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from starlette.types import Message as Event
from starlette.types import Receive, Scope, Send

from colloquy_server.errors import ColloquyError, InvalidField, Unimplemented
from colloquy_server.tracing import HEADER

Headers = list[tuple[bytes, bytes]]

Receives = Callable[[], Awaitable[Event]]

WhileGood = Callable[[Receives], Awaitable[Event]]

_TIMEOUTS = {
    b"connect-timeout-ms": re.compile(rb"\d{1,10}"),
    b"grpc-timeout": re.compile(rb"\d{1,8}[HMSmun]"),
}
"""How long a caller will wait, by the header that says it."""

_COMPRESSION = (b"content-encoding", b"connect-content-encoding", b"grpc-encoding")

_WORTHWHILE = 1 << 10
"""Bytes of an answer from which on it is compressed."""

_QUICK = 32 << 10
"""Bytes that are compressed in less than a millisecond: more is done beside the event loop."""

_LEVEL = 4

_SHARED_JSON = 16 << 10
"""Bytes of the longest event whose JSON is kept for others who watch."""

_COMMON: Headers = [(b"cache-control", b"no-store")]


class HttpCall:
    """The ends of one call: the library's `receive` and `send`, and the edge's `write`."""

    def __init__(
        self,
        receive: Receive,
        send: Send,
        *,
        content_type: str,
        output: type[Message],
        is_stream: bool,
        accepts_gzip: bool,
        patience: float,
    ) -> None:
        """`patience` is how many seconds a request may let wait: in all, or each of a stream."""
        self._receive = receive
        self._send = send
        self._content_type = content_type
        self._output = output
        self._is_stream = is_stream
        self._accepts_gzip = accepts_gzip and not is_stream and "grpc-web" not in content_type
        self._patience = patience
        self.while_good: WhileGood = _anyway
        """What the request is waited for by: nothing does that for a key that has ended."""
        self.request_id = ""
        """What the call is followed by, for its answer."""
        self._deadline: float | None = None
        self._is_read = False
        self._has_started = False
        self._start: Event | None = None

    async def receive(self) -> Event:
        """What comes next from the caller. Raises InvalidField when a request lets wait."""
        if self._is_read:
            return await self._receive()
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + self._patience
        try:
            async with asyncio.timeout_at(self._deadline):
                event = await self.while_good(self._receive)
        except TimeoutError:
            what = f"did not come within {self._patience:g} s"
            raise InvalidField({"request": what}) from None
        self._is_read = not event.get("more_body", False)
        if self._is_stream:
            self._deadline = None
        return event

    def stop_guarding(self) -> None:
        """Leaves it to others to see whether the key is good."""
        self.while_good = _anyway

    async def write(self, message: Message | bytes) -> None:
        """Sends one of several answers. Events come as bytes, the same for all who watch."""
        if not self._has_started:
            self._has_started = True
            await self._send(self._stream_start())
        if self._content_type.endswith("json"):
            data = _json_of(self._output, message)
        else:
            data = message if isinstance(message, bytes) else message.SerializeToString()
        await self._send(
            {
                "type": "http.response.body",
                "body": struct.pack(">BI", 0, len(data)) + data,
                "more_body": True,
            }
        )

    def _stream_start(self) -> Event:
        kind = self._content_type
        if kind == "application/grpc-web":
            kind += "+proto"
        headers = [(b"content-type", kind.encode()), *_COMMON, (b"x-accel-buffering", b"no")]
        headers += self._followed_by()
        return {"type": "http.response.start", "status": 200, "headers": headers}

    async def send(self, event: Event) -> None:
        """Sends what the library answers, with what all answers have."""
        if event["type"] == "http.response.start":
            if not self._has_started:
                self._has_started = True
                self._start = event
            return
        start, self._start = self._start, None
        if start is not None:
            body = event.get("body", b"")
            headers = [h for h in start["headers"] if h[0] not in (b"vary", b"content-encoding")]
            headers += [*_COMMON, *self._followed_by()]
            if not event.get("more_body", False):
                if self._accepts_gzip and len(body) >= _WORTHWHILE:
                    body = await _compressed(body)
                    headers.append((b"content-encoding", b"gzip"))
                headers += [
                    (b"content-length", b"%d" % len(body)),
                    (b"vary", b"accept-encoding"),
                ]
            await self._send({**start, "headers": headers})
            event = {**event, "body": body}
        await self._send(event)

    def _followed_by(self) -> Headers:
        return [(HEADER.encode(), self.request_id.encode())] if self.request_id else []


async def _anyway(receive: Receives) -> Event:
    return await receive()


async def answer(send: Send, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
    """Answers what is no call."""
    body = orjson.dumps({"message": text})
    more = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send(
        {"type": "http.response.start", "status": status, "headers": [*more, *_COMMON, *headers]}
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})


def header(scope: Scope, name: bytes) -> str:
    """A header's value; empty when there is none."""
    return next((v.decode("latin-1") for n, v in scope["headers"] if n == name), "")


def headers_for_library(scope: Scope, content_type: str) -> tuple[Headers, ColloquyError | None]:
    """What the library has to see of the headers, and what they are refused for: it would do that
    in words of its own."""
    headers = [(b"content-type", content_type.encode())]
    refusal: ColloquyError | None = None
    for name, value in scope["headers"]:
        if (pattern := _TIMEOUTS.get(name)) is not None:
            if pattern.fullmatch(value):
                headers.append((name, value))
            else:
                refusal = InvalidField({name.decode(): "is no time to wait"})
        elif name in _COMPRESSION and value.lower() not in (b"", b"identity"):
            # A few KiB can unpack to all that a message may be.
            refusal = Unimplemented("Requests are taken without compression only.")
        elif name == b"connect-protocol-version" and value != b"1":
            refusal = InvalidField({"connect-protocol-version": "must be 1"})
    return headers, refusal


async def _compressed(body: bytes) -> bytes:
    if len(body) <= _QUICK:
        return gzip.compress(body, _LEVEL, mtime=0)
    return await asyncio.to_thread(gzip.compress, body, _LEVEL, mtime=0)


def _json_of(output: type[Message], message: Message | bytes) -> bytes:
    if not isinstance(message, bytes):
        return _as_json(message)
    if len(message) > _SHARED_JSON:
        return _as_json(output.FromString(message))
    return _shared_json(output.FromString, message)


@lru_cache(256)
def _shared_json(parse: Callable[[bytes], Message], event: bytes) -> bytes:
    return _as_json(parse(event))


def _as_json(message: Any) -> bytes:
    return MessageToJson(message, indent=None).encode()

"""HTTP/2 by hand, for callers that do what no library lets them do.

async with Http2(address) as attacker:
    stream = attacker.headers("/conversation.v1.ConversationService/ListModels")
    attacker.reset(stream)
    await attacker.flush()
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any, Self

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CANCEL = struct.pack(">I", 8)
MAX_FRAME = 16_384

Fields = tuple[tuple[str, str], ...]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame as it goes over the wire."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + _number(stream) + payload


def field(name: str, value: str) -> bytes:
    """A header field as HPACK has it, literally and without an index."""
    return b"\0" + _text(name) + _text(value)


def _number(value: int) -> bytes:
    return struct.pack(">I", value)


def _text(text: str) -> bytes:
    data = text.encode()
    if len(data) < 127:
        return bytes((len(data),)) + data
    rest, length = len(data) - 127, b"\x7f"
    while rest >= 128:
        length += bytes((rest % 128 | 128,))
        rest //= 128
    return length + bytes((rest,)) + data


def message(data: bytes, *, is_compressed: bool = False) -> bytes:
    """A message of gRPC with what it is framed by."""
    return struct.pack(">?I", is_compressed, len(data)) + data


class Http2:
    """A connection. It answers what it must to be taken for a good one, and counts what comes."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._next = 1
        self.ended: set[int] = set()
        """Streams that the server ended or reset."""
        self.reset_by_server: set[int] = set()
        self.pings_answered = 0
        self.goaway: int | None = None
        """The code of a GOAWAY that came."""
        self.max_streams: int | None = None
        """What the server says of SETTINGS_MAX_CONCURRENT_STREAMS."""
        self.is_closed = asyncio.Event()
        self._changed = asyncio.Condition()
        self._is_deaf = False
        self._window = 65_535

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        self._reading = asyncio.create_task(self._read())
        self.write(PREFACE + frame(SETTINGS, 0, 0))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        self._writer.close()

    def write(self, data: bytes) -> None:
        """Bytes as they are."""
        if not self.is_closed.is_set():
            self._writer.write(data)

    async def flush(self) -> None:
        """Waits until the system has taken most of what was written."""
        try:
            await self._writer.drain()
        except OSError:
            self.is_closed.set()

    def headers(self, path: str, *more: tuple[str, str], ends: bool = False) -> int:
        """Begins a call; returns its stream."""
        stream, self._next = self._next, self._next + 2
        fields = (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            *more,
        )
        block = b"".join(field(*each) for each in fields)
        flags = END_HEADERS | (END_STREAM if ends else 0)
        self.write(frame(HEADERS, flags, stream, block))
        return stream

    async def hold(self, count: int, calls: set[int], path: str, *more: tuple[str, str]) -> None:
        """Keeps so many calls open that send nothing: one that came beside another call may have
        been refused, and is begun anew. `calls` is what it began."""
        while len(calls - self.ended) < count:
            calls.add(self.headers(path, *more))
        await self.flush()

    def data(self, stream: int, payload: bytes, *, ends: bool = True) -> None:
        """The call's bytes, in as many frames as they need. A server hangs up on who sends more
        than there is room for: see `until_room`."""
        self._window -= len(payload)
        pieces = [payload[i : i + MAX_FRAME] for i in range(0, len(payload), MAX_FRAME)] or [b""]
        for piece in pieces[:-1]:
            self.write(frame(DATA, 0, stream, piece))
        self.write(frame(DATA, END_STREAM if ends else 0, stream, pieces[-1]))

    def reset(self, stream: int) -> None:
        """Takes a call back."""
        self.write(frame(RST_STREAM, 0, stream, CANCEL))

    def stop_reading(self) -> None:
        """Leaves what the server sends where it is."""
        if not self._is_deaf:
            self._is_deaf = True
            transport: Any = self._writer.transport
            transport.pause_reading()

    def ping(self, times: int = 1) -> None:
        """Asks whether the server is there."""
        self.write(frame(PING, 0, 0, bytes(8)) * times)

    async def until_answered(self, pings: int) -> None:
        """Waits until so many pings were answered, or the connection has ended."""
        await self._until(lambda: self.pings_answered >= pings)

    async def until_room(self, size: int) -> None:
        """Waits until the server has room for so many bytes of the connection."""
        await self._until(lambda: self._window >= size)

    async def until_ended(self, *streams: int) -> None:
        """Waits until the server has ended these calls, or the connection."""
        await self._until(lambda: self.ended.issuperset(streams))

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.is_closed.is_set() or condition())

    async def _read(self) -> None:
        try:
            while True:
                head = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(head[:3]))
                await self._take(head[3], head[4], int.from_bytes(head[5:]) & 0x7FFFFFFF, payload)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:  # whatever ended it: nobody may wait, or attack, for ever
            self.is_closed.set()
            async with self._changed:
                self._changed.notify_all()

    async def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload), 6):
                name, value = struct.unpack_from(">HI", payload, at)
                if name == 3:
                    self.max_streams = value
            self.write(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.write(frame(PING, ACK, 0, payload))
        elif kind == PING:
            self.pings_answered += 1
        elif kind == WINDOW_UPDATE and not stream:
            self._window += int.from_bytes(payload)
        elif kind == GOAWAY:
            self.goaway = int.from_bytes(payload[4:8])
        elif kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM):
            if kind == RST_STREAM:
                self.reset_by_server.add(stream)
            self.ended.add(stream)
        if kind == DATA and payload:
            self.write(frame(WINDOW_UPDATE, 0, 0, _number(len(payload))))
        async with self._changed:
            self._changed.notify_all()

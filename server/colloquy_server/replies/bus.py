"""The event bus: how replicas tell each other what happened, so that nobody has to wait for it.

It never carries truth. What is lost, late or doubled on it changes nothing but speed: versions
and offsets show what is missing, and the database has it.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import orjson
import psycopg
import structlog

from colloquy_server.database.postgres import KEEPALIVE

log = structlog.get_logger()

Event = dict[str, Any]
Handler = Callable[[Event], None]

MAX_TEXT_BYTES = 6_000
"""Text of one event, in bytes of UTF-8: with JSON's escapes at their worst, and all else that is in
an event, it stays under the 8,000 bytes of a Postgres notification in all but odd cases, and those
are cut once more."""

_MAX_PAYLOAD = 7_900  # bytes; Postgres refuses 8,000
_BATCH_WINDOW = 0.01  # seconds in which notifications are collected
_MAX_WAITING = 10_000  # notifications kept while there is no connection
_RECONNECT = (0.05, 2.0)  # seconds between tries: at first, at most
_CHANNEL = "colloquy"


class Bus(ABC):
    """Brings events to all processes, this one left out."""

    is_up: bool = True
    """Whether events are believed to arrive."""
    disconnects: int = 0
    """How often a connection was lost, or could not be made."""

    @property
    def waiting(self) -> int:
        """Events that are not sent yet."""
        return 0

    @abstractmethod
    def publish(self, event: Event) -> None:
        """Sends an event to all other processes, at once or a little later, or never."""

    @abstractmethod
    def subscribe(self, handler: Handler) -> None:
        """Calls the handler with every event of the other processes from now on."""

    async def start(self) -> None:  # noqa: B027 - most need nothing
        """Connects."""

    async def stop(self) -> None:  # noqa: B027
        """Disconnects."""


class MemoryBus(Bus):
    """Between the servers of one process; `join` gives each its own end."""

    def __init__(self, ends: list[MemoryBus] | None = None) -> None:
        self._ends = ends if ends is not None else []
        self._ends.append(self)
        self._handlers: list[Handler] = []

    def join(self) -> MemoryBus:
        """One more end of this bus."""
        return MemoryBus(self._ends)

    def publish(self, event: Event) -> None:
        """Delivers when the loop is next free."""
        for end in self._ends:
            if end is not self:
                for handler in end._handlers:
                    asyncio.get_running_loop().call_soon(handler, event)

    def subscribe(self, handler: Handler) -> None:
        """Adds a handler."""
        self._handlers.append(handler)

    async def stop(self) -> None:
        """Leaves the bus."""
        if self in self._ends:
            self._ends.remove(self)


class PostgresBus(Bus):
    """LISTEN and NOTIFY, each on a direct connection of its own.

    Notifications never go out within a transaction that changes data: its commit would take a lock
    that all of Postgres shares. They are collected and sent together.
    """

    is_up = False

    def __init__(self, url: str) -> None:
        self.disconnects = 0
        self._url = url
        self._id = uuid4().hex[:12]
        self._handlers: list[Handler] = []
        self._waiting: list[str] = []
        self._has_waiting = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def waiting(self) -> int:
        """Those of the next batch."""
        return len(self._waiting)

    def publish(self, event: Event) -> None:
        """Sends with the next batch. An event that is too large for a notification is dropped."""
        payload = self._id + orjson.dumps(event).decode()
        if len(payload.encode()) > _MAX_PAYLOAD:
            for half in _halves(event):
                self.publish(half)
            return
        if len(self._waiting) < _MAX_WAITING:
            self._waiting.append(payload)
            self._has_waiting.set()

    def subscribe(self, handler: Handler) -> None:
        """Adds a handler."""
        self._handlers.append(handler)

    async def start(self) -> None:
        """Connects in the background, and again whenever a connection is lost."""
        self._tasks = [
            asyncio.create_task(self._forever(self._listen)),
            asyncio.create_task(self._forever(self._notify)),
        ]

    async def stop(self) -> None:
        """Disconnects; what still waits is sent if that is possible at once."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                while self._waiting and self.is_up:  # noqa: ASYNC110
                    await asyncio.sleep(_BATCH_WINDOW)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _forever(self, work: Callable[[psycopg.AsyncConnection[Any]], Any]) -> None:
        pause = _RECONNECT[0]
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(
                    self._url,
                    autocommit=True,
                    connect_timeout=5,
                    application_name="colloquy-bus",
                    **KEEPALIVE,
                )
                async with connection:
                    pause = _RECONNECT[0]
                    await work(connection)
            except (psycopg.Error, OSError) as error:
                self.disconnects += 1
                log.warning("bus is down", work=work.__name__, error=type(error).__name__)
            except Exception:
                log.exception("bus failed", work=work.__name__)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _RECONNECT[1])

    async def _listen(self, connection: psycopg.AsyncConnection[Any]) -> None:
        await connection.execute(f"LISTEN {_CHANNEL}")
        self.is_up = True
        try:
            async for notification in connection.notifies():
                sender, payload = notification.payload[:12], notification.payload[12:]
                if sender != self._id:
                    self._hand_out(payload)
        finally:
            self.is_up = False

    def _hand_out(self, payload: str) -> None:
        try:
            event = orjson.loads(payload)
            for handler in self._handlers:
                handler(event)
        except Exception:  # of a server of another version, or no server at all
            log.exception("notification not understood")

    async def _notify(self, connection: psycopg.AsyncConnection[Any]) -> None:
        while True:
            await self._has_waiting.wait()
            await asyncio.sleep(_BATCH_WINDOW)
            self._has_waiting.clear()
            batch, self._waiting = self._waiting, []
            try:
                await connection.execute(
                    "SELECT pg_notify(%s, payload) FROM unnest(%s::text[]) AS payload",
                    (_CHANNEL, batch),
                )
            except psycopg.Error:
                self._waiting = batch + self._waiting
                self._has_waiting.set()
                raise


def _halves(event: Event) -> list[Event]:
    """An event with too much text as two; none when there is no text to cut."""
    text = event.get("text", "")
    if len(text) < 2:
        return []
    middle = len(text) // 2
    return [
        {**event, "text": text[:middle]},
        {**event, "text": text[middle:], "offset": event["offset"] + middle},
    ]


def pieces(text: str) -> list[str]:
    """Text cut into pieces of MAX_TEXT_BYTES at most."""
    if len(text) * 4 <= MAX_TEXT_BYTES:
        return [text] if text else []
    size = MAX_TEXT_BYTES // 4  # a code point has four bytes of UTF-8 at most
    return [text[start : start + size] for start in range(0, len(text), size)]


def open_bus(url: str | None, database_url: str) -> Bus:
    """The bus that EVENT_BUS_URL names; by default the database itself, when it is Postgres."""
    url = url or (database_url if database_url.startswith("postgresql://") else "memory://")
    return MemoryBus() if url.startswith("memory://") else PostgresBus(url)

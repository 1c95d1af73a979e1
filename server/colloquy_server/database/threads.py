"""Threads for what waits for a database, and the connections that they keep."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

from sqlalchemy import Connection

from colloquy_server.concurrency import fail, shielded

T = TypeVar("T")


class Threads:
    """Threads that run what they are given, first come first served.

    They are no executor's, whose threads a process waits for at its end: one that hangs in a
    database that is silent would keep it from ending.
    """

    def __init__(self, count: int, name: str) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run_all, name=f"{name}-{number}", daemon=True)
            for number in range(count)
        ]
        self._has_started = False

    def start(self, work: Callable[[], None]) -> None:
        """Has something run that raises nothing."""
        if not self._has_started:
            self._has_started = True
            for thread in self._threads:
                thread.start()
        self._work.put(work)

    async def run(self, fn: Callable[[], T]) -> T:
        """What `fn` returns, or raises. It runs to its end even if the caller is cancelled, who
        then waits for it: what they do next comes after it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            tell: Callable[[], None]
            try:
                tell = partial(future.set_result, fn())
            except BaseException as error:
                tell = partial(fail, future, error)
            with suppress(RuntimeError):  # the loop has ended, and with it who waits
                loop.call_soon_threadsafe(tell)

        self.start(work)
        return await shielded(future)

    async def close(self, patience: float | None = None) -> None:
        """Ends the threads when they have run what they were given, and waits for that, no longer
        than so many seconds."""
        if not self._has_started:
            return
        for _ in self._threads:
            self._work.put(None)
        await asyncio.to_thread(self._join, patience)

    def _join(self, patience: float | None) -> None:
        until = None if patience is None else time.monotonic() + patience
        for thread in self._threads:
            thread.join(None if until is None else max(0.0, until - time.monotonic()))

    def _run_all(self) -> None:
        while (work := self._work.get()) is not None:
            work()


class KeptConnections:
    """Connections that are kept from one transaction to the next: to get one from a pool costs more
    than most transactions."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._free: deque[Connection] = deque()

    @contextmanager
    def use(self) -> Iterator[Connection]:
        """A connection that nobody else uses meanwhile. After an exception it is not used again,
        whatever is wrong with it."""
        try:
            connection = self._free.pop()
        except IndexError:
            connection = self._connect()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._free.append(connection)

    def close(self) -> None:
        """Closes those that are not in use."""
        while self._free:
            self._free.pop().close()

"""Runs transactions on the event loop: while one waits for Postgres, the loop goes on.

A transaction is a plain function. In a thread of its own it would wait for Python's lock after each
statement, which costs more than the statement. Here it is a greenlet: where the driver waits for
its socket the greenlet steps aside, and the loop comes back to it when the socket is ready.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
from greenlet import getcurrent, greenlet

from colloquy_server.concurrency import fail, shielded
from colloquy_server.database.pipelines import PipelinedConnection
from colloquy_server.database.threads import Threads
from colloquy_server.database.transactions import DatabaseUnavailable

T = TypeVar("T")


class Sockets:
    """Who waits for which socket, on one event loop.

    The loop watches only the selector. It would tell a socket's reader of data, but uvloop would
    not tell it that the other end broke the connection.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._loop: asyncio.AbstractEventLoop | None = None

    def wait(self, socket: int, events: int, worker: Worker) -> int:
        """Has the worker step aside until the socket is ready; which events came. They have the
        values of `selectors`, which are also those of psycopg's `Wait` and `Ready`."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._selector.fileno(), self._switch)
        key = self._selector.get_map().get(socket)
        if key is None:
            # The selector goes on to watch it from one wait to the next.
            key = self._selector.register(socket, events, _Waiting())
        elif key.events != events:
            key = self._selector.modify(socket, events, key.data)
        key.data.worker = worker
        try:
            came: int = worker.step_aside()
        finally:
            key.data.worker = None
        return came

    def forget(self, socket: int) -> None:
        """The socket is closed, or about to be: its number may soon be another's."""
        with suppress(KeyError):
            self._selector.unregister(socket)

    def close(self) -> None:
        """Nobody waits any more."""
        if self._loop is not None:
            self._loop.remove_reader(self._selector.fileno())
        self._selector.close()

    def _switch(self) -> None:
        for key, events in self._selector.select(0):
            worker = key.data.worker
            if worker is None:  # Postgres says something unasked: that it goes, say
                self.forget(key.fd)
            else:
                worker.switch(events)


class _Waiting:
    """Who waits for a socket at the moment."""

    worker: Worker | None = None


class Lane:
    """Transactions that run at most `width` at a time; more wait in line."""

    def __init__(self, width: int, sockets: Sockets) -> None:
        self._sockets = sockets
        self._width = width
        self._line: deque[Callable[[], None]] = deque()
        self._workers: set[Worker] = set()
        self._results: set[asyncio.Future[Any]] = set()

    async def run(self, fn: Callable[[], T]) -> T:
        """What `fn` returns, or raises. It runs to its end even if the caller is cancelled, who
        then waits for it: what they do next comes after it."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def work() -> None:
            try:
                result = fn()
            except BaseException as error:
                fail(future, error)
            else:
                future.set_result(result)
            self._results.discard(future)

        self._results.add(future)
        self._line.append(work)
        if len(self._workers) < self._width:
            worker = Worker(self._run_line, self._sockets)
            self._workers.add(worker)
            worker.switch(worker)
        return await shielded(future)

    def _run_line(self, worker: Worker) -> None:
        while self._line:
            self._line.popleft()()
        self._workers.discard(worker)

    async def close(self, patience: float) -> None:
        """Lets what runs and waits come to its end, for so many seconds. What then still waits for
        Postgres hears that it is away."""
        if self._results:
            await asyncio.wait(self._results, timeout=patience)
        for worker in list(self._workers):
            worker.end()


class Ended(Exception):
    """The process ends, and waits for Postgres no longer."""


class Worker(greenlet):
    """Runs transactions, one after the other, and steps aside while they wait."""

    def __init__(self, run: Callable[[Worker], None], sockets: Sockets) -> None:
        super().__init__(run)
        self.sockets = sockets
        self.has_ended = False

    def step_aside(self) -> Any:
        """Lets the loop go on until somebody switches here; what they say. Raises Ended."""
        if self.has_ended:
            raise Ended
        assert self.parent is not None
        return self.parent.switch()

    def end(self) -> None:
        """Has it wait for nothing any more."""
        self.has_ended = True
        self.throw(Ended)


class Connection(PipelinedConnection):
    """A connection whose waits in a lane let the loop go on; elsewhere it is like any other."""

    _sockets: Sockets | None = None
    _socket = -1

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Runs a generator of psycopg's to its end."""
        worker = getcurrent()
        if not isinstance(worker, Worker):
            return super().wait(gen, interval, timeout)
        try:
            events = next(gen)
            while True:
                self._sockets, self._socket = worker.sockets, self.pgconn.socket
                events = gen.send(self._sockets.wait(self._socket, events, worker))
        except StopIteration as end:
            return end.value
        except Ended as error:
            self.close()
            raise psycopg.OperationalError("the process ends") from error
        except BaseException:
            self._forget_socket()  # which libpq may have closed
            raise

    def close(self) -> None:
        """Closes it."""
        self._forget_socket()
        super().close()

    def _forget_socket(self) -> None:
        if self._sockets is not None:
            self._sockets.forget(self._socket)
            self._sockets = None


def run_elsewhere(threads: Threads, fn: Callable[[], T]) -> T:
    """What `fn`, which blocks, returns or raises in a thread, while a transaction of a lane steps
    aside; not in a lane it is simply called. Raises DatabaseUnavailable when the process ends."""
    worker = getcurrent()
    if not isinstance(worker, Worker):
        return fn()
    if worker.has_ended:
        raise DatabaseUnavailable
    result = asyncio.ensure_future(threads.run(fn))
    result.add_done_callback(lambda _: worker.switch())
    try:
        worker.step_aside()
    except Ended as error:
        raise DatabaseUnavailable from error
    return result.result()

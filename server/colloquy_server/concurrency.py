"""Small tools for tasks that wait for each other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Hashable
from typing import Any, TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")


async def shielded(work: Coroutine[Any, Any, T] | asyncio.Future[T]) -> T:
    """Awaits work that runs to its end even if the caller is cancelled, who then waits for it."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                continue
        if not task.cancelled():
            task.exception()  # the caller has gone: nobody is left to hear of it
        raise


def fail(future: asyncio.Future[Any], error: BaseException) -> None:
    """Has those who wait for a future hear of an error: of a StopIteration, which no future takes,
    as a RuntimeError."""
    if isinstance(error, StopIteration):
        refused, error = error, RuntimeError("StopIteration")
        error.__cause__ = refused
    future.set_exception(error)


async def wait_up_to(seconds: float, event: asyncio.Event) -> None:
    """Waits for the event, but no longer than so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


class KeyedLocks:
    """Locks by key: who holds one lets others of the same key wait, first come first served.
    `holders` may hold one at the same time."""

    def __init__(self, holders: int = 1) -> None:
        self._holders = holders
        self._locks: WeakValueDictionary[Hashable, asyncio.Semaphore] = WeakValueDictionary()

    def of(self, key: Hashable) -> asyncio.Semaphore:
        """The lock of a key, which is there as long as somebody holds it or waits for it."""
        return self._locks.setdefault(key, asyncio.Semaphore(self._holders))


class FairSemaphore:
    """Slots for work. Each account has `each` at a time, and accounts take turns: nobody waits for
    more than so many pieces of anybody else's work."""

    def __init__(self, slots: int, each: int = 1) -> None:
        self._accounts = KeyedLocks(each)
        self._slots = asyncio.Semaphore(slots)

    @contextlib.asynccontextmanager
    async def slot(self, account_id: str) -> AsyncIterator[None]:
        """A slot, when it is this account's turn."""
        # Only the first of each account wait for a slot, so that queue is one of accounts.
        async with self._accounts.of(account_id), self._slots:
            yield

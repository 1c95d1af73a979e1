"""Small helps for tasks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Hashable
from typing import Any, TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")


async def unbroken(work: Coroutine[Any, Any, T]) -> T:
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


class Lines:
    """Locks by name: who holds one lets others of the same name wait, first come first served.
    `size` may hold one at the same time."""

    def __init__(self, size: int = 1) -> None:
        self._size = size
        self._locks: WeakValueDictionary[Hashable, asyncio.Semaphore] = WeakValueDictionary()

    def of(self, name: Hashable) -> asyncio.Semaphore:
        """The lock of a name, which is there as long as somebody holds it or waits for it."""
        return self._locks.setdefault(name, asyncio.Semaphore(self._size))


class Turns:
    """Places for work. Each account has `each` at a time, and accounts take turns: nobody waits for
    more than so many pieces of anybody else's work."""

    def __init__(self, places: int, each: int = 1) -> None:
        self._lines = Lines(each)
        self._places = asyncio.Semaphore(places)

    @contextlib.asynccontextmanager
    async def place(self, account_id: str) -> AsyncIterator[None]:
        """A place, when it is this account's turn."""
        # Only the first of each account's line wait for a place, so that line is one of accounts.
        async with self._lines.of(account_id), self._places:
            yield

"""Looks keys and sessions up, so that those that do not exist cost next to nothing."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Generic, TypeVar

from colloquy_server.concurrency import fail
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database, Session
from colloquy_server.errors import Unauthenticated

T = TypeVar("T")

_BAD_FOR = 3.0
"""Seconds for which a key that is not good is not looked up again. A key can be tried before it is
there: where the database is restored, or another replica has just made it."""

_BAD = 4_096
"""Keys that are remembered as not good: the newest."""

_BATCH_DELAY = 0.25
"""Seconds for which lookups that wait are collected."""

_WAITING = 500
"""Lookups that may wait: with the delay, 2,000 a second."""


class LookupsFull(Exception):
    """Too many lookups wait."""


class KeyLookups(Generic[T]):
    """Keys, or sessions, by the hashes of their secrets.

    A lookup that is made `at_once` costs a read. Those that wait share one: a flood of keys that
    nobody knows costs a few reads a second, and the good key among them still gets its answer.
    """

    def __init__(
        self,
        db: Database,
        good: Callable[[Session, Collection[str]], tuple[dict[str, T], int]],
        refusal: str,
    ) -> None:
        """`good` reads those that are good, by their hashes, with the database's time; for all
        others, `refusal` says what they are."""
        self._db = db
        self._good = good
        self._refusal = refusal
        self._bad: OrderedDict[str, float] = OrderedDict()
        self._waiting: dict[str, asyncio.Future[tuple[T, int] | None]] = {}
        self._batches: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        """Looks up nothing more."""
        if self._batches is not None:
            self._batches.cancel()
            await asyncio.gather(self._batches, return_exceptions=True)

    def check(self, digest: str) -> None:
        """Raises Unauthenticated for a key that was looked up a moment ago and is not good."""
        until = self._bad.get(digest)
        if until is not None and until >= time.monotonic():
            raise Unauthenticated(self._refusal)

    def add(self, digest: str) -> None:
        """A key was made here, which is good from now on."""
        self._bad.pop(digest, None)

    async def find(self, digest: str, *, at_once: bool) -> tuple[T, int]:
        """The good key with this hash, with the database's time.

        Raises Unauthenticated for one that is unknown, revoked or expired, DatabaseUnavailable, and
        LookupsFull when it would have to wait and cannot.
        """
        self.check(digest)
        found = (await self._read([digest]))[digest] if at_once else await self._wait(digest)
        if found is None:
            raise Unauthenticated(self._refusal)
        return found

    async def _wait(self, digest: str) -> tuple[T, int] | None:
        if len(self._waiting) >= _WAITING:
            raise LookupsFull
        future: asyncio.Future[tuple[T, int] | None] = asyncio.get_running_loop().create_future()
        self._waiting[digest] = future
        if self._batches is None:
            self._batches = asyncio.create_task(self._look_up_batches())
        try:
            return await future
        finally:
            if self._waiting.get(digest) is future:  # the caller has gone away
                del self._waiting[digest]

    async def _look_up_batches(self) -> None:
        while self._waiting:
            await asyncio.sleep(_BATCH_DELAY)
            batch, self._waiting = self._waiting, {}
            try:
                found = await self._read(batch)
            except Exception as error:
                for future in batch.values():
                    if not future.done():
                        fail(future, error)
                continue
            for digest, future in batch.items():
                if not future.done():
                    future.set_result(found[digest])
        self._batches = None

    async def _read(self, digests: Collection[str]) -> dict[str, tuple[T, int] | None]:
        """Reads keys; those that are not good are None, and remembered as such."""
        keys, now = await self._db.read(EVERY_ACCOUNT, self._good, digests)
        found: dict[str, tuple[T, int] | None] = {}
        for digest in digests:
            found[digest] = (keys[digest], now) if digest in keys else None
            if found[digest] is None:
                self._remember_bad(digest)
        return found

    def _remember_bad(self, digest: str) -> None:
        self._bad[digest] = time.monotonic() + _BAD_FOR
        self._bad.move_to_end(digest)
        if len(self._bad) > _BAD:
            self._bad.popitem(last=False)

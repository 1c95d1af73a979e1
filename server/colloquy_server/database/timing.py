"""How long transactions wait to begin: for a connection to Postgres, or for SQLite's threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from colloquy_server.database.transactions import Database, Scope, Session

P = ParamSpec("P")
T = TypeVar("T")

OnWait = Callable[[str, float], None]
"""Takes what waited, as the method of a Database is called, and for how many seconds. It is called
in any thread, once a transaction."""


class TimedDatabase(Database):
    """Another database, of which it is told how long its transactions wait. It stands around it, so
    that where nobody wants to know nothing is measured."""

    def __init__(self, database: Database, on_wait: OnWait) -> None:
        self._database = database
        self._on_wait = on_wait

    async def read(
        self,
        scope: Scope,
        fn: Callable[Concatenate[Session, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """As the other does."""
        return await self._database.read(scope, self._timed("read", fn), *args, **kwargs)

    async def write(
        self,
        scope: Scope,
        fn: Callable[Concatenate[Session, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """As the other does."""
        return await self._database.write(scope, self._timed("write", fn), *args, **kwargs)

    async def write_first(
        self,
        scope: Scope,
        fn: Callable[Concatenate[Session, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """As the other does."""
        return await self._database.write_first(
            scope, self._timed("write_first", fn), *args, **kwargs
        )

    def _timed(
        self, what: str, fn: Callable[Concatenate[Session, P], T]
    ) -> Callable[Concatenate[Session, P], T]:
        asked = time.monotonic()
        has_begun = False

        def run(s: Session, /, *args: P.args, **kwargs: P.kwargs) -> T:
            nonlocal has_begun
            if not has_begun:  # a deadlock has it begin again
                has_begun = True
                self._on_wait(what, time.monotonic() - asked)
            return fn(s, *args, **kwargs)

        return run

    async def erase_deleted(self) -> bool:
        """As the other does."""
        return await self._database.erase_deleted()

    async def close(self) -> None:
        """As the other does."""
        await self._database.close()

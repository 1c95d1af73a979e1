"""When keys and sessions were last used, as the database is told now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from colloquy_server.database.transactions import EVERY_ACCOUNT, Database, Session

_STORE_INTERVAL = 180.0
"""Seconds between two times that a key's use is stored, by one process."""


class KeyUses:
    """Uses of keys, or of sessions, that are not stored yet."""

    def __init__(
        self, db: Database, store_uses: Callable[[Session, Mapping[str, float]], None]
    ) -> None:
        """`store_uses` stores uses by ids, in monotonic seconds of this process."""
        self._db = db
        self._store_uses = store_uses
        self._used: dict[str, float] = {}
        self._stored: dict[str, float] = {}
        """By key, when: in monotonic seconds."""

    def note(self, key_id: str) -> None:
        """A key is used now."""
        self._used[key_id] = time.monotonic()

    async def store(self, *, is_last: bool = False) -> None:
        """Stores the uses that are due, or all, in one transaction. Raises DatabaseUnavailable."""
        now = time.monotonic()
        self._stored = {k: at for k, at in self._stored.items() if at + _STORE_INTERVAL > now}
        due = {k: used for k, used in self._used.items() if is_last or k not in self._stored}
        if not due:
            return
        await self._db.write(EVERY_ACCOUNT, self._store_uses, due)
        for key_id, used in due.items():
            self._stored[key_id] = now
            if self._used[key_id] == used:
                del self._used[key_id]

"""What those read who watch all conversations of an account: which of them changed.

An `AccountFeed` gathers for a moment what is said to have changed, and reads it once for all who
watch the account, with all from which it is made out what each of them is to be told. It keeps the
latest change of each conversation, not every one. Nobody has to say anything: it looks by itself
every second, and all that it misses is in the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import structlog

from colloquy_server.concurrency import wait_up_to
from colloquy_server.database.repository import index
from colloquy_server.database.repository.index import Item, Place, Removal, Touched
from colloquy_server.database.transactions import Database, DatabaseUnavailable
from colloquy_server.errors import ColloquyError

log = structlog.get_logger()

_INTERVAL = 1.0
"""Seconds after which it is looked for what nobody spoke of."""

_PAUSE = 0.25
_PAUSE_PER_EVENT = 0.00005
_MAX_PAUSE = 5.0
"""Seconds between two reads: a moment, and longer when many are told much, so that telling them
leaves a process time for all else."""

_FAILURE_PAUSE = 1.0

_KEPT = 2_000
"""Conversations of which a feed keeps the latest change; a watcher further behind reads the
database."""


@dataclass(slots=True)
class Entry:
    """The latest change of a conversation, at a place in the feed; and the places at which it last
    changed for all, or for one user alone, and at which it was removed, by whom that is told."""

    item: Item
    at: int
    changed_at: int = -1
    changed_for: dict[str, int] = field(default_factory=dict)
    removed_at: dict[tuple[str, bool], int] = field(default_factory=dict)

    def concerns(self, user_id: str, after: int) -> bool:
        """Whether there is something for a user who knows all up to a place."""
        return max(self.changed_at, self.changed_for.get(user_id, -1)) > after

    def is_removed_for(self, user_id: str, after: int) -> bool:
        """Whether a user who knows all up to a place, and does not see it now, did so before."""
        return any(
            at > after and (was_open or whose == user_id)
            for (whose, was_open), at in self.removed_at.items()
        )


class AccountFeed:
    """The changes of one account, from `floor` (not included) to `position`."""

    def __init__(self, db: Database, account_id: str) -> None:
        self.account_id = account_id
        self.position = self.floor = 0
        self.broken: ColloquyError | None = None
        self.watchers = 0
        self._db = db
        self._place: Place | None = None
        self._known: frozenset[Touched | Removal] = frozenset()
        self._entries: dict[str, Entry] = {}
        self._is_hinted = asyncio.Event()
        self._changed = asyncio.Event()
        self._opening = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._serialised: dict[tuple[object, ...], bytes] = {}

    @property
    def place(self) -> Place:
        """Where in the database's changes `position` is."""
        assert self._place is not None
        return self._place

    async def begin(self) -> None:
        """Begins to follow the account; what a caller reads after that, changes of it come here."""
        async with self._opening:
            if self._place is None:
                if await self._db.read(self.account_id, index.is_foreign, self.account_id):
                    await self._db.write(self.account_id, index.adopt, self.account_id)
                self._place = await self._db.read(self.account_id, index.place, self.account_id)
            if self._task is None:
                self._task = asyncio.create_task(self._follow())

    def end(self) -> None:
        """Follows it no more."""
        if self._task is not None:
            self._task.cancel()

    def hint(self) -> None:
        """Something may have changed."""
        self._is_hinted.set()

    def wake(self) -> None:
        """Lets all watchers look again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def changed(self, seconds: float) -> None:
        """Waits until there may be something new, up to so many seconds."""
        await wait_up_to(seconds, self._changed)

    def after(self, position: int) -> list[Entry]:
        """What changed behind a place that is not below `floor`, the oldest first."""
        return list(self._newest_first(position))[::-1]

    def _newest_first(self, position: int) -> Iterator[Entry]:
        for entry in reversed(self._entries.values()):
            if entry.at <= position:
                return
            yield entry

    def serialise(self, key: tuple[object, ...], make: Callable[[], bytes]) -> bytes:
        """The event that `make` makes, made once for all watchers that share the key."""
        event = self._serialised.get(key)
        if event is None:
            event = self._serialised[key] = make()
        return event

    # --- reading ------------------------------------------------------------------------------

    async def _follow(self) -> None:
        while True:
            await wait_up_to(_INTERVAL, self._is_hinted)
            self._is_hinted.clear()
            try:
                count = await self._read()
            except DatabaseUnavailable:
                log.warning("database is away", work="watch account")
                await asyncio.sleep(_FAILURE_PAUSE)
            except Exception:
                log.exception("account feed failed")
                await asyncio.sleep(_FAILURE_PAUSE)
            else:
                pause = _PAUSE_PER_EVENT * count * self.watchers
                await asyncio.sleep(min(max(pause, _PAUSE), _MAX_PAUSE))

    async def _read(self) -> int:
        """Reads what changed; returns how many conversations did."""
        news = await self._db.read(
            self.account_id, index.news, self.account_id, self.place, self._known
        )
        self._place, self._known = news.place, news.known
        if news.items is None:  # everybody reads the database
            self._entries.clear()
            self.position += 1
            self.floor = self.position
        elif not news.items:
            return 0
        else:
            self.position += 1
            for item in news.items:
                self._take(item)
            while len(self._entries) > _KEPT:
                oldest = next(iter(self._entries))
                self.floor = self._entries.pop(oldest).at
        self._serialised.clear()
        self.wake()
        return len(news.items or ())

    def _take(self, item: Item) -> None:
        before = self._entries.pop(item.conversation_id, None)
        entry = before or Entry(item, 0)
        entry.item, entry.at = item, self.position
        for removal in item.removals:
            entry.removed_at[removal.user_id, removal.was_open] = self.position
        if item.is_changed:
            entry.changed_at = self.position
        for user_id in item.users:
            entry.changed_for[user_id] = self.position
        self._entries[item.conversation_id] = entry


class AccountFeeds:
    """The feeds of the accounts that are watched here."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._feeds: dict[str, AccountFeed] = {}
        self._stream_end: ColloquyError | None = None

    def hint(self, account_id: str) -> None:
        """Something may have changed in an account."""
        feed = self._feeds.get(account_id)
        if feed is not None:
            feed.hint()

    async def open(self, account_id: str) -> AccountFeed:
        """The feed of an account, to be given back with `close`."""
        feed = self._feeds.get(account_id)
        if feed is None:
            feed = self._feeds[account_id] = AccountFeed(self._db, account_id)
            feed.broken = self._stream_end
        feed.watchers += 1
        try:
            await feed.begin()
        except BaseException:
            self.close(feed)
            raise
        return feed

    def close(self, feed: AccountFeed) -> None:
        """Gives a feed back."""
        feed.watchers -= 1
        if feed.watchers == 0 and self._feeds.get(feed.account_id) is feed:
            del self._feeds[feed.account_id]
            feed.end()

    @property
    def watchers(self) -> int:
        """Who follows an account here."""
        return sum(feed.watchers for feed in list(self._feeds.values()))

    def end_streams(self, error: ColloquyError) -> None:
        """Ends every stream, now and from now on, with this error."""
        self._stream_end = error
        for feed in self._feeds.values():
            feed.broken = error
            feed.wake()

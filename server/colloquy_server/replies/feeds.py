"""What watchers read: the changes of a conversation, and the live text of its reply.

A `Feed` holds the latest changes of one conversation that somebody watches, and of every event that
is made of them one copy, serialised for all watchers that stand at the same position. What it does
not hold is read once for all of them, too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from colloquy_server.database.repository import feed as feed_reads
from colloquy_server.database.repository.changes import Change
from colloquy_server.database.rows import MessageRow
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database
from colloquy_server.errors import ColloquyError
from colloquy_server.replies.account_feeds import AccountFeeds
from colloquy_server.replies.bus import Bus, Event
from colloquy_server.replies.live_reply import LiveText
from colloquy_server.replies.mirrors import Mirrors

_RECENT = 64
"""Changes that a feed keeps; a watcher further behind reads the database."""

_UNKNOWN = -1
"""The version of a feed that was not read yet."""

_SHARED_BYTES = 1 << 20
"""Serialised events that a feed keeps for the next watcher, until something changes."""

_PAGE = 8
"""Changed messages that a watcher reads from the database at a time: few, as each may have 1 MiB,
and a watcher that does not take them holds them."""


@dataclass(slots=True)
class _Read:
    """A read of the database that watchers share. When it has ended it has a page or an error, or
    neither if the watcher that read went away."""

    ended: asyncio.Event = field(default_factory=asyncio.Event)
    page: feed_reads.Page | None = None
    error: Exception | None = None


class Feed:
    """The changes of one conversation, from `floor` (not included) to `version`."""

    def __init__(self, feeds: Feeds, account_id: str, conversation_id: str) -> None:
        self.account_id = account_id
        self.conversation_id = conversation_id
        self.version = self.floor = _UNKNOWN
        self.deleted = False
        self.broken: ColloquyError | None = None
        self.watchers = 0
        self._feeds = feeds
        self._recent: deque[Change] = deque()
        self._reads: dict[tuple[int, str], _Read] = {}
        self._last_read: tuple[tuple[int, str], feed_reads.Page] | None = None
        self._waiting: list[tuple[asyncio.Future[bool], float]] = []
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0
        self._serialised: dict[tuple[object, ...], bytes] = {}
        self._serialised_bytes = 0

    @property
    def live(self) -> LiveText | None:
        """The reply being generated, if this process knows its text."""
        return self._feeds.live.get(self.conversation_id)

    def apply(self, change: Change) -> None:
        """Takes in what a transaction changed. Changes may come late, twice or not at all."""
        if change.deleted:
            self.deleted = True
        elif change.erases:  # what is held here may still have what is gone
            self.notice(change.version)
        elif change.version == self.version + 1 and not change.is_hint:
            self.version += 1
            self._recent.append(change)
            if len(self._recent) > _RECENT:
                self._recent.popleft()
                self.floor += 1
        else:
            self.notice(change.version)
        self.wake()

    def expect(self, row: MessageRow) -> None:
        """Sees to it that the text of a live reply is known here, whoever owns it."""
        self._feeds.mirrors.expect(row)

    def settle(self, row: MessageRow) -> None:
        """A reply has ended."""
        self._feeds.mirrors.settle(row)

    def gone(self) -> None:
        """The conversation was deleted."""
        self.deleted = True
        self.wake()

    def notice(self, version: int) -> None:
        """Learns that there are changes up to `version`, which the database has."""
        if version > self.version:
            self._recent.clear()
            self._last_read = None
            self.floor = self.version = version
            self.wake()

    async def changes(self, since: int, followed: str) -> feed_reads.Page:
        """What the database has of changes after a version, for a watcher that follows a reply.

        It is read once for all that stand there: who comes while it is read waits for the same
        page or error, who comes later gets the page as long as there is nothing newer.
        Raises NotFound.
        """
        wanted = (since, followed)
        while (read := self._reads.get(wanted)) is not None:
            await read.ended.wait()
            if read.error is not None:
                raise read.error
            if read.page is not None:
                return read.page
        if self._last_read is not None:
            asked, page = self._last_read
            if asked == wanted and page.version >= self.version:
                return page
        read = self._reads[wanted] = _Read()
        try:
            read.page = await self._feeds.db.read(
                self.account_id, feed_reads.changes, self.conversation_id, since, _PAGE, followed
            )
        except Exception as error:
            read.error = error
            raise
        finally:
            del self._reads[wanted]
            read.ended.set()
        if read.page.version >= self.version:  # an older one may have what is deleted
            self._last_read = (wanted, read.page)
        return read.page

    def after(self, version: int) -> Change:
        """The change that follows `version`, which is not below `floor`."""
        return self._recent[version - self.floor]

    def wake(self) -> None:
        """Lets all watchers look again."""
        self._serialised.clear()
        self._serialised_bytes = 0
        waiting, self._waiting = self._waiting, []
        for future, _ in waiting:
            if not future.done():
                future.set_result(True)

    async def changed(self, seconds: float) -> bool:
        """Waits until there may be something new; False when so many seconds went by first."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        until = loop.time() + seconds
        self._waiting.append((future, until))
        # One timer that is seldom set anew: one a wait would be one a message.
        if self._timer is None or until < self._timer_at:
            self._set_timer(until)
        return await future

    def _set_timer(self, at: float) -> None:
        self.stop()
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_at(at, self._end_waits)

    def _end_waits(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        waiting, self._waiting = self._waiting, []
        for future, until in waiting:
            if future.done():
                continue
            if until <= now:
                future.set_result(False)
            else:
                self._waiting.append((future, until))
        if self._waiting:
            self._set_timer(min(until for _, until in self._waiting))

    def stop(self) -> None:
        """Forgets the timer; the next wait sets it again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def serialise(self, key: tuple[object, ...], make: Callable[[], bytes]) -> bytes:
        """The event that `make` makes, made once for all watchers that share the key."""
        event = self._serialised.get(key)
        if event is None:
            event = make()
            self._serialised_bytes += len(event)
            if self._serialised_bytes > _SHARED_BYTES:  # nothing changes, and many begin to watch
                self._serialised.clear()
                self._serialised_bytes = len(event)
            self._serialised[key] = event
        return event


class Feeds:
    """The feeds of the conversations that are watched here, and the live texts that are known."""

    def __init__(self, db: Database, bus: Bus) -> None:
        self.db = db
        self.live: dict[str, LiveText] = {}
        self.has_changed = asyncio.Event()
        """Set when this process changed a conversation; `search_indexing` clears it."""
        self.accounts = AccountFeeds(db)
        self._bus = bus
        self._feeds: dict[str, Feed] = {}
        self._stream_end: ColloquyError | None = None
        self.mirrors = Mirrors(self.live, self._feeds, bus, self.wake)
        bus.subscribe(self._on_event)

    def apply(self, change: Change) -> None:
        """Passes on what a transaction of this process changed, to other processes too."""
        feed = self._feeds.get(change.conversation_id)
        if feed is not None:
            feed.apply(change)
        about = {"conversation": change.conversation_id, "account": change.account}
        self.accounts.hint(change.account)
        if change.deleted:
            self._bus.publish({"kind": "deleted", **about})
            return
        self.has_changed.set()
        if change.messages or change.conversation:
            event = {"kind": "changed", **about, "version": change.version}
            self._bus.publish({**event, "erases": True} if change.erases else event)

    def announce(self, account_id: str) -> None:
        """Passes on that something changed in an account which is no change of a conversation."""
        self.accounts.hint(account_id)
        self._bus.publish({"kind": "account", "account": account_id})

    def _on_event(self, event: Event) -> None:
        self.accounts.hint(event.get("account", ""))
        feed = self._feeds.get(event.get("conversation", ""))
        if feed is None:
            return
        if event["kind"] == "changed":
            feed.notice(event["version"])
        elif event["kind"] == "deleted":
            feed.gone()
        elif event["kind"] == "text":
            self.mirrors.receive(event)

    async def poll(self) -> None:
        """Looks in the database for what the bus may have lost, of all that is watched here."""
        watched = dict(self._feeds)
        if not watched:
            return
        versions = await self.db.read(EVERY_ACCOUNT, feed_reads.versions, list(watched))
        for conversation_id, feed in watched.items():
            if conversation_id in versions:
                feed.notice(versions[conversation_id])
            else:
                feed.gone()
        elsewhere = [
            conversation_id
            for conversation_id, feed in watched.items()
            if feed.live is None or feed.live.is_mirror
        ]
        if not elsewhere:
            return
        for row in await self.db.read(
            EVERY_ACCOUNT, feed_reads.generating, elsewhere, self._mirrored()
        ):
            if row.conversation_id in self._feeds:
                self.mirrors.expect(row)
        self.mirrors.ask_all()

    def _mirrored(self) -> dict[str, tuple[int, int]]:
        """How far each mirror is: attempt and length, by message."""
        return {
            live.message_id: (live.attempt, len(live.text))
            for live in self.live.values()
            if live.is_mirror
        }

    def wake(self, conversation_id: str) -> None:
        """Says that the live text of a conversation has grown."""
        feed = self._feeds.get(conversation_id)
        if feed is not None:
            feed.wake()

    def known_text(self, row: MessageRow) -> tuple[str, int]:
        """The text of a live reply that watchers of this process may have seen, and its attempt."""
        live = self.live.get(row.conversation_id)
        if live is None or live.message_id != row.id:
            return "", 0
        return live.text, live.attempt

    async def open(self, account_id: str, conversation_id: str) -> Feed:
        """The feed of a conversation, to be given back with `close`. Raises NotFound.

        The caller has found the conversation in its own account: a stranger's feed would take the
        owner's place.
        """
        feed = self._open(account_id, conversation_id)
        if feed.version == _UNKNOWN:
            try:
                # It is registered first and read then, so that no change falls in between.
                version = await self.db.read(account_id, feed_reads.version, conversation_id)
            except BaseException:
                self.close(feed)
                raise
            feed.notice(version)
        return feed

    def open_at(self, account_id: str, change: Change) -> Feed:
        """The same, right after a transaction of this process that made `change`."""
        feed = self._open(account_id, change.conversation_id)
        self.apply(change)
        return feed

    def _open(self, account_id: str, conversation_id: str) -> Feed:
        feed = self._feeds.get(conversation_id)
        if feed is None:
            feed = self._feeds[conversation_id] = Feed(self, account_id, conversation_id)
            feed.broken = self._stream_end
        feed.watchers += 1
        return feed

    def close(self, feed: Feed) -> None:
        """Gives a feed back."""
        feed.watchers -= 1
        if feed.watchers == 0:
            feed.stop()
        if feed.watchers == 0 and self._feeds.get(feed.conversation_id) is feed:
            del self._feeds[feed.conversation_id]
            self.mirrors.drop(feed.conversation_id)

    @property
    def watchers(self) -> int:
        """Who follows a conversation here."""
        return sum(feed.watchers for feed in list(self._feeds.values()))

    def end_streams(self, error: ColloquyError) -> None:
        """Ends every stream, now and from now on, with this error."""
        self.accounts.end_streams(error)
        self._stream_end = error
        for feed in self._feeds.values():
            feed.broken = error
            feed.wake()

"""What watchers read: the changes of a conversation, and the live text of the reply being written.

A `Feed` holds the latest changes of one conversation that somebody watches. A `Watcher` holds a
position in it, never a queue: it makes its events from the feed when its stream has room for them,
so one that falls behind gets one larger delta, and one that fell far behind reads the database.

Of every event only one copy is serialised for all watchers that stand at the same position.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from conversation.v1 import conversation_service_pb2 as api

from server import convert
from server.bus import Bus, Event
from server.database import EVERY_ACCOUNT, Database
from server.errors import ColloquyError, NotFound
from server.mirrors import LiveText, Mirrors
from server.models import Conversation, Message, State
from server.repository import feed as feed_reads
from server.repository.changes import Change
from server.tokens import Position, encode_position

_RECENT = 64
"""Changes that a feed keeps; a watcher further behind reads the database."""

_UNKNOWN = -1
"""The version of a feed that was not read yet."""

_ENDED = 0xFFFF_FFFF
"""The offset behind the text of a reply that has ended: nothing follows, also not from an owner
that does not know it yet."""

_SHARED_BYTES = 1 << 20
"""Serialised events that a feed keeps for the next watcher, until something changes."""

_PAGE = 8
"""Changed messages that a watcher reads from the database at a time: few, as each may have 1 MiB,
and a watcher that does not take them holds them."""


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
        self._waiting: list[tuple[asyncio.Future[bool], float]] = []
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0
        self._serialised: dict[tuple[object, ...], bytes] = {}
        self._serialised_bytes = 0

    @property
    def live(self) -> LiveText | None:
        """The reply being written, if this process knows its text."""
        return self._feeds.live.get(self.conversation_id)

    def apply(self, change: Change) -> None:
        """Takes in what a transaction changed. Changes may come late, twice or not at all."""
        if change.deleted:
            self.deleted = True
        elif change.version == self.version + 1:
            self.version += 1
            self._recent.append(change)
            if len(self._recent) > _RECENT:
                self._recent.popleft()
                self.floor += 1
        else:
            self.notice(change.version)
        self.wake()

    def expect(self, row: Message) -> None:
        """Sees to it that the text of a live reply is known here, whoever writes it."""
        self._feeds.mirrors.expect(row)

    def settle(self, row: Message) -> None:
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
            self.floor = self.version = version
            self.wake()

    async def changes(self, since: int) -> feed_reads.Page:
        """What the database has of changes after a version. Raises NotFound."""
        return await self._feeds.read(self, since)

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

    async def changed(self, patience: float) -> bool:
        """Waits until there may be something new; False when `patience` seconds went by first."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        until = loop.time() + patience
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
    """The feeds of the conversations that are watched here, and the texts that are written here."""

    def __init__(self, db: Database, bus: Bus) -> None:
        self.live: dict[str, LiveText] = {}
        self._db = db
        self._bus = bus
        self._feeds: dict[str, Feed] = {}
        self._closing: ColloquyError | None = None
        self.mirrors = Mirrors(self.live, self._feeds, bus, self.wake)
        bus.subscribe(self._on_event)

    def apply(self, change: Change) -> None:
        """Passes on what a transaction of this process changed, to other processes too."""
        feed = self._feeds.get(change.conversation_id)
        if feed is not None:
            feed.apply(change)
        conversation_id = change.conversation_id
        if change.deleted:
            self._bus.publish({"kind": "deleted", "conversation": conversation_id})
        elif change.messages or change.conversation:
            self._bus.publish(
                {"kind": "changed", "conversation": conversation_id, "version": change.version}
            )

    def _on_event(self, event: Event) -> None:
        feed = self._feeds.get(event.get("conversation", ""))
        if feed is None:
            return
        if event["kind"] == "changed":
            feed.notice(event["version"])
        elif event["kind"] == "deleted":
            feed.gone()
        elif event["kind"] == "text":
            self.mirrors.take(event)

    async def poll(self) -> None:
        """Looks in the database for what the bus may have lost, of all that is watched here."""
        watched = dict(self._feeds)
        if not watched:
            return
        versions = await self._db.read(EVERY_ACCOUNT, feed_reads.versions, list(watched))
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
        for row in await self._db.read(
            EVERY_ACCOUNT, feed_reads.generating, elsewhere, self._mirrored()
        ):
            if row.conversation_id in self._feeds:
                self.mirrors.expect(row)
        self.mirrors.ask_all()

    async def read(self, feed: Feed, since: int) -> feed_reads.Page:
        """Changes of a conversation after a version, from the database. Raises NotFound."""
        return await self._db.read(
            feed.account_id, feed_reads.changes, feed.conversation_id, since, _PAGE
        )

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

    async def open(self, account_id: str, conversation_id: str) -> Feed:
        """The feed of a conversation, to be given back with `close`. Raises NotFound.

        The caller has found the conversation in its own account: a stranger's feed would take the
        owner's place.
        """
        feed = self._open(account_id, conversation_id)
        if feed.version == _UNKNOWN:
            try:
                # It is registered first and read then, so that no change falls in between.
                version = await self._db.read(account_id, feed_reads.version, conversation_id)
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
            feed.broken = self._closing
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

    def end_streams(self, error: ColloquyError) -> None:
        """Ends every stream, now and from now on, with this error."""
        self._closing = error
        for feed in self._feeds.values():
            feed.broken = error
            feed.wake()


class Watcher:
    """One stream's position in a conversation, and the events from there on.

    With `only` it follows a single reply and ends with it; its tokens then keep the version at
    which it began, so that whoever goes on with WatchConversation also gets everything else.
    """

    def __init__(self, feed: Feed, position: Position, only: str = "") -> None:
        self.feed = feed
        self.done = False
        self._at = position
        self._version = position.version
        self._only = only

    @property
    def is_behind(self) -> bool:
        """Whether the next changes have to be read from the database."""
        return self._version < self.feed.floor

    # --- events -------------------------------------------------------------------------------

    def accepted(self, prompt: Message, reply: Message) -> list[bytes]:
        """How a send begins: deltas go on from the text in it. A reply that has ended already
        also ends the stream."""
        if reply.state == State.GENERATING:
            self.feed.expect(reply)
        text = self._text_of(reply)
        self._follow(reply, _ENDED if reply.state > State.GENERATING else len(text))

        def make(event: api.ConversationEvent) -> None:
            event.accepted.message.CopyFrom(convert.message(prompt))
            event.accepted.reply.CopyFrom(convert.message(reply, text))

        self._at.reply_version = 0 if reply.state > State.GENERATING else reply.version
        events = [self._event(("accepted", reply.version), make)]
        if reply.state > State.GENERATING:
            self._at.reply_version = reply.version
            events.append(self._message(reply, text))
            self.done = True
        return events

    def heartbeat(self) -> bytes:
        """Says that the stream is alive."""
        return self._event(("heartbeat",), lambda event: event.heartbeat.SetInParent())

    def snapshot(self, conversation: Conversation, unfinished: list[Message]) -> list[bytes]:
        """The conversation as it stands and its unfinished replies: how a watch begins."""
        newest = conversation.version
        pending = [message.version - 1 for message in unfinished]
        events = []
        self._at.version = min([newest, *pending])
        events.append(self._conversation(conversation))
        for number, row in enumerate(unfinished, 1):
            self._at.version = min([newest, *pending[number:]])
            if row.state == State.GENERATING:
                self.feed.expect(row)
            text = self._text_of(row)
            if row.state == State.GENERATING:
                self._follow(row, len(text))
            events.append(self._message(row, text))
        self._at.version = self._version = newest
        return events

    def take(self) -> list[bytes]:
        """The events that are due, as far as the feed knows. Empty when there is nothing new."""
        feed = self.feed
        events: list[bytes] = []
        while feed.floor <= self._version < feed.version and not self.done:
            change = feed.after(self._version)
            self._take(change.version, change.conversation, change.messages, events)
        if not self.done and not self.is_behind:
            self._take_text(feed.live, events)
        if feed.deleted and not self.done:
            events.append(self._event(("deleted",), lambda event: event.deleted.SetInParent()))
            self.done = True
        return events

    def resume(self, unfinished: list[Message]) -> list[bytes]:
        """How a watch goes on from a token: a live reply that began before it, and that the token
        says nothing of, is caught up with."""
        events = []
        for row in unfinished:
            if row.state != State.GENERATING:
                continue
            self.feed.expect(row)
            if row.version > self._at.version:
                continue  # its beginning is among the changes that follow
            if row.id != self._at.reply:
                text = self._text_of(row)
                self._follow(row, len(text))
                events.append(self._message(row, text))
        return events

    async def catch_up(self) -> list[bytes]:
        """The events that are due, from the database."""
        try:
            page = await self.feed.changes(self._version)
        except NotFound:
            self.feed.deleted = True
            self._version = self.feed.version
            return self.take()
        events: list[bytes] = []
        groups: dict[int, list[Message]] = {}
        for message in page.messages:
            groups.setdefault(message.version, []).append(message)
        conversation = page.conversation
        if conversation is not None:
            groups.setdefault(conversation.info_version, [])
        for message in page.messages:
            # What is followed ends before anything else is followed, whatever came of it since.
            if (
                message.id == self._at.reply
                and message.state > State.GENERATING
                and self._wants(message)
            ):
                groups[message.version].remove(message)
                self._take_message(message, None, events)
        for version in sorted(groups):
            is_info = conversation is not None and conversation.info_version == version
            self._take(version, conversation if is_info else None, tuple(groups[version]), events)
            if self.done:
                return events
        self._version = page.version
        if not self._only:
            self._at.version = page.version
        return events

    def _take(
        self,
        version: int,
        conversation: Conversation | None,
        messages: tuple[Message, ...],
        events: list[bytes],
    ) -> None:
        """One change. Until its last event is made, a token stands before it."""
        rows = [row for row in messages if self._wants(row)]
        if conversation is not None and not self._only:
            if not rows:
                self._reach(version)
            events.append(self._conversation(conversation))
        for row in rows:
            self._take_message(row, version if row is rows[-1] else None, events)
        self._reach(version)

    def _reach(self, version: int | None) -> None:
        if version is None:
            return
        self._version = version
        if not self._only:
            self._at.version = version

    def _wants(self, row: Message) -> bool:
        if self._only and row.id != self._only:
            return False
        return row.id != self._at.reply or row.version > self._at.reply_version

    def _take_message(self, row: Message, reached: int | None, events: list[bytes]) -> None:
        """One message of a change; the token of its last event stands at `reached`."""
        at = self._at
        follows = row.id == at.reply
        if row.state == State.GENERATING:
            if not follows or row.attempt > at.attempt:
                self._follow(row, 0)
            at.reply_version = row.version
            self.feed.expect(row)
            self._reach(reached)
            text = self._text_of(row)
            if len(text) >= at.offset:
                events.append(self._message(row, text[: at.offset]))
            return
        if row.state > State.GENERATING:
            self.feed.settle(row)
        if follows and row.state > State.GENERATING:
            self._finish_text(row, events)
            at.offset = _ENDED
        if follows:
            at.reply_version = row.version
        self._reach(reached)
        events.append(self._message(row, row.content))
        if row.id == self._only and row.state > State.GENERATING:
            self.done = True

    def _finish_text(self, row: Message, events: list[bytes]) -> None:
        """What a stream has not seen yet of the text of a reply that has ended."""
        if row.attempt > self._at.attempt and row.content:
            self._follow(row, 0)
            self._at.reply_version = 0  # its end is still to come
            events.append(self._message(row, "", is_generating=True))
        self._take_text(LiveText(row.id, row.attempt, row.content), events)

    def _take_text(self, live: LiveText | None, events: list[bytes]) -> None:
        at = self._at
        if (
            live is None
            or live.message_id != at.reply
            or live.attempt != at.attempt
            or len(live.text) <= at.offset
        ):
            return
        offset = at.offset
        text = live.text[offset:] if offset else live.text
        at.offset = len(live.text)

        def make(event: api.ConversationEvent) -> None:
            delta = event.delta
            delta.message_id = live.message_id
            delta.attempt = live.attempt
            delta.offset = offset
            delta.text = text

        events.append(self._event(("delta", offset), make))

    def _follow(self, row: Message, offset: int) -> None:
        self._at.reply = row.id
        self._at.reply_version = row.version
        self._at.attempt = row.attempt
        self._at.offset = offset

    def _text_of(self, row: Message) -> str:
        """The text so far of a reply: what is live here may be ahead of what is saved."""
        live = self.feed.live
        if live and live.message_id == row.id and live.attempt == row.attempt:
            return live.text if row.state == State.GENERATING else row.content
        return row.content

    def _conversation(self, row: Conversation) -> bytes:
        return self._event(
            ("conversation", row.info_version),
            lambda event: event.conversation.CopyFrom(convert.conversation(row)),
        )

    def _message(self, row: Message, text: str, *, is_generating: bool = False) -> bytes:
        def make(event: api.ConversationEvent) -> None:
            message = event.message
            message.CopyFrom(convert.message(row, text))
            if is_generating:
                message.state = State.GENERATING  # type: ignore[assignment]
                message.ClearField("finish_reason")
                message.ClearField("error")
                message.ClearField("usage")

        return self._event(("message", row.id, row.version, is_generating, len(text)), make)

    def _event(
        self, key: tuple[object, ...], fill: Callable[[api.ConversationEvent], object]
    ) -> bytes:
        at = self._at
        place = (at.version, at.reply, at.reply_version, at.attempt, at.offset)

        def make() -> bytes:
            # The three streaming responses are one field, `event = 1`: their bytes are the same.
            response = api.WatchConversationResponse()
            event = response.event
            event.resume_token = encode_position(self.feed.conversation_id, at)
            fill(event)
            return response.SerializeToString()

        return self.feed.serialise((*key, *place), make)

"""One stream's way through the conversations that its caller sees.

Like a `Watcher` it holds a place, never a queue: a stream that falls behind is told of each
conversation once, as it then stands. What it is told is made of the account's feed; who sees a
conversation, and what is unread in it, is made out for each caller from what was read for all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from colloquy.api import conversation_service_pb2 as api

from colloquy_server.api import convert
from colloquy_server.api.access import Principal
from colloquy_server.api.index_tokens import Standing, decode_standing, encode_standing
from colloquy_server.database.audience import Viewer, is_seen
from colloquy_server.database.repository import index, personal
from colloquy_server.database.repository.index import Beginning, Place
from colloquy_server.database.repository.personal import State
from colloquy_server.database.rows import ConversationRow
from colloquy_server.database.transactions import Database
from colloquy_server.replies.account_feeds import AccountFeed, Entry

Event = Callable[[str], bytes]
"""An event that is told with a token."""


class IndexWatcher:
    """One caller's place among the changes of an account, and the events from there on."""

    def __init__(self, db: Database, feed: AccountFeed, caller: Principal, token: str) -> None:
        """Raises InvalidField for what is no token of this account."""
        self._db = db
        self._feed = feed
        self._scope = caller.scope
        self._sees_all = not isinstance(caller.scope, Viewer)
        self._user_id = caller.user_id
        self._standing = Standing(feed.account_id, caller.user_id, self._sees_all)
        self._since = decode_standing(self._standing, token) if token else None
        self._token = token
        self._at = 0
        self._unread_since = 0

    async def run(self, write: Callable[[bytes], Awaitable[object]], heartbeat: float) -> None:
        """Writes the events that are due, and then what comes; `heartbeat` is in seconds. Raises
        what ends the stream."""
        clock = asyncio.get_running_loop().time
        events = await self._begin()
        silent_at = clock() + heartbeat
        while True:
            for event in events:
                await write(event)
            if events:
                silent_at = clock() + heartbeat
            if self._at < self._feed.floor:
                events = await self._begin()
                continue
            events = self._take()
            # From here to the wait nothing else runs, so no change can be missed.
            if not events:
                if self._feed.broken is not None:  # all that was to be told is told
                    raise self._feed.broken
                await self._feed.changed(silent_at - clock())
                if clock() >= silent_at:
                    events = self._take() or [self._heartbeat(self._token)]

    async def _begin(self) -> list[bytes]:
        """What there is, or what has changed since the token, from the database."""
        # The feed is there already: what changes after this read comes from it.
        self._at = self._feed.position
        found = await self._db.read(
            self._scope, index.beginning, self._feed.account_id, self._user_id, self._since
        )
        self._unread_since = found.unread_since
        events = self._told_first(found)
        self._since = found.place
        return self._with_tokens(events or [self._heartbeat], found.place)

    def _told_first(self, found: Beginning) -> list[Event]:
        events: list[Event] = []
        if found.is_new and self._token:
            self._token = ""
            events.append(_made(lambda event: event.reset.SetInParent()))
        events += [self._conversation(row) for row in found.conversations]
        events += [_removed(conversation_id) for conversation_id in found.removed]
        return events

    def _take(self) -> list[bytes]:
        """The events that are due, as far as the feed knows. Empty when there is nothing new."""
        feed = self._feed
        if self._at < feed.floor or (self._at == feed.position and self._since == feed.place):
            return []
        events = []
        for entry in feed.after(self._at):
            if entry.concerns(self._user_id, self._at):
                event = self._of_entry(entry)
                if event is not None:
                    events.append(event)
        self._at, self._since = feed.position, feed.place
        if not events:
            self._token = encode_standing(self._standing, feed.place)
        return self._with_tokens(events, feed.place)

    def _of_entry(self, entry: Entry) -> Event | None:
        row = entry.item.row
        if row is not None and self._sees(row):
            state = entry.item.states.get(self._user_id, State())
            count = personal.unread(
                entry.item.newest, state.read_position, self._user_id, self._unread_since
            )
            return self._shared(entry, row._replace(pinned=state.pinned, unread_count=count))
        if self._sees_all or entry.is_removed_for(self._user_id, self._at):
            return _removed(entry.item.conversation_id)
        return None

    def _sees(self, row: ConversationRow) -> bool:
        if self._sees_all:
            return True
        creator_id = row.creator.id if row.creator else None
        people = [user.id for user in row.participants]
        return is_seen(row.visibility, creator_id, people, self._user_id)

    def _shared(self, entry: Entry, row: ConversationRow) -> Event:
        key = (row.id, entry.at, row.pinned, row.unread_count)
        make = self._conversation(row)
        return lambda token: self._feed.serialise((*key, token), lambda: make(token))

    def _with_tokens(self, events: list[Event], place: Place) -> list[bytes]:
        """All but the last are told with the token before them: whoever breaks off in between
        hears all of them again."""
        if not events:
            return []
        before, self._token = self._token, encode_standing(self._standing, place)
        return [event(before) for event in events[:-1]] + [events[-1](self._token)]

    def _conversation(self, row: ConversationRow) -> Event:
        return _made(lambda event: event.conversation.CopyFrom(convert.conversation(row)))

    def _heartbeat(self, token: str) -> bytes:
        return _made(lambda event: event.heartbeat.SetInParent())(token)


def _removed(conversation_id: str) -> Event:
    def fill(event: api.ConversationsEvent) -> None:
        event.removed = conversation_id

    return _made(fill)


def _made(fill: Callable[[api.ConversationsEvent], object]) -> Event:
    def make(token: str) -> bytes:
        event = api.ConversationsEvent(resume_token=token)
        fill(event)
        return api.WatchConversationsResponse(event=event).SerializeToString()

    return make

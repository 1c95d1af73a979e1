"""One stream's way through a conversation.

A `Watcher` holds a position in a feed, never a queue: it makes its events from the feed when its
stream has room for them, so one that falls behind gets one larger delta, and one that fell far
behind reads the database.
"""

from __future__ import annotations

from collections.abc import Callable

from colloquy.api import conversation_service_pb2 as api

from colloquy_server.api import convert
from colloquy_server.api.tokens import Position, encode_position
from colloquy_server.database.models import State, Visibility
from colloquy_server.database.rows import ConversationRow, MessageRow
from colloquy_server.errors import NotFound
from colloquy_server.replies.feeds import Feed
from colloquy_server.replies.live_reply import LiveText

_ENDED = 0xFFFF_FFFF
"""The offset behind the text of a reply that has ended: nothing follows, also not from an owner
that does not know it yet."""


class Watcher:
    """One stream's position in a conversation, and the events from there on.

    With `only` it follows a single reply and ends with it; its tokens then keep the version at
    which it began, so that whoever goes on with WatchConversation also gets everything else.
    """

    def __init__(
        self, feed: Feed, position: Position, only: str = "", *, audience_version: int
    ) -> None:
        """`audience_version` is one at which it was known who sees the conversation."""
        self.feed = feed
        self.done = False
        self.audience_version = audience_version
        """The latest change by which somebody may see the conversation no more."""
        self._at = position
        self._version = position.version
        self._only = only
        self._early: set[tuple[str, int]] = set()
        """Changes, by message, that were told before those that precede them."""

    @property
    def is_behind(self) -> bool:
        """Whether the next changes have to be read from the database."""
        return self._version < self.feed.floor

    @property
    def _followed(self) -> str:
        """The reply whose end is still to come, if one is followed. Until then no other begins."""
        return "" if self._at.offset == _ENDED else self._at.reply

    # --- events -------------------------------------------------------------------------------

    def accepted(self, prompt: MessageRow, reply: MessageRow) -> list[bytes]:
        """How a send begins: deltas go on from the text in it. A reply that has ended already
        also ends the stream."""
        if reply.state == State.GENERATING:
            self.feed.expect(reply)
        text = self._text_of(reply)
        if reply.state >= State.GENERATING:
            self._follow(reply, _ENDED if reply.state > State.GENERATING else len(text))

        def make(event: api.ConversationEvent) -> None:
            event.accepted.message.CopyFrom(convert.message(prompt))
            event.accepted.reply.CopyFrom(convert.message(reply, text))

        if reply.state > State.GENERATING:
            self._at.reply_version = 0
        events = [self._event(("accepted", reply.version), make)]
        if reply.state > State.GENERATING:
            self._at.reply_version = reply.version
            events.append(self._message(reply, text))
            self.done = True
        return events

    def heartbeat(self) -> bytes:
        """Says that the stream is alive."""
        return self._event(("heartbeat",), lambda event: event.heartbeat.SetInParent())

    def snapshot(self, conversation: ConversationRow, unfinished: list[MessageRow]) -> list[bytes]:
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

    def resume(self, unfinished: list[MessageRow]) -> list[bytes]:
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
            page = await self.feed.changes(self._version, self._followed)
        except NotFound:
            self.feed.deleted = True
            self._version = self.feed.version
            return self.take()
        self._notice_audience(page.info_version, page.conversation)
        events: list[bytes] = []
        groups: dict[int, list[MessageRow]] = {}
        for message in page.messages:
            groups.setdefault(message.version, []).append(message)
        conversation = page.conversation
        if conversation is not None:
            groups.setdefault(conversation.info_version, [])
        # What is followed ends before anything else is followed, whatever came of it since.
        if page.ended is not None and self._wants(page.ended):
            self._take_message(page.ended, None, events)
            self._early.add((page.ended.id, page.ended.version))
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
        conversation: ConversationRow | None,
        messages: tuple[MessageRow, ...],
        events: list[bytes],
    ) -> None:
        """One change. Until its last event is made, a token stands before it."""
        rows = [row for row in messages if self._wants(row)]
        if conversation is not None:
            self._notice_audience(version, conversation)
        if conversation is not None and not self._only:
            if not rows:
                self._reach(version)
            events.append(self._conversation(conversation))
        for row in rows:
            self._take_message(row, version if row is rows[-1] else None, events)
        self._reach(version)

    def _notice_audience(self, version: int, conversation: ConversationRow | None) -> None:
        """Learns that the conversation changed itself, as it stands now if that is known."""
        if conversation is None or conversation.visibility != Visibility.ACCOUNT:
            self.audience_version = max(version, self.audience_version)

    def _reach(self, version: int | None) -> None:
        if version is None:
            return
        self._version = version
        if not self._only:
            self._at.version = version

    def _wants(self, row: MessageRow) -> bool:
        if self._only and row.id != self._only:
            return False
        if (row.id, row.version) in self._early:
            return False
        return row.id != self._at.reply or row.version > self._at.reply_version

    def _take_message(self, row: MessageRow, reached: int | None, events: list[bytes]) -> None:
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

    def _finish_text(self, row: MessageRow, events: list[bytes]) -> None:
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

    def _follow(self, row: MessageRow, offset: int) -> None:
        self._at.reply = row.id
        self._at.reply_version = row.version
        self._at.attempt = row.attempt
        self._at.offset = offset

    def _text_of(self, row: MessageRow) -> str:
        """The text so far of a reply: what is live here may be ahead of what is saved."""
        live = self.feed.live
        if live and live.message_id == row.id and live.attempt == row.attempt:
            return live.text if row.state == State.GENERATING else row.content
        return row.content

    def _conversation(self, row: ConversationRow) -> bytes:
        return self._event(
            ("conversation", row.info_version),
            lambda event: event.conversation.CopyFrom(convert.conversation(row)),
        )

    def _message(self, row: MessageRow, text: str, *, is_generating: bool = False) -> bytes:
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

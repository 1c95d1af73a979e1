"""Shows the text of this process's replies to watchers, here and in other processes.

Text is collected for a moment, for all replies together: one message for many tokens is what keeps
a token cheap.
"""

from __future__ import annotations

import asyncio

from colloquy_server.clock import boottime
from colloquy_server.replies.bus import Bus, Event, pieces
from colloquy_server.replies.feeds import Feeds
from colloquy_server.replies.live_reply import LiveReply
from colloquy_server.replies.ownership import Ownership
from colloquy_server.replies.suspend_detection import SuspendDetector

_WINDOW = 0.025
_WINDOW_PER_REPLY = 0.00025
_WINDOW_MAX = 0.1
"""Seconds in which text is collected before watchers see it: smooth when few replies are
live; with many, fewer and larger messages, which are half of what a token costs."""

_WANTED = 5.0
"""Seconds for which a reply's text goes out on the bus after another process asked for it."""

_UNSAVED_MAX = 500
"""Code points of a reply that may be unsaved before a checkpoint is due at once."""


class Publisher:
    """The way of text from the replies of this process to those who watch."""

    def __init__(self, ownership: Ownership, feeds: Feeds, bus: Bus) -> None:
        self.needs_checkpoint = asyncio.Event()
        """Set when a reply has much that is not saved."""
        self.suspend_detector = SuspendDetector(
            is_needed=lambda: ownership.live,
            verify=ownership.verify,
            on_verified=self.publish_all,
        )
        self._ownership = ownership
        self._feeds = feeds
        self._bus = bus
        self._dirty: set[LiveReply] = set()
        self._window: asyncio.TimerHandle | None = None

    def receive(self, reply: LiveReply, text: str) -> None:
        """Takes in what a provider sent."""
        reply.pending.append(text)
        reply.size += len(text.encode())
        if not reply.text:  # the first text is shown at once
            self.publish(reply)
        elif reply not in self._dirty:
            self._dirty.add(reply)
            if self._window is None:
                window = min(_WINDOW + _WINDOW_PER_REPLY * len(self._ownership.live), _WINDOW_MAX)
                loop = asyncio.get_running_loop()
                self._window = loop.call_later(window, self.publish_all)

    def publish_all(self) -> None:
        """Lets watchers see all that was collected."""
        self._window = None
        dirty, self._dirty = self._dirty, set()
        for reply in dirty:
            self.publish(reply)

    def publish(self, reply: LiveReply) -> None:
        """Lets watchers see what came. An owner whose lease is over shows nothing more, and one
        that was suspended looks first whether it still owns the reply."""
        if not self._ownership.owns(reply):
            return
        if boottime() >= reply.deadline:
            self._ownership.fence(reply)
            return
        if self.suspend_detector.is_in_doubt():
            self._dirty.add(reply)
            return
        reply.publish()
        if reply.wanted_until > asyncio.get_running_loop().time():
            self._send(reply, reply.mirrored)
        if len(reply.text) - reply.saved >= _UNSAVED_MAX:
            self.needs_checkpoint.set()
        self._feeds.wake(reply.conversation_id)

    def want(self, reply: LiveReply, event: Event) -> None:
        """A mirror of another process wants the text of a reply, from an offset on."""
        reply.wanted_until = asyncio.get_running_loop().time() + _WANTED
        is_same = event["attempt"] == reply.attempt
        self._send(reply, min(event["offset"], len(reply.text)) if is_same else 0)

    def _send(self, reply: LiveReply, offset: int) -> None:
        """Sends the text from `offset` on to the mirrors of other processes."""
        for text in pieces(reply.text[offset:]):
            self._bus.publish(
                {
                    "kind": "text",
                    "conversation": reply.conversation_id,
                    "message": reply.message_id,
                    "attempt": reply.attempt,
                    "offset": offset,
                    "text": text,
                }
            )
            offset += len(text)
        reply.mirrored = len(reply.text)

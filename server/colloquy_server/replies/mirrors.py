"""The live texts that watchers of this process read: those that it generates itself, and mirrors of
those that other processes generate.

A mirror begins with what the database has, asks the owner over the bus for what came since, and
takes what the owner then sends. Text that overlaps is dropped by its offset; a gap is noticed by it
and asked for. With the bus down a mirror follows the checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import ClassVar

from colloquy_server.database.models import State
from colloquy_server.database.rows import MessageRow
from colloquy_server.replies.bus import Bus, Event
from colloquy_server.replies.live_reply import LiveText


class Mirror(LiveText):
    """The text of a reply that another process generates."""

    __slots__ = ()
    is_mirror: ClassVar[bool] = True


class Mirrors:
    """The mirrors among `live`, the live texts by conversation."""

    def __init__(
        self,
        live: dict[str, LiveText],
        watched: Container[str],
        bus: Bus,
        wake: Callable[[str], None],
    ) -> None:
        """`watched` are the conversations that are watched here; `wake` tells their watchers that
        the text has grown."""
        self._live = live
        self._watched = watched
        self._bus = bus
        self._wake = wake

    def expect(self, row: MessageRow) -> None:
        """A live reply is watched here, and the database had this of it: unless it is generated
        here, mirrors it from there on."""
        live = self._live.get(row.conversation_id)
        if live is not None and live.message_id == row.id:
            if not live.is_mirror or live.attempt > row.attempt:
                return
            if live.attempt == row.attempt:
                self._extend(row.conversation_id, live, row.content)
                self._ask(row.conversation_id, live)
                return
        elif live is not None and not live.is_mirror:
            return
        mirror = Mirror(row.id, row.attempt, row.content)
        self._live[row.conversation_id] = mirror
        self._ask(row.conversation_id, mirror)

    def ask_all(self) -> None:
        """Tells the owners of all mirrors that their text is still wanted."""
        for conversation_id, live in self._live.items():
            if live.is_mirror:
                self._ask(conversation_id, live)

    def settle(self, row: MessageRow) -> None:
        """A reply has ended: its mirror, if there is one, is not needed any more."""
        live = self._live.get(row.conversation_id)
        has_ended = row.state > State.GENERATING
        if has_ended and live is not None and live.is_mirror and live.message_id == row.id:
            del self._live[row.conversation_id]

    def drop(self, conversation_id: str) -> None:
        """Nobody watches this conversation here any more."""
        live = self._live.get(conversation_id)
        if live is not None and live.is_mirror:
            del self._live[conversation_id]

    def receive(self, event: Event) -> None:
        """Text that the owner of a reply sent."""
        conversation_id = event["conversation"]
        if conversation_id not in self._watched:
            return
        live = self._live.get(conversation_id)
        if (
            live is None
            or not live.is_mirror
            or (live.message_id, live.attempt) != (event["message"], event["attempt"])
        ):
            return  # of a reply or an attempt that we have not read of yet: then we shall ask
        offset, text = event["offset"], event["text"]
        if offset > len(live.text):
            self._ask(conversation_id, live)
        else:
            self._extend(conversation_id, live, live.text[:offset] + text)

    def _extend(self, conversation_id: str, live: LiveText, text: str) -> None:
        if len(text) > len(live.text):
            live.text = text
            self._wake(conversation_id)

    def _ask(self, conversation_id: str, mirror: LiveText) -> None:
        self._bus.publish(
            {
                "kind": "want",
                "conversation": conversation_id,
                "message": mirror.message_id,
                "attempt": mirror.attempt,
                "offset": len(mirror.text),
            }
        )

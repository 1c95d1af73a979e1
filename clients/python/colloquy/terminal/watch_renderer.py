"""Renders what happens in a conversation as text, for `watch`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TextIO

from colloquy.api.conversation_service_pb2 import ConversationEvent
from colloquy.api.resources_pb2 import Message
from colloquy.terminal.conversation_renderer import remarks, speaker, title_of
from colloquy.terminal.formatting import clean
from colloquy.transcript import is_final


@dataclass
class _Printed:
    """How much of an unfinished message is printed, in code points, and who says it."""

    speaker: str
    length: int


class WatchRenderer:
    """Prints events as they come."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._title = ""
        # The unfinished message whose text was printed last: more of it needs no heading.
        self._writing = ""
        self._unfinished: dict[str, _Printed] = {}
        # Whether a finished message was superseded when it was printed last.
        self._superseded: dict[str, bool] = {}

    def render(self, event: ConversationEvent) -> None:
        """Print what is new."""
        if event.HasField("delta"):
            self._render_delta(event.delta)
        elif event.HasField("conversation") and event.conversation.title != self._title:
            self._title = event.conversation.title
            self._begin(f"title: {title_of(event.conversation)}")
        elif event.HasField("deleted"):
            self._begin("the conversation was deleted")
        elif event.HasField("message") and event.message.id in self._superseded:
            self._render_finished(event.message)
        elif event.HasField("message"):
            self._render_message(event.message)
        self._output.flush()

    def _render_delta(self, delta: ConversationEvent.Delta) -> None:
        self._go_on(delta.message_id)
        self._output.write(clean(delta.text))
        self._unfinished[delta.message_id].length += len(delta.text)

    def _render_message(self, message: Message) -> None:
        printed = self._unfinished.get(message.id)
        if printed is None or printed.length != len(message.content):
            # Its text so far, from its beginning: whatever was printed of it is void.
            self._unfinished[message.id] = _Printed(speaker(message), len(message.content))
            self._begin(speaker(message), message.id)
            self._output.write(clean(message.content))
        if is_final(message):
            if found := remarks(message):
                self._go_on(message.id)
                self._output.writelines(f"\n[{remark}]" for remark in found)
            if self._writing == message.id:
                self._output.write("\n")
                self._writing = ""
            del self._unfinished[message.id]
            self._superseded[message.id] = message.superseded

    def _render_finished(self, message: Message) -> None:
        """Print what became of a message that was printed to its end."""
        if message.superseded and not self._superseded[message.id]:
            self._begin(f"{speaker(message)}: a later reply took its place")
        self._superseded[message.id] = message.superseded

    def _go_on(self, message_id: str) -> None:
        """Go on with a message, under a heading when something else came between."""
        if self._writing != message_id:
            printed = self._unfinished[message_id]
            begun = ", continued" if printed.length else ""
            self._begin(f"{printed.speaker}{begun}", message_id)

    def _begin(self, heading: str, message_id: str = "") -> None:
        if self._writing:
            self._output.write("\n")
        self._writing = message_id
        self._output.write(f"--- {heading}\n")

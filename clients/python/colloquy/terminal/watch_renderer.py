"""Renders what happens in a conversation as text, for `watch`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from colloquy.api.conversation_service_pb2 import ConversationEvent
from colloquy.api.resources_pb2 import Message
from colloquy.terminal.conversation_renderer import remarks, speaker, title_of
from colloquy.terminal.formatting import clean
from colloquy.terminal.word_wrap import WordWrap, unfinished_word
from colloquy.transcript import is_final


@dataclass
class _Printed:
    """How much of an unfinished message has come, in code points, and who says it. `held` is its
    end, which may be half a word, and is not printed yet."""

    speaker: str
    length: int
    held: str = ""
    has_begun: bool = False


class WatchRenderer:
    """Prints events as they come; where there is a `width`, without breaking words."""

    def __init__(self, output: TextIO, width: Callable[[], int] | None = None) -> None:
        self._output = output
        self._words = WordWrap(output, width)
        self._title = ""
        # The unfinished message whose text was printed last: more of it needs no heading.
        self._writing = ""
        self._unfinished: dict[str, _Printed] = {}
        # What there was to say about each finished message when that was printed last.
        self._finished: dict[str, list[str]] = {}

    def render(self, event: ConversationEvent) -> None:
        """Print what is new."""
        if event.HasField("delta"):
            self._render_delta(event.delta)
        elif event.HasField("conversation") and event.conversation.title != self._title:
            self._title = event.conversation.title
            self._begin(f"title: {title_of(event.conversation)}")
        elif event.HasField("deleted"):
            for message_id in self._unfinished:
                self._end(message_id)
            self._begin("the conversation was deleted")
        elif event.HasField("message") and event.message.id in self._finished:
            self._render_finished(event.message)
        elif event.HasField("message"):
            self._render_message(event.message)
        self._output.flush()

    def _render_delta(self, delta: ConversationEvent.Delta) -> None:
        self._unfinished[delta.message_id].length += len(delta.text)
        self._say(delta.message_id, clean(delta.text))

    def _say(self, message_id: str, text: str) -> None:
        """Print the words of a message that are whole."""
        printed = self._unfinished[message_id]
        text = printed.held + text
        printed.held = unfinished_word(text)
        self._print(message_id, text.removesuffix(printed.held))

    def _end(self, message_id: str) -> None:
        """Print what is held of a message, if anything is."""
        printed = self._unfinished.get(message_id)
        if printed is not None:
            self._print(message_id, printed.held)
            printed.held = ""

    def _print(self, message_id: str, text: str) -> None:
        if text:
            self._go_on(message_id)
            self._unfinished[message_id].has_begun = True
            self._words.write(text)

    def _render_message(self, message: Message) -> None:
        printed = self._unfinished.get(message.id)
        if printed is None or printed.length != len(message.content):
            # Its text so far, from its beginning: whatever was printed of it is void.
            self._end(message.id)
            if self._writing == message.id:
                self._break()
            self._unfinished[message.id] = _Printed(speaker(message), len(message.content))
            self._say(message.id, clean(message.content))
        if is_final(message):
            self._end(message.id)
            found = remarks(message)
            if found or not self._unfinished[message.id].has_begun:
                self._go_on(message.id)
                self._words.write("".join(f"\n[{remark}]" for remark in found))
            if self._writing == message.id:
                self._break()
            del self._unfinished[message.id]
            self._finished[message.id] = found

    def _render_finished(self, message: Message) -> None:
        """Print what became of a message that was printed to its end."""
        found = remarks(message)
        for remark in found:
            if remark not in self._finished[message.id]:
                self._begin(f"{speaker(message)}: {remark}")
        self._finished[message.id] = found

    def _go_on(self, message_id: str) -> None:
        """Go on with a message, under a heading when something else came between."""
        if self._writing != message_id:
            printed = self._unfinished[message_id]
            begun = ", continued" if printed.has_begun else ""
            self._begin(f"{printed.speaker}{begun}", message_id)

    def _begin(self, heading: str, message_id: str = "") -> None:
        self._break()
        self._writing = message_id
        self._words.write(f"--- {heading}\n")

    def _break(self) -> None:
        if self._writing:
            self._words.write("\n")
        self._writing = ""

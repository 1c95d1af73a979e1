"""The messages of a request, as the chat completions API wants them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import orjson


@dataclass(slots=True)
class ChatMessage:
    """One message. `content` has texts, and parts as JSON; `name` is the API's field, if any."""

    role: str
    content: list[str | bytes]
    name: str = ""

    def pieces(self) -> Sequence[bytes]:
        """The message as JSON, in pieces to be joined. Where there is only text it is one string,
        which every server takes."""
        message: dict[str, object] = {"role": self.role}
        if self.name:
            message["name"] = self.name
        if bytes not in map(type, self.content):
            texts = cast("list[str]", self.content)
            message["content"] = "\n\n".join(texts)
            return [orjson.dumps(message)]
        message["content"] = []
        around = orjson.dumps(message)
        end = len(around) - len("]}")
        pieces = [around[:end]]
        for part in self.content:
            text = {"type": "text", "text": part}
            pieces += [part if isinstance(part, bytes) else orjson.dumps(text), b","]
        return [*pieces[:-1], around[end:]]


def text_message(role: str, text: str) -> bytes:
    """A message that is only a text, as JSON."""
    return b"".join(ChatMessage(role, [text]).pieces())


def system_message(text: str) -> bytes:
    """The message before all others, with the comma that parts it from them; nothing for a blank
    text."""
    return text_message("system", text) + b"," if text.strip() else b""


def alternating(messages: Iterable[ChatMessage]) -> list[ChatMessage]:
    """The same with those of one role in a row made one, which has the first one's name."""
    made: list[ChatMessage] = []
    for message in messages:
        if made and made[-1].role == message.role:
            made[-1].content += message.content
        else:
            made.append(message)
    return made


async def joined(messages: Sequence[ChatMessage]) -> bytes:
    """The messages as JSON, with commas between them."""
    pieces: list[bytes] = []
    for message in messages:
        pieces += message.pieces()
        pieces.append(b",")
    del pieces[-1]
    # Parts are megabytes, and the thread that copies them lets others run.
    has_parts = len(pieces) > 2 * len(messages) - 1
    return await asyncio.to_thread(b"".join, pieces) if has_parts else b"".join(pieces)

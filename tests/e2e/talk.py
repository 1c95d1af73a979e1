"""What many tests of conversations do: begin a reply and hold it in the middle."""

from __future__ import annotations

import asyncio
from typing import Any

from colloquy.api import resources_pb2 as resources

from tests.fakes.provider import Answer
from tests.harness import Caller, Colloquy, Stream

HALF = 3
"""Words of a held reply that come before its gate; as many come after it."""


class Held:
    """A reply whose provider sends half of it and waits for `gate`."""

    def __init__(self, stream: Stream, gate: asyncio.Event) -> None:
        self.stream = stream
        self.gate = gate
        self.prompt = resources.Message()
        self.reply = resources.Message()

    @property
    def id(self) -> str:
        return self.reply.id


def half(gate: asyncio.Event) -> Answer:
    """An answer that waits for the gate in its middle."""
    return Answer(tokens=2 * HALF, gate_after=HALF, gate=gate)


async def hold(
    colloquy: Colloquy, caller: Caller, conversation_id: str, content: str = "Hello", **more: Any
) -> Held:
    """Sends, and waits until the first half of the reply has come."""
    gate = asyncio.Event()
    colloquy.provider.script(half(gate))
    held = Held(caller.send(conversation_id, content, **more), gate)
    accepted = await held.stream.accepted()
    held.prompt, held.reply = accepted.message, accepted.reply
    await text_of(held.stream, held.id, HALF)
    return held


async def text_of(stream: Stream, message_id: str, words: int) -> str:
    """Reads a stream until so many words of a reply have come; returns them."""
    while True:
        message = stream.transcript.messages.get(message_id)
        if message is not None and len(message.content.split()) >= words:
            return message.content
        await stream.next()


def said(body: dict[str, Any]) -> list[tuple[str, str]]:
    """(role, text) of what a provider's request says."""
    return [(message["role"], message["content"]) for message in body["messages"]]

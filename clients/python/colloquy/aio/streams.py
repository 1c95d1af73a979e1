"""What a client's user iterates over: the events of a conversation, and those of one reply."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress
from types import TracebackType
from typing import Generic, Self

from colloquy.aio.transport import Stream
from colloquy.api.conversation_service_pb2 import ConversationEvent
from colloquy.api.resources_pb2 import Message
from colloquy.errors import ColloquyError, NotFound
from colloquy.resumption import Event, ReplyResumption
from colloquy.transcript import is_final


class AsyncEvents(Generic[Event]):
    """The events of a conversation, or of all.

    Leaving the `async with` block, or `aclose`, ends the call at once; a loop that is left without
    them, when Python drops the object.
    """

    def __init__(self, stream: Stream, events: AsyncGenerator[Event]) -> None:
        self._stream = stream
        self._events = events

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        return await anext(self._events)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the call, from any task: iterating ends. The reply goes on in the server."""
        self._stream.close()
        with suppress(RuntimeError):  # another task iterates, which leaves now
            await self._events.aclose()


class AsyncReply(AsyncEvents[ConversationEvent]):
    """The events of one reply: `accepted`, then `message` and `delta`, last its final `message`.

    The joined deltas of its last attempt are its whole text.
    """

    def __init__(
        self,
        stream: Stream,
        events: AsyncGenerator[ConversationEvent],
        resumption: ReplyResumption,
    ) -> None:
        super().__init__(stream, events)
        self._resumption = resumption

    @property
    def request_id(self) -> str:
        """Names the request; `cancel_reply` takes it, also before anything was accepted."""
        return self._resumption.request_id

    @property
    def prompt(self) -> Message | None:
        """The user's message, None before it was accepted."""
        return self._resumption.prompt

    @property
    def reply(self) -> Message | None:
        """The reply of the last `accepted` or `message`, None before it was accepted."""
        return self._resumption.reply

    async def result(self) -> Message:
        """Wait for the end and return the whole reply, whether completed, failed or cancelled.

        Raises NotFound when the conversation is deleted meanwhile, ColloquyError when the reply is
        closed before its end.
        """
        async with self:
            async for event in self:
                if event.HasField("deleted"):
                    raise NotFound("the conversation was deleted", reason="CONVERSATION_NOT_FOUND")
        if self.reply is None or not is_final(self.reply):
            raise ColloquyError("the reply was left before its end; it goes on in the server")
        return self.reply

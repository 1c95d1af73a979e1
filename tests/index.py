"""A client of WatchConversations as strangers would write one: it applies the events, no more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources

from tests.harness import Caller


async def listed(caller: Caller, **fields: object) -> dict[str, resources.Conversation]:
    """All conversations, as ListConversations has them."""
    found: dict[str, resources.Conversation] = {}
    token = ""
    while True:
        request = api.ListConversationsRequest(page_token=token, page_size=200, **fields)  # type: ignore[arg-type]
        page = await caller.call("ListConversations", request)
        found.update((each.id, each) for each in page.conversations)
        token = page.next_page_token
        if not token:
            return found


@dataclass
class Index:
    """What a client holds, who watches on whatever channel `caller.far` is."""

    caller: Caller
    token: str = ""
    held: dict[str, resources.Conversation] = field(default_factory=dict)
    events: list[api.ConversationsEvent] = field(default_factory=list)
    _call: Any = None

    def connect(self, caller: Caller | None = None) -> None:
        """Watches from the token on."""
        self.caller = caller or self.caller
        request = api.WatchConversationsRequest(resume_token=self.token)
        self._call = self.caller.far.WatchConversations(request, metadata=self.caller.metadata)

    def disconnect(self) -> None:
        """Goes away, in the middle of whatever comes."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    async def next(self) -> api.ConversationsEvent:
        """Takes the next event. Raises AioRpcError, and StopAsyncIteration at the end."""
        if self._call is None:
            self.connect()
        assert self._call is not None
        response = await self._call.read()
        if response is grpc.aio.EOF:
            raise StopAsyncIteration
        event = response.event
        self.take(event)
        return event  # type: ignore[no-any-return]

    def take(self, event: api.ConversationsEvent) -> None:
        """Applies an event."""
        self.token = event.resume_token
        self.events.append(event)
        kind = event.WhichOneof("event")
        if kind == "conversation":
            self.held[event.conversation.id] = event.conversation
        elif kind == "removed":
            self.held.pop(event.removed, None)
        elif kind == "reset":
            self.held.clear()

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Takes events until what is held is as wanted."""
        while not is_so():
            await self.next()

    async def is_known(self) -> None:
        """Takes events until the beginning is told."""
        await self.until(lambda: bool(self.token))

    async def until_true(self) -> dict[str, resources.Conversation]:
        """Takes events until what is held is what is listed; returns that."""
        while True:
            found = await listed(self.caller)
            if found == self.held:
                return found
            # An event may have changed the list, or what changed it is still to be told.
            event = asyncio.ensure_future(self.next())
            while not event.done():
                done, _ = await asyncio.wait([event], timeout=0.5)
                if not done and await listed(self.caller) == self.held:
                    event.cancel()
                    self.disconnect()  # a read that is cancelled takes the call with it
                    return self.held
            event.result()

"""The part of the fake ConversationService that is about all conversations, people and usage."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import grpc
from colloquy.api import conversation_service_pb2 as pb
from colloquy.api import conversation_service_pb2_grpc as conversation_grpc
from colloquy.api.conversation_service_pb2 import ConversationsEvent
from colloquy.api.resources_pb2 import Conversation, User

from tests.fakes.door import Door, paged


class FakeIndex(Door, conversation_grpc.ConversationServiceServicer):
    """Its watches tell what they are given, and break off after it."""

    def __init__(self) -> None:
        super().__init__()
        # What each watch tells before it breaks off; after these one says nothing any more.
        self.told: deque[list[ConversationsEvent]] = deque()
        self.tokens: list[str] = []
        self.people: list[User] = []
        # What was used, and the budgets, whatever is asked.
        self.usage = pb.GetUsageResponse()

    async def WatchConversations(
        self, request: pb.WatchConversationsRequest, context: Any
    ) -> AsyncIterator[pb.WatchConversationsResponse]:
        await self.enter(request, context)
        self.tokens.append(request.resume_token)
        if not self.told:
            await asyncio.Event().wait()
        for event in self.told.popleft():
            yield pb.WatchConversationsResponse(event=event)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "broken off")

    async def MarkRead(self, request: pb.MarkReadRequest, context: Any) -> pb.MarkReadResponse:
        await self.enter(request, context)
        return pb.MarkReadResponse(conversation=Conversation(id=request.conversation_id))

    async def ListUsers(self, request: pb.ListUsersRequest, context: Any) -> pb.ListUsersResponse:
        await self.enter(request, context)
        found = [
            user
            for user in self.people
            if request.query == user.external_id or user.display_name.startswith(request.query)
        ]
        page, token = paged(found, request.page_size, request.page_token)
        return pb.ListUsersResponse(users=page, next_page_token=token)

    async def GetUsage(self, request: pb.GetUsageRequest, context: Any) -> pb.GetUsageResponse:
        await self.enter(request, context)
        return self.usage

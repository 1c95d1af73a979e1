"""A Colloquy in memory behind a real gRPC server, which breaks its streams when it is told to.

It keeps the contract as clients see it: a reply is written whether anybody listens or not, a
resume token names a place in the conversation's log, and a repeated request_id attaches to its
reply. What a client's tests need beyond that are faults.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from colloquy.api import conversation_service_pb2 as pb
from colloquy.api.conversation_service_pb2 import ConversationEvent
from colloquy.api.resources_pb2 import Attachment, Conversation, Error, Message, Model, User
from grpc_status import rpc_status

from tests.fakes.door import new_id, paged, refuse
from tests.fakes.files_and_accounts import FakeFiles
from tests.fakes.index import FakeIndex

MODELS = ("fake-large", "fake-small")


@dataclass
class Script:
    """How a reply goes: each attempt's pieces, then how it ends."""

    attempts: list[list[str]]
    state: Message.State.ValueType = Message.STATE_COMPLETED
    error: Error | None = None
    finish_reason: str = "stop"
    # The model that was asked, where another one answers.
    requested_model: str = ""
    # Written are the pieces before the gate; the rest waits until it opens.
    gate: asyncio.Event | None = None
    before_gate: int = 0


def say(*pieces: str) -> Script:
    """A reply in one attempt that completes."""
    return Script([list(pieces)])


@dataclass
class Room:
    """A conversation: its messages as they stand, and all that happened in it."""

    conversation: Conversation
    messages: dict[str, Message] = field(default_factory=dict)
    log: list[ConversationEvent] = field(default_factory=list)
    requests: dict[str, tuple[pb.SendMessageRequest | None, str]] = field(default_factory=dict)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    deleted: bool = False


ME = User(id=new_id(), external_id="me", display_name="Me")
"""Who makes all conversations."""


class FakeConversations(FakeIndex):
    """ConversationService, with the replies."""

    def __init__(self, files: FakeFiles | None = None) -> None:
        super().__init__()
        self.files = files or FakeFiles()
        self.rooms: dict[str, Room] = {}
        # What the next replies say; after these each prompt is echoed.
        self.scripts: deque[Script] = deque()
        # A watcher with a token is told messages as they stand instead of deltas.
        self.resync = False
        self.title = "A made-up title"
        # What to do, if anything, when a watcher has been told how things stand.
        self.on_watch: Callable[[], Awaitable[None]] | None = None
        self.open_streams = 0
        self._writing: set[asyncio.Task[None]] = set()

    async def CreateConversation(
        self, request: pb.CreateConversationRequest, context: Any
    ) -> pb.CreateConversationResponse:
        await self.enter(request, context)
        if request.model not in ("", *MODELS):
            await refuse(
                context,
                grpc.StatusCode.INVALID_ARGUMENT,
                "MODEL_UNKNOWN",
                f"there is no model {request.model}; available are {', '.join(MODELS)}",
                fields={"model": "is not in the catalogue"},
            )
        conversation = Conversation(
            id=new_id(),
            title=request.title,
            model=request.model or MODELS[0],
            system_prompt=request.system_prompt,
            visibility=request.visibility or Conversation.VISIBILITY_ACCOUNT,
            creator=ME,
        )
        conversation.create_time.GetCurrentTime()
        self.rooms[conversation.id] = Room(conversation)
        return pb.CreateConversationResponse(conversation=conversation)

    async def GetConversation(
        self, request: pb.GetConversationRequest, context: Any
    ) -> pb.GetConversationResponse:
        await self.enter(request, context)
        room = await self._room(request.conversation_id, context)
        return pb.GetConversationResponse(
            conversation=room.conversation, resume_token=str(len(room.log))
        )

    async def ListConversations(
        self, request: pb.ListConversationsRequest, context: Any
    ) -> pb.ListConversationsResponse:
        await self.enter(request, context)
        there = [room.conversation for room in reversed(self.rooms.values()) if not room.deleted]
        found = [
            conversation
            for conversation in there
            if not request.HasField("archived") or conversation.archived == request.archived
            if not request.HasField("pinned") or conversation.pinned == request.pinned
        ]
        page, token = paged(found, request.page_size, request.page_token)
        return pb.ListConversationsResponse(conversations=page, next_page_token=token)

    async def UpdateConversation(
        self, request: pb.UpdateConversationRequest, context: Any
    ) -> pb.UpdateConversationResponse:
        await self.enter(request, context)
        room = await self._room(request.conversation.id, context)
        if "model" in request.update_mask.paths and request.conversation.model not in MODELS:
            await refuse(
                context, grpc.StatusCode.INVALID_ARGUMENT, "MODEL_UNKNOWN", "there is no such model"
            )
        request.update_mask.MergeMessage(request.conversation, room.conversation)
        await self.tell(room, conversation=room.conversation)
        return pb.UpdateConversationResponse(conversation=room.conversation)

    async def AddParticipants(
        self, request: pb.AddParticipantsRequest, context: Any
    ) -> pb.AddParticipantsResponse:
        await self.enter(request, context)
        room = await self._room(request.conversation_id, context)
        known = {user.external_id for user in room.conversation.participants}
        for user in request.users:
            if user.external_id not in known:
                room.conversation.participants.add(id=new_id(), external_id=user.external_id)
        await self.tell(room, conversation=room.conversation)
        return pb.AddParticipantsResponse(conversation=room.conversation)

    async def RemoveParticipant(
        self, request: pb.RemoveParticipantRequest, context: Any
    ) -> pb.RemoveParticipantResponse:
        await self.enter(request, context)
        room = await self._room(request.conversation_id, context)
        left = [user for user in room.conversation.participants if user.id != request.user_id]
        del room.conversation.participants[:]
        room.conversation.participants.extend(left)
        await self.tell(room, conversation=room.conversation)
        return pb.RemoveParticipantResponse(conversation=room.conversation)

    async def DeleteConversation(
        self, request: pb.DeleteConversationRequest, context: Any
    ) -> pb.DeleteConversationResponse:
        await self.enter(request, context)
        await self.delete(await self._room(request.conversation_id, context))
        return pb.DeleteConversationResponse()

    async def ListMessages(
        self, request: pb.ListMessagesRequest, context: Any
    ) -> pb.ListMessagesResponse:
        await self.enter(request, context)
        room = await self._room(request.conversation_id, context)
        page, token = paged(list(room.messages.values()), request.page_size, request.page_token)
        return pb.ListMessagesResponse(
            messages=page, next_page_token=token, resume_token=str(len(room.log))
        )

    async def GetMessage(
        self, request: pb.GetMessageRequest, context: Any
    ) -> pb.GetMessageResponse:
        await self.enter(request, context)
        _, message = await self._message(request.message_id, context)
        return pb.GetMessageResponse(message=message)

    async def SendMessage(
        self, request: pb.SendMessageRequest, context: Any
    ) -> AsyncIterator[pb.SendMessageResponse]:
        await self.enter(request, context, stream=True)
        room = await self._room(request.conversation_id, context)
        if request.request_id in room.requests:
            before, reply_id = room.requests[request.request_id]
            if before != request:
                await refuse(
                    context, grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED", "used before"
                )
            accepted = self._accepted(room, room.messages[reply_id])
        else:
            prompt = Message(
                id=new_id(),
                conversation_id=request.conversation_id,
                role=Message.ROLE_USER,
                author=User(external_id="default", display_name="You"),
                content=request.content,
                attachments=[self.files.files[name][0] for name in request.attachment_ids],
                state=Message.STATE_COMPLETED,
            )
            room.messages[prompt.id] = prompt
            await self.tell(room, message=prompt)
            accepted = await self._begin(room, prompt)
            if request.request_id:
                room.requests[request.request_id] = (request, accepted.accepted.reply.id)
        async for event in self._stream(context, self._reply_events(room, accepted)):
            yield pb.SendMessageResponse(event=event)

    async def RegenerateReply(
        self, request: pb.RegenerateReplyRequest, context: Any
    ) -> AsyncIterator[pb.RegenerateReplyResponse]:
        await self.enter(request, context, stream=True)
        room, old = await self._message(request.message_id, context)
        prompt = room.messages[old.reply_to]
        if request.request_id in room.requests:
            accepted = self._accepted(room, room.messages[room.requests[request.request_id][1]])
        else:
            old.superseded = True
            await self.tell(room, message=old)
            accepted = await self._begin(room, prompt)
            room.requests[request.request_id] = (None, accepted.accepted.reply.id)
        async for event in self._stream(context, self._reply_events(room, accepted)):
            yield pb.RegenerateReplyResponse(event=event)

    async def WatchConversation(
        self, request: pb.WatchConversationRequest, context: Any
    ) -> AsyncIterator[pb.WatchConversationResponse]:
        await self.enter(request, context, stream=True)
        room = await self._room(request.conversation_id, context)
        async for event in self._stream(context, self._watch_events(room, request.resume_token)):
            yield pb.WatchConversationResponse(event=event)

    async def DeleteMessage(
        self, request: pb.DeleteMessageRequest, context: Any
    ) -> pb.DeleteMessageResponse:
        room, prompt = await self._message(request.message_id, context)
        of_it = [m.id for m in room.messages.values() if prompt.id in (m.id, m.reply_to)]
        for message_id in of_it:
            del room.messages[message_id]
            await self.tell(room, message=Message(id=message_id, deleted=True))
        return pb.DeleteMessageResponse()

    async def CancelReply(
        self, request: pb.CancelReplyRequest, context: Any
    ) -> pb.CancelReplyResponse:
        await self.enter(request, context)
        message_id = request.message_id
        if request.request_id:
            room = await self._room(request.conversation_id, context)
            if request.request_id not in room.requests:
                return pb.CancelReplyResponse()
            message_id = room.requests[request.request_id][1]
        room, reply = await self._message(message_id, context)
        if reply.state == Message.STATE_GENERATING:
            reply.state = Message.STATE_CANCELLED
            await self.tell(room, message=reply)
        return pb.CancelReplyResponse(message=reply)

    async def RateReply(self, request: pb.RateReplyRequest, context: Any) -> pb.RateReplyResponse:
        await self.enter(request, context)
        room, reply = await self._message(request.message_id, context)
        reply.rating = request.rating
        reply.rating_comment = request.comment if request.rating else ""
        await self.tell(room, message=reply)
        return pb.RateReplyResponse(message=reply)

    async def SearchMessages(
        self, request: pb.SearchMessagesRequest, context: Any
    ) -> pb.SearchMessagesResponse:
        await self.enter(request, context)
        hits = [
            pb.SearchMessagesResponse.Hit(message=message, snippet=f"«{request.query}»")
            for room in self.rooms.values()
            for message in room.messages.values()
            if request.query in message.content
        ]
        page, token = paged(hits, request.page_size, request.page_token)
        return pb.SearchMessagesResponse(hits=page, next_page_token=token)

    async def ListModels(
        self, request: pb.ListModelsRequest, context: Any
    ) -> pb.ListModelsResponse:
        await self.enter(request, context)
        models = [
            Model(
                id=name,
                provider="fake",
                available=True,
                context_window=8192,
                max_output_tokens=1024,
            )
            for name in MODELS
        ]
        models[0].input_kinds.extend([Attachment.KIND_IMAGE, Attachment.KIND_DOCUMENT])
        models.append(Model(id="no-key", provider="other", available=False, context_window=100))
        return pb.ListModelsResponse(models=models, default_model=MODELS[0])

    # --- Inside ---

    async def delete(self, room: Room) -> None:
        """Delete a conversation."""
        room.deleted = True
        await self.tell(room, deleted=ConversationEvent.Deleted())

    async def _room(self, conversation_id: str, context: Any) -> Room:
        room = self.rooms.get(conversation_id)
        if room is None or room.deleted:
            await refuse(
                context,
                grpc.StatusCode.NOT_FOUND,
                "CONVERSATION_NOT_FOUND",
                "there is no such conversation",
            )
        assert room is not None
        room.conversation.message_count = len(room.messages)
        return room

    async def _message(self, message_id: str, context: Any) -> tuple[Room, Message]:
        for room in self.rooms.values():
            if message_id in room.messages:
                return room, room.messages[message_id]
        return await refuse(
            context, grpc.StatusCode.NOT_FOUND, "MESSAGE_NOT_FOUND", "there is no such message"
        )

    async def _begin(self, room: Room, prompt: Message) -> ConversationEvent:
        script = self.scripts.popleft() if self.scripts else say("You said: ", prompt.content)
        reply = Message(
            id=new_id(),
            conversation_id=prompt.conversation_id,
            role=Message.ROLE_ASSISTANT,
            state=Message.STATE_GENERATING,
            attempt=1,
            reply_to=prompt.id,
            model=room.conversation.model,
            requested_model=script.requested_model or room.conversation.model,
        )
        room.messages[reply.id] = reply
        await self.tell(room, message=reply)
        accepted = self._accepted(room, reply)
        task = asyncio.create_task(self._write(room, reply, script))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return accepted

    def _accepted(self, room: Room, reply: Message) -> ConversationEvent:
        """A reply as it stands now, and the place in the log from which it goes on."""
        accepted = ConversationEvent.Accepted(message=room.messages[reply.reply_to], reply=reply)
        return ConversationEvent(resume_token=str(len(room.log)), accepted=accepted)

    async def _write(self, room: Room, reply: Message, script: Script) -> None:
        written = 0
        for number, pieces in enumerate(script.attempts, start=1):
            if number > 1:
                reply.attempt, reply.content = number, ""
                await self.tell(room, message=reply)
            for piece in pieces:
                if script.gate is not None and written == script.before_gate:
                    await script.gate.wait()
                if reply.state != Message.STATE_GENERATING:
                    return
                delta = ConversationEvent.Delta(
                    message_id=reply.id, attempt=number, offset=len(reply.content), text=piece
                )
                reply.content += piece
                written += 1
                await self.tell(room, delta=delta)
        if reply.state != Message.STATE_GENERATING:
            return
        reply.state = script.state
        reply.finish_reason = script.finish_reason
        if script.error is not None:
            reply.error.CopyFrom(script.error)
        await self.tell(room, message=reply)
        if self.title and not room.conversation.title:
            room.conversation.title = self.title
            await self.tell(room, conversation=room.conversation)

    async def tell(self, room: Room, **what: Any) -> None:
        """Have something happen in a conversation."""
        async with room.changed:
            room.log.append(ConversationEvent(resume_token=str(len(room.log) + 1), **what))
            room.changed.notify_all()

    async def _log(self, room: Room, start: int) -> AsyncIterator[ConversationEvent]:
        for index in itertools.count(start):
            async with room.changed:
                await room.changed.wait_for(lambda at=index: len(room.log) > at)  # type: ignore[misc]
            yield room.log[index]

    async def _reply_events(
        self, room: Room, accepted: ConversationEvent
    ) -> AsyncIterator[ConversationEvent]:
        yield accepted
        reply = accepted.accepted.reply
        if reply.state != Message.STATE_GENERATING:
            yield ConversationEvent(resume_token=accepted.resume_token, message=reply)
            return
        async for event in self._log(room, int(accepted.resume_token)):
            if reply.id in (event.delta.message_id, event.message.id):
                yield event
            if event.message.id == reply.id and event.message.state != Message.STATE_GENERATING:
                return

    async def _watch_events(self, room: Room, token: str) -> AsyncIterator[ConversationEvent]:
        start = int(token) if token else len(room.log)
        if not token:
            yield ConversationEvent(resume_token=str(start), conversation=room.conversation)
        if not token or self.resync:
            live = [m for m in room.messages.values() if m.state == Message.STATE_GENERATING]
            changed = {event.message.id for event in room.log[start:]} | {
                event.delta.message_id for event in room.log[start:]
            }
            told = [room.messages[name] for name in room.messages if name in changed]
            titled = any(event.HasField("conversation") for event in room.log[start:])
            start = len(room.log)
            for message in told if token else live:
                yield ConversationEvent(resume_token=str(start), message=message)
            if token and titled:
                yield ConversationEvent(resume_token=str(start), conversation=room.conversation)
        if self.on_watch is not None:
            await self.on_watch()
        async for event in self._log(room, start):
            yield event
            if event.HasField("deleted"):
                return

    async def _stream(
        self, context: Any, events: AsyncIterator[ConversationEvent]
    ) -> AsyncIterator[ConversationEvent]:
        left, status = self.breaks.popleft() if self.breaks else (-1, None)
        self.open_streams += 1
        try:
            while left != 0:
                left -= 1
                try:
                    yield await anext(events)
                except StopAsyncIteration:
                    return
            assert status is not None
            await context.abort_with_status(rpc_status.to_status(status))
        finally:
            self.open_streams -= 1

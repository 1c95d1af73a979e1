"""Each call of the API, described once for both clients.

A function here takes what a client's method of the same name takes and returns the call to make: a
method whose answer holds one thing returns that thing, others return the answer as it is.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, Self, TypeVar

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from colloquy.api import attachment_service_pb2 as attachment_pb
from colloquy.api import conversation_service_pb2 as pb
from colloquy.api.admin_service_pb2_grpc import AdminServiceStub
from colloquy.api.attachment_service_pb2_grpc import AttachmentServiceStub
from colloquy.api.conversation_service_pb2_grpc import ConversationServiceStub
from colloquy.api.resources_pb2 import (
    Attachment,
    Conversation,
    Message,
    Rating,
    UsageGroup,
    User,
)
from colloquy.api.session_service_pb2_grpc import SessionServiceStub

Request = TypeVar("Request")
Response = TypeVar("Response")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Stubs:
    """The services of one channel."""

    conversations: ConversationServiceStub
    attachments: AttachmentServiceStub
    admin: AdminServiceStub
    sessions: SessionServiceStub

    @classmethod
    def over(cls, channel: Any) -> Self:
        """Return the stubs of a channel, sync or asyncio as it is."""
        return cls(
            ConversationServiceStub(channel),
            AttachmentServiceStub(channel),
            AdminServiceStub(channel),
            SessionServiceStub(channel),
        )


@dataclass(frozen=True)
class Call(Generic[Request, Response, Answer]):
    """A call that answers once. One that is `repeatable` does no harm when it is made twice."""

    method: Callable[[Stubs], grpc.UnaryUnaryMultiCallable[Request, Response]]
    request: Request
    answer: Callable[[Response], Answer]
    repeatable: bool = True


@dataclass(frozen=True)
class StreamCall(Generic[Request, Response]):
    """A call whose answers come one after another."""

    method: Callable[[Stubs], grpc.UnaryStreamMultiCallable[Request, Response]]
    request: Request


def new_request_id() -> str:
    """Return a name for a request, so that it can be repeated."""
    return str(uuid.uuid4())


def create_conversation(
    *,
    title: str = "",
    model: str = "",
    system_prompt: str = "",
    external_id: str = "",
    request_id: str = "",
    visibility: Conversation.Visibility.ValueType = Conversation.VISIBILITY_UNSPECIFIED,
    author: User | None = None,
    expire_time: datetime | None = None,
) -> Call[pb.CreateConversationRequest, pb.CreateConversationResponse, Conversation]:
    """Make a conversation. One whose external_id or request_id exists is returned as it is.

    Who sees it is what the account has for new ones, if no `visibility` is given. At its
    `expire_time`, which must know its time zone, it is deleted.
    """
    request = pb.CreateConversationRequest(
        title=title,
        model=model,
        system_prompt=system_prompt,
        external_id=external_id,
        request_id=request_id or new_request_id(),
        visibility=visibility,
        author=author,
    )
    if expire_time is not None:
        request.expire_time.FromDatetime(expire_time)
    return Call(lambda to: to.conversations.CreateConversation, request, lambda a: a.conversation)


def get_conversation(
    conversation_id: str,
) -> Call[pb.GetConversationRequest, pb.GetConversationResponse, pb.GetConversationResponse]:
    """Return a conversation, and a token to watch it from now on."""
    request = pb.GetConversationRequest(conversation_id=conversation_id)
    return Call(lambda to: to.conversations.GetConversation, request, whole)


def list_conversations(
    *,
    page_size: int = 0,
    page_token: str = "",
    participant_external_id: str = "",
    archived: bool | None = None,
    pinned: bool | None = None,
) -> Call[pb.ListConversationsRequest, pb.ListConversationsResponse, pb.ListConversationsResponse]:
    """Return a page of the conversations, the one with the latest activity first: of those that
    are archived or pinned, or are not, or, where None is given, of both."""
    request = pb.ListConversationsRequest(
        page_size=page_size,
        page_token=page_token,
        participant_external_id=participant_external_id,
        archived=archived,
        pinned=pinned,
    )
    return Call(lambda to: to.conversations.ListConversations, request, whole)


def update_conversation(
    conversation_id: str,
    *,
    title: str | None = None,
    model: str | None = None,
    system_prompt: str | None = None,
    visibility: Conversation.Visibility.ValueType | None = None,
    archived: bool | None = None,
    pinned: bool | None = None,
    expire_time: datetime | Literal["never"] | None = None,
) -> Call[pb.UpdateConversationRequest, pb.UpdateConversationResponse, Conversation]:
    """Change what is given, leave what is None. `pinned` is the caller's own matter; of an
    `expire_time`, which must know its time zone, "never" takes away what was set."""
    given = {
        "title": title,
        "model": model,
        "system_prompt": system_prompt,
        "visibility": visibility,
        "archived": archived,
        "pinned": pinned,
        "expire_time": expire_time,
    }
    request = pb.UpdateConversationRequest(
        conversation=Conversation(
            id=conversation_id,
            title=title or "",
            model=model or "",
            system_prompt=system_prompt or "",
            visibility=visibility or Conversation.VISIBILITY_UNSPECIFIED,
            archived=bool(archived),
            pinned=bool(pinned),
        ),
        update_mask=FieldMask(paths=[name for name, value in given.items() if value is not None]),
    )
    if isinstance(expire_time, datetime):
        request.conversation.expire_time.FromDatetime(expire_time)
    return Call(lambda to: to.conversations.UpdateConversation, request, lambda a: a.conversation)


def delete_conversation(
    conversation_id: str,
) -> Call[pb.DeleteConversationRequest, pb.DeleteConversationResponse, None]:
    """Delete a conversation with its messages and files."""
    request = pb.DeleteConversationRequest(conversation_id=conversation_id)
    return Call(lambda to: to.conversations.DeleteConversation, request, nothing, repeatable=False)


def add_participants(
    conversation_id: str, users: Sequence[User]
) -> Call[pb.AddParticipantsRequest, pb.AddParticipantsResponse, Conversation]:
    """Invite people, each named by `id` or `external_id`, who then see the conversation."""
    request = pb.AddParticipantsRequest(conversation_id=conversation_id, users=users)
    return Call(lambda to: to.conversations.AddParticipants, request, lambda a: a.conversation)


def remove_participant(
    conversation_id: str, user_id: str
) -> Call[pb.RemoveParticipantRequest, pb.RemoveParticipantResponse, Conversation | None]:
    """Take somebody out of a conversation.

    Returns the conversation; None when that was oneself, who sees it no more.
    """
    request = pb.RemoveParticipantRequest(conversation_id=conversation_id, user_id=user_id)
    return Call(
        lambda to: to.conversations.RemoveParticipant,
        request,
        lambda a: a.conversation if a.HasField("conversation") else None,
        repeatable=False,
    )


def mark_read(
    conversation_id: str, message_id: str, *, author: User | None = None
) -> Call[pb.MarkReadRequest, pb.MarkReadResponse, Conversation]:
    """Say that a conversation was read up to a message, and return it as it then is to who did."""
    request = pb.MarkReadRequest(
        conversation_id=conversation_id, message_id=message_id, author=author
    )
    return Call(lambda to: to.conversations.MarkRead, request, lambda a: a.conversation)


def list_users(
    *, query: str = "", page_size: int = 0, page_token: str = ""
) -> Call[pb.ListUsersRequest, pb.ListUsersResponse, pb.ListUsersResponse]:
    """Return a page of the account's people by their names, or of those with a word that begins
    like `query`."""
    request = pb.ListUsersRequest(query=query, page_size=page_size, page_token=page_token)
    return Call(lambda to: to.conversations.ListUsers, request, whole)


def list_messages(
    conversation_id: str, *, page_size: int = 0, page_token: str = "", from_end: bool = False
) -> Call[pb.ListMessagesRequest, pb.ListMessagesResponse, pb.ListMessagesResponse]:
    """Return a page of the messages, oldest first, and a token to watch from now on. `from_end`
    begins with the page that holds the newest."""
    request = pb.ListMessagesRequest(
        conversation_id=conversation_id,
        page_size=page_size,
        page_token=page_token,
        from_end=from_end,
    )
    return Call(lambda to: to.conversations.ListMessages, request, whole)


def get_message(message_id: str) -> Call[pb.GetMessageRequest, pb.GetMessageResponse, Message]:
    """Return a message, a reply with the receipt of its context."""
    request = pb.GetMessageRequest(message_id=message_id)
    return Call(lambda to: to.conversations.GetMessage, request, lambda a: a.message)


def delete_message(
    message_id: str,
) -> Call[pb.DeleteMessageRequest, pb.DeleteMessageResponse, None]:
    """Delete a user's message with its files and the replies to it."""
    request = pb.DeleteMessageRequest(message_id=message_id)
    return Call(lambda to: to.conversations.DeleteMessage, request, nothing)


def cancel_reply(
    message_id: str = "", *, conversation_id: str = "", request_id: str = ""
) -> Call[pb.CancelReplyRequest, pb.CancelReplyResponse, Message | None]:
    """Stop a reply, named by its id or by the request that it answers.

    Returns the reply as it then stands; None when the request has not come yet: it will be
    cancelled when it does.
    """
    request = pb.CancelReplyRequest(
        message_id=message_id, conversation_id=conversation_id, request_id=request_id
    )
    return Call(
        lambda to: to.conversations.CancelReply,
        request,
        lambda a: a.message if a.HasField("message") else None,
    )


def rate_reply(
    message_id: str, rating: Rating.ValueType, *, comment: str = "", author: User | None = None
) -> Call[pb.RateReplyRequest, pb.RateReplyResponse, Message]:
    """Rate a reply; RATING_UNSPECIFIED takes the rating back."""
    request = pb.RateReplyRequest(
        message_id=message_id, rating=rating, comment=comment, author=author
    )
    return Call(lambda to: to.conversations.RateReply, request, lambda a: a.message)


def search_messages(
    query: str, *, conversation_id: str = "", page_size: int = 0, page_token: str = ""
) -> Call[pb.SearchMessagesRequest, pb.SearchMessagesResponse, pb.SearchMessagesResponse]:
    """Return a page of the messages that hold the words, newest first."""
    request = pb.SearchMessagesRequest(
        query=query, conversation_id=conversation_id, page_size=page_size, page_token=page_token
    )
    return Call(lambda to: to.conversations.SearchMessages, request, whole)


def list_models() -> Call[pb.ListModelsRequest, pb.ListModelsResponse, pb.ListModelsResponse]:
    """Return the models, and which one new conversations get."""
    return Call(lambda to: to.conversations.ListModels, pb.ListModelsRequest(), whole)


def get_usage(
    *,
    start_day: str = "",
    end_day: str = "",
    group_by: Sequence[UsageGroup.ValueType] = (),
    user_id: str = "",
) -> Call[pb.GetUsageRequest, pb.GetUsageResponse, pb.GetUsageResponse]:
    """Return what was used, in rows that are apart in `group_by`, and the budgets that apply.

    Days are those of UTC, like "2026-11-01": from the first of this month to today if they are not
    given. `user_id` is whose usage is wanted; without it, of all whom the caller may see.
    """
    request = pb.GetUsageRequest(
        start_day=start_day, end_day=end_day, group_by=group_by, user_id=user_id
    )
    return Call(lambda to: to.conversations.GetUsage, request, whole)


def get_attachment(
    attachment_id: str,
) -> Call[attachment_pb.GetAttachmentRequest, attachment_pb.GetAttachmentResponse, Attachment]:
    """Return what is known of a file."""
    request = attachment_pb.GetAttachmentRequest(attachment_id=attachment_id)
    return Call(lambda to: to.attachments.GetAttachment, request, lambda a: a.attachment)


def send_message(
    conversation_id: str,
    content: str,
    *,
    attachment_ids: Sequence[str] = (),
    author: User | None = None,
    request_id: str = "",
    on_busy: pb.OnBusy.ValueType = pb.ON_BUSY_UNSPECIFIED,
) -> StreamCall[pb.SendMessageRequest, pb.SendMessageResponse]:
    """Say something and follow the reply. The request is named, so that it can be repeated."""
    request = pb.SendMessageRequest(
        conversation_id=conversation_id,
        content=content,
        attachment_ids=attachment_ids,
        author=author,
        request_id=request_id or new_request_id(),
        on_busy=on_busy,
    )
    return StreamCall(lambda to: to.conversations.SendMessage, request)


def regenerate_reply(
    message_id: str, *, model: str = "", request_id: str = ""
) -> StreamCall[pb.RegenerateReplyRequest, pb.RegenerateReplyResponse]:
    """Have a reply made again and follow it. The request is named, as that of `send_message`."""
    request = pb.RegenerateReplyRequest(
        message_id=message_id, model=model, request_id=request_id or new_request_id()
    )
    return StreamCall(lambda to: to.conversations.RegenerateReply, request)


def watch_conversation(
    conversation_id: str, resume_token: str
) -> StreamCall[pb.WatchConversationRequest, pb.WatchConversationResponse]:
    """Follow a conversation, from a token on or from now."""
    request = pb.WatchConversationRequest(
        conversation_id=conversation_id, resume_token=resume_token
    )
    return StreamCall(lambda to: to.conversations.WatchConversation, request)


def watch_conversations(
    resume_token: str,
) -> StreamCall[pb.WatchConversationsRequest, pb.WatchConversationsResponse]:
    """Follow all conversations, from a token on or from now."""
    request = pb.WatchConversationsRequest(resume_token=resume_token)
    return StreamCall(lambda to: to.conversations.WatchConversations, request)


def download_attachment(
    attachment_id: str,
) -> StreamCall[attachment_pb.DownloadAttachmentRequest, attachment_pb.DownloadAttachmentResponse]:
    """Return what is known of a file, then its bytes."""
    request = attachment_pb.DownloadAttachmentRequest(attachment_id=attachment_id)
    return StreamCall(lambda to: to.attachments.DownloadAttachment, request)


def whole(answer: Answer) -> Answer:
    """Return an answer as it is."""
    return answer


def nothing(answer: object) -> None:
    """Return nothing of an answer."""

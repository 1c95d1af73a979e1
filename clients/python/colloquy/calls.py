"""Each call of the API, described once for both clients.

A function here takes what a client's method of the same name takes and returns the call to make: a
method whose answer holds one thing returns that thing, others return the answer as it is.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Self, TypeVar

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from colloquy.api import admin_service_pb2 as admin_pb
from colloquy.api import attachment_service_pb2 as attachment_pb
from colloquy.api import conversation_service_pb2 as pb
from colloquy.api.admin_service_pb2 import Account, ApiKey
from colloquy.api.admin_service_pb2_grpc import AdminServiceStub
from colloquy.api.attachment_service_pb2_grpc import AttachmentServiceStub
from colloquy.api.conversation_service_pb2_grpc import ConversationServiceStub
from colloquy.api.resources_pb2 import Attachment, Conversation, Message, Rating, User

Request = TypeVar("Request")
Response = TypeVar("Response")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Stubs:
    """The services of one channel."""

    conversations: ConversationServiceStub
    attachments: AttachmentServiceStub
    admin: AdminServiceStub

    @classmethod
    def over(cls, channel: Any) -> Self:
        """Return the stubs of a channel, sync or asyncio as it is."""
        return cls(
            ConversationServiceStub(channel),
            AttachmentServiceStub(channel),
            AdminServiceStub(channel),
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
) -> Call[pb.CreateConversationRequest, pb.CreateConversationResponse, Conversation]:
    """Make a conversation. One whose external_id or request_id exists is returned as it is."""
    request = pb.CreateConversationRequest(
        title=title,
        model=model,
        system_prompt=system_prompt,
        external_id=external_id,
        request_id=request_id or new_request_id(),
    )
    return Call(lambda to: to.conversations.CreateConversation, request, lambda a: a.conversation)


def get_conversation(
    conversation_id: str,
) -> Call[pb.GetConversationRequest, pb.GetConversationResponse, pb.GetConversationResponse]:
    """Return a conversation, and a token to watch it from now on."""
    request = pb.GetConversationRequest(conversation_id=conversation_id)
    return Call(lambda to: to.conversations.GetConversation, request, _whole)


def list_conversations(
    *, page_size: int = 0, page_token: str = "", participant_external_id: str = ""
) -> Call[pb.ListConversationsRequest, pb.ListConversationsResponse, pb.ListConversationsResponse]:
    """Return a page of the conversations, the one with the latest activity first."""
    request = pb.ListConversationsRequest(
        page_size=page_size,
        page_token=page_token,
        participant_external_id=participant_external_id,
    )
    return Call(lambda to: to.conversations.ListConversations, request, _whole)


def update_conversation(
    conversation_id: str,
    *,
    title: str | None = None,
    model: str | None = None,
    system_prompt: str | None = None,
) -> Call[pb.UpdateConversationRequest, pb.UpdateConversationResponse, Conversation]:
    """Change what is given, leave what is None."""
    given = {"title": title, "model": model, "system_prompt": system_prompt}
    request = pb.UpdateConversationRequest(
        conversation=Conversation(
            id=conversation_id,
            title=title or "",
            model=model or "",
            system_prompt=system_prompt or "",
        ),
        update_mask=FieldMask(paths=[name for name, value in given.items() if value is not None]),
    )
    return Call(lambda to: to.conversations.UpdateConversation, request, lambda a: a.conversation)


def delete_conversation(
    conversation_id: str,
) -> Call[pb.DeleteConversationRequest, pb.DeleteConversationResponse, None]:
    """Delete a conversation with its messages and files."""
    request = pb.DeleteConversationRequest(conversation_id=conversation_id)
    return Call(lambda to: to.conversations.DeleteConversation, request, _nothing, repeatable=False)


def list_messages(
    conversation_id: str, *, page_size: int = 0, page_token: str = ""
) -> Call[pb.ListMessagesRequest, pb.ListMessagesResponse, pb.ListMessagesResponse]:
    """Return a page of the messages, oldest first, and a token to watch from now on."""
    request = pb.ListMessagesRequest(
        conversation_id=conversation_id, page_size=page_size, page_token=page_token
    )
    return Call(lambda to: to.conversations.ListMessages, request, _whole)


def get_message(message_id: str) -> Call[pb.GetMessageRequest, pb.GetMessageResponse, Message]:
    """Return a message, a reply with the receipt of its context."""
    request = pb.GetMessageRequest(message_id=message_id)
    return Call(lambda to: to.conversations.GetMessage, request, lambda a: a.message)


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
    return Call(lambda to: to.conversations.SearchMessages, request, _whole)


def list_models() -> Call[pb.ListModelsRequest, pb.ListModelsResponse, pb.ListModelsResponse]:
    """Return the models, and which one new conversations get."""
    return Call(lambda to: to.conversations.ListModels, pb.ListModelsRequest(), _whole)


def get_attachment(
    attachment_id: str,
) -> Call[attachment_pb.GetAttachmentRequest, attachment_pb.GetAttachmentResponse, Attachment]:
    """Return what is known of a file."""
    request = attachment_pb.GetAttachmentRequest(attachment_id=attachment_id)
    return Call(lambda to: to.attachments.GetAttachment, request, lambda a: a.attachment)


def create_account(
    name: str, *, external_id: str = ""
) -> Call[admin_pb.CreateAccountRequest, admin_pb.CreateAccountResponse, Account]:
    """Make an account. One whose external_id exists is returned as it is."""
    request = admin_pb.CreateAccountRequest(name=name, external_id=external_id)
    # Only an external_id tells a repetition from a second account.
    return Call(
        lambda to: to.admin.CreateAccount,
        request,
        lambda a: a.account,
        repeatable=bool(external_id),
    )


def list_accounts(
    *, page_size: int = 0, page_token: str = ""
) -> Call[
    admin_pb.ListAccountsRequest, admin_pb.ListAccountsResponse, admin_pb.ListAccountsResponse
]:
    """Return a page of the accounts, oldest first."""
    request = admin_pb.ListAccountsRequest(page_size=page_size, page_token=page_token)
    return Call(lambda to: to.admin.ListAccounts, request, _whole)


def delete_account(
    account_id: str,
) -> Call[admin_pb.DeleteAccountRequest, admin_pb.DeleteAccountResponse, None]:
    """Delete an account with everything in it."""
    request = admin_pb.DeleteAccountRequest(account_id=account_id)
    return Call(lambda to: to.admin.DeleteAccount, request, _nothing, repeatable=False)


def create_api_key(
    account_id: str,
    name: str,
    *,
    role: ApiKey.Role.ValueType = ApiKey.ROLE_SERVICE,
    user: User | None = None,
    expire_time: datetime | None = None,
) -> Call[
    admin_pb.CreateApiKeyRequest, admin_pb.CreateApiKeyResponse, admin_pb.CreateApiKeyResponse
]:
    """Make a key. `secret` of the answer cannot be shown again. `user` is for a member's key.

    `expire_time` must know its time zone.
    """
    request = admin_pb.CreateApiKeyRequest(account_id=account_id, name=name, role=role, user=user)
    if expire_time is not None:
        request.expire_time.FromDatetime(expire_time)
    return Call(lambda to: to.admin.CreateApiKey, request, _whole, repeatable=False)


def list_api_keys(
    account_id: str, *, page_size: int = 0, page_token: str = ""
) -> Call[admin_pb.ListApiKeysRequest, admin_pb.ListApiKeysResponse, admin_pb.ListApiKeysResponse]:
    """Return a page of an account's keys, oldest first, revoked ones too."""
    request = admin_pb.ListApiKeysRequest(
        account_id=account_id, page_size=page_size, page_token=page_token
    )
    return Call(lambda to: to.admin.ListApiKeys, request, _whole)


def revoke_api_key(
    api_key_id: str,
) -> Call[admin_pb.RevokeApiKeyRequest, admin_pb.RevokeApiKeyResponse, ApiKey]:
    """Revoke a key."""
    request = admin_pb.RevokeApiKeyRequest(api_key_id=api_key_id)
    return Call(lambda to: to.admin.RevokeApiKey, request, lambda a: a.api_key)


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


def download_attachment(
    attachment_id: str,
) -> StreamCall[attachment_pb.DownloadAttachmentRequest, attachment_pb.DownloadAttachmentResponse]:
    """Return what is known of a file, then its bytes."""
    request = attachment_pb.DownloadAttachmentRequest(attachment_id=attachment_id)
    return StreamCall(lambda to: to.attachments.DownloadAttachment, request)


def _whole(answer: Answer) -> Answer:
    return answer


def _nothing(answer: object) -> None:
    return None

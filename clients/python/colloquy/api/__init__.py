"""The API `conversation.v1`: its messages, enums and stubs. Generated, do not edit.

What each means is said in the protos, and in the stub files beside this one.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from colloquy.api.admin_service_pb2 import Account
    from colloquy.api.admin_service_pb2_grpc import AdminServiceStub
    from colloquy.api.admin_service_pb2 import ApiKey
    from colloquy.api.resources_pb2 import Attachment
    from colloquy.api.attachment_service_pb2_grpc import AttachmentServiceStub
    from colloquy.api.conversation_service_pb2 import CancelReplyRequest
    from colloquy.api.conversation_service_pb2 import CancelReplyResponse
    from colloquy.api.resources_pb2 import ContextReceipt
    from colloquy.api.resources_pb2 import Conversation
    from colloquy.api.conversation_service_pb2 import ConversationEvent
    from colloquy.api.conversation_service_pb2_grpc import ConversationServiceStub
    from colloquy.api.admin_service_pb2 import CreateAccountRequest
    from colloquy.api.admin_service_pb2 import CreateAccountResponse
    from colloquy.api.admin_service_pb2 import CreateApiKeyRequest
    from colloquy.api.admin_service_pb2 import CreateApiKeyResponse
    from colloquy.api.conversation_service_pb2 import CreateConversationRequest
    from colloquy.api.conversation_service_pb2 import CreateConversationResponse
    from colloquy.api.admin_service_pb2 import DeleteAccountRequest
    from colloquy.api.admin_service_pb2 import DeleteAccountResponse
    from colloquy.api.conversation_service_pb2 import DeleteConversationRequest
    from colloquy.api.conversation_service_pb2 import DeleteConversationResponse
    from colloquy.api.attachment_service_pb2 import DownloadAttachmentRequest
    from colloquy.api.attachment_service_pb2 import DownloadAttachmentResponse
    from colloquy.api.error_reason_pb2 import ERROR_REASON_ACCOUNT_NOT_FOUND
    from colloquy.api.error_reason_pb2 import ERROR_REASON_API_KEY_NOT_FOUND
    from colloquy.api.error_reason_pb2 import ERROR_REASON_ATTACHMENT_NOT_FOUND
    from colloquy.api.error_reason_pb2 import ERROR_REASON_ATTACHMENT_TOO_LARGE
    from colloquy.api.error_reason_pb2 import ERROR_REASON_ATTACHMENT_UNSUPPORTED
    from colloquy.api.error_reason_pb2 import ERROR_REASON_CONTENT_FILTERED
    from colloquy.api.error_reason_pb2 import ERROR_REASON_CONVERSATION_BUSY
    from colloquy.api.error_reason_pb2 import ERROR_REASON_CONVERSATION_NOT_FOUND
    from colloquy.api.error_reason_pb2 import ERROR_REASON_INTERNAL
    from colloquy.api.error_reason_pb2 import ERROR_REASON_INVALID_FIELD
    from colloquy.api.error_reason_pb2 import ERROR_REASON_MESSAGE_NOT_FOUND
    from colloquy.api.error_reason_pb2 import ERROR_REASON_MESSAGE_TOO_LONG
    from colloquy.api.error_reason_pb2 import ERROR_REASON_MODEL_UNAVAILABLE
    from colloquy.api.error_reason_pb2 import ERROR_REASON_MODEL_UNKNOWN
    from colloquy.api.error_reason_pb2 import ERROR_REASON_PERMISSION_DENIED
    from colloquy.api.error_reason_pb2 import ERROR_REASON_PROVIDER_AUTHENTICATION
    from colloquy.api.error_reason_pb2 import ERROR_REASON_PROVIDER_QUOTA
    from colloquy.api.error_reason_pb2 import ERROR_REASON_PROVIDER_RATE_LIMITED
    from colloquy.api.error_reason_pb2 import ERROR_REASON_PROVIDER_REJECTED
    from colloquy.api.error_reason_pb2 import ERROR_REASON_PROVIDER_TIMEOUT
    from colloquy.api.error_reason_pb2 import ERROR_REASON_PROVIDER_UNAVAILABLE
    from colloquy.api.error_reason_pb2 import ERROR_REASON_QUEUE_FULL
    from colloquy.api.error_reason_pb2 import ERROR_REASON_RATE_LIMITED
    from colloquy.api.error_reason_pb2 import ERROR_REASON_REPLY_ABANDONED
    from colloquy.api.error_reason_pb2 import ERROR_REASON_REQUEST_ID_REUSED
    from colloquy.api.error_reason_pb2 import ERROR_REASON_UNAUTHENTICATED
    from colloquy.api.error_reason_pb2 import ERROR_REASON_UNSPECIFIED
    from colloquy.api.resources_pb2 import Error
    from colloquy.api.error_reason_pb2 import ErrorReason
    from colloquy.api.attachment_service_pb2 import GetAttachmentRequest
    from colloquy.api.attachment_service_pb2 import GetAttachmentResponse
    from colloquy.api.conversation_service_pb2 import GetConversationRequest
    from colloquy.api.conversation_service_pb2 import GetConversationResponse
    from colloquy.api.conversation_service_pb2 import GetMessageRequest
    from colloquy.api.conversation_service_pb2 import GetMessageResponse
    from colloquy.api.admin_service_pb2 import ListAccountsRequest
    from colloquy.api.admin_service_pb2 import ListAccountsResponse
    from colloquy.api.admin_service_pb2 import ListApiKeysRequest
    from colloquy.api.admin_service_pb2 import ListApiKeysResponse
    from colloquy.api.conversation_service_pb2 import ListConversationsRequest
    from colloquy.api.conversation_service_pb2 import ListConversationsResponse
    from colloquy.api.conversation_service_pb2 import ListMessagesRequest
    from colloquy.api.conversation_service_pb2 import ListMessagesResponse
    from colloquy.api.conversation_service_pb2 import ListModelsRequest
    from colloquy.api.conversation_service_pb2 import ListModelsResponse
    from colloquy.api.resources_pb2 import Message
    from colloquy.api.resources_pb2 import Model
    from colloquy.api.conversation_service_pb2 import ON_BUSY_ENQUEUE
    from colloquy.api.conversation_service_pb2 import ON_BUSY_INTERRUPT
    from colloquy.api.conversation_service_pb2 import ON_BUSY_REJECT
    from colloquy.api.conversation_service_pb2 import ON_BUSY_UNSPECIFIED
    from colloquy.api.conversation_service_pb2 import OnBusy
    from colloquy.api.resources_pb2 import RATING_BAD
    from colloquy.api.resources_pb2 import RATING_GOOD
    from colloquy.api.resources_pb2 import RATING_UNSPECIFIED
    from colloquy.api.conversation_service_pb2 import RateReplyRequest
    from colloquy.api.conversation_service_pb2 import RateReplyResponse
    from colloquy.api.resources_pb2 import Rating
    from colloquy.api.conversation_service_pb2 import RegenerateReplyRequest
    from colloquy.api.conversation_service_pb2 import RegenerateReplyResponse
    from colloquy.api.admin_service_pb2 import RevokeApiKeyRequest
    from colloquy.api.admin_service_pb2 import RevokeApiKeyResponse
    from colloquy.api.conversation_service_pb2 import SearchMessagesRequest
    from colloquy.api.conversation_service_pb2 import SearchMessagesResponse
    from colloquy.api.conversation_service_pb2 import SendMessageRequest
    from colloquy.api.conversation_service_pb2 import SendMessageResponse
    from colloquy.api.conversation_service_pb2 import UpdateConversationRequest
    from colloquy.api.conversation_service_pb2 import UpdateConversationResponse
    from colloquy.api.attachment_service_pb2 import UploadAttachmentRequest
    from colloquy.api.attachment_service_pb2 import UploadAttachmentResponse
    from colloquy.api.resources_pb2 import Usage
    from colloquy.api.resources_pb2 import User
    from colloquy.api.conversation_service_pb2 import WatchConversationRequest
    from colloquy.api.conversation_service_pb2 import WatchConversationResponse

__all__ = [
    "Account",
    "AdminServiceStub",
    "ApiKey",
    "Attachment",
    "AttachmentServiceStub",
    "CancelReplyRequest",
    "CancelReplyResponse",
    "ContextReceipt",
    "Conversation",
    "ConversationEvent",
    "ConversationServiceStub",
    "CreateAccountRequest",
    "CreateAccountResponse",
    "CreateApiKeyRequest",
    "CreateApiKeyResponse",
    "CreateConversationRequest",
    "CreateConversationResponse",
    "DeleteAccountRequest",
    "DeleteAccountResponse",
    "DeleteConversationRequest",
    "DeleteConversationResponse",
    "DownloadAttachmentRequest",
    "DownloadAttachmentResponse",
    "ERROR_REASON_ACCOUNT_NOT_FOUND",
    "ERROR_REASON_API_KEY_NOT_FOUND",
    "ERROR_REASON_ATTACHMENT_NOT_FOUND",
    "ERROR_REASON_ATTACHMENT_TOO_LARGE",
    "ERROR_REASON_ATTACHMENT_UNSUPPORTED",
    "ERROR_REASON_CONTENT_FILTERED",
    "ERROR_REASON_CONVERSATION_BUSY",
    "ERROR_REASON_CONVERSATION_NOT_FOUND",
    "ERROR_REASON_INTERNAL",
    "ERROR_REASON_INVALID_FIELD",
    "ERROR_REASON_MESSAGE_NOT_FOUND",
    "ERROR_REASON_MESSAGE_TOO_LONG",
    "ERROR_REASON_MODEL_UNAVAILABLE",
    "ERROR_REASON_MODEL_UNKNOWN",
    "ERROR_REASON_PERMISSION_DENIED",
    "ERROR_REASON_PROVIDER_AUTHENTICATION",
    "ERROR_REASON_PROVIDER_QUOTA",
    "ERROR_REASON_PROVIDER_RATE_LIMITED",
    "ERROR_REASON_PROVIDER_REJECTED",
    "ERROR_REASON_PROVIDER_TIMEOUT",
    "ERROR_REASON_PROVIDER_UNAVAILABLE",
    "ERROR_REASON_QUEUE_FULL",
    "ERROR_REASON_RATE_LIMITED",
    "ERROR_REASON_REPLY_ABANDONED",
    "ERROR_REASON_REQUEST_ID_REUSED",
    "ERROR_REASON_UNAUTHENTICATED",
    "ERROR_REASON_UNSPECIFIED",
    "Error",
    "ErrorReason",
    "GetAttachmentRequest",
    "GetAttachmentResponse",
    "GetConversationRequest",
    "GetConversationResponse",
    "GetMessageRequest",
    "GetMessageResponse",
    "ListAccountsRequest",
    "ListAccountsResponse",
    "ListApiKeysRequest",
    "ListApiKeysResponse",
    "ListConversationsRequest",
    "ListConversationsResponse",
    "ListMessagesRequest",
    "ListMessagesResponse",
    "ListModelsRequest",
    "ListModelsResponse",
    "Message",
    "Model",
    "ON_BUSY_ENQUEUE",
    "ON_BUSY_INTERRUPT",
    "ON_BUSY_REJECT",
    "ON_BUSY_UNSPECIFIED",
    "OnBusy",
    "RATING_BAD",
    "RATING_GOOD",
    "RATING_UNSPECIFIED",
    "RateReplyRequest",
    "RateReplyResponse",
    "Rating",
    "RegenerateReplyRequest",
    "RegenerateReplyResponse",
    "RevokeApiKeyRequest",
    "RevokeApiKeyResponse",
    "SearchMessagesRequest",
    "SearchMessagesResponse",
    "SendMessageRequest",
    "SendMessageResponse",
    "UpdateConversationRequest",
    "UpdateConversationResponse",
    "UploadAttachmentRequest",
    "UploadAttachmentResponse",
    "Usage",
    "User",
    "WatchConversationRequest",
    "WatchConversationResponse",
]

_MODULES = {
    "Account": "admin_service_pb2",
    "AdminServiceStub": "admin_service_pb2_grpc",
    "ApiKey": "admin_service_pb2",
    "Attachment": "resources_pb2",
    "AttachmentServiceStub": "attachment_service_pb2_grpc",
    "CancelReplyRequest": "conversation_service_pb2",
    "CancelReplyResponse": "conversation_service_pb2",
    "ContextReceipt": "resources_pb2",
    "Conversation": "resources_pb2",
    "ConversationEvent": "conversation_service_pb2",
    "ConversationServiceStub": "conversation_service_pb2_grpc",
    "CreateAccountRequest": "admin_service_pb2",
    "CreateAccountResponse": "admin_service_pb2",
    "CreateApiKeyRequest": "admin_service_pb2",
    "CreateApiKeyResponse": "admin_service_pb2",
    "CreateConversationRequest": "conversation_service_pb2",
    "CreateConversationResponse": "conversation_service_pb2",
    "DeleteAccountRequest": "admin_service_pb2",
    "DeleteAccountResponse": "admin_service_pb2",
    "DeleteConversationRequest": "conversation_service_pb2",
    "DeleteConversationResponse": "conversation_service_pb2",
    "DownloadAttachmentRequest": "attachment_service_pb2",
    "DownloadAttachmentResponse": "attachment_service_pb2",
    "ERROR_REASON_ACCOUNT_NOT_FOUND": "error_reason_pb2",
    "ERROR_REASON_API_KEY_NOT_FOUND": "error_reason_pb2",
    "ERROR_REASON_ATTACHMENT_NOT_FOUND": "error_reason_pb2",
    "ERROR_REASON_ATTACHMENT_TOO_LARGE": "error_reason_pb2",
    "ERROR_REASON_ATTACHMENT_UNSUPPORTED": "error_reason_pb2",
    "ERROR_REASON_CONTENT_FILTERED": "error_reason_pb2",
    "ERROR_REASON_CONVERSATION_BUSY": "error_reason_pb2",
    "ERROR_REASON_CONVERSATION_NOT_FOUND": "error_reason_pb2",
    "ERROR_REASON_INTERNAL": "error_reason_pb2",
    "ERROR_REASON_INVALID_FIELD": "error_reason_pb2",
    "ERROR_REASON_MESSAGE_NOT_FOUND": "error_reason_pb2",
    "ERROR_REASON_MESSAGE_TOO_LONG": "error_reason_pb2",
    "ERROR_REASON_MODEL_UNAVAILABLE": "error_reason_pb2",
    "ERROR_REASON_MODEL_UNKNOWN": "error_reason_pb2",
    "ERROR_REASON_PERMISSION_DENIED": "error_reason_pb2",
    "ERROR_REASON_PROVIDER_AUTHENTICATION": "error_reason_pb2",
    "ERROR_REASON_PROVIDER_QUOTA": "error_reason_pb2",
    "ERROR_REASON_PROVIDER_RATE_LIMITED": "error_reason_pb2",
    "ERROR_REASON_PROVIDER_REJECTED": "error_reason_pb2",
    "ERROR_REASON_PROVIDER_TIMEOUT": "error_reason_pb2",
    "ERROR_REASON_PROVIDER_UNAVAILABLE": "error_reason_pb2",
    "ERROR_REASON_QUEUE_FULL": "error_reason_pb2",
    "ERROR_REASON_RATE_LIMITED": "error_reason_pb2",
    "ERROR_REASON_REPLY_ABANDONED": "error_reason_pb2",
    "ERROR_REASON_REQUEST_ID_REUSED": "error_reason_pb2",
    "ERROR_REASON_UNAUTHENTICATED": "error_reason_pb2",
    "ERROR_REASON_UNSPECIFIED": "error_reason_pb2",
    "Error": "resources_pb2",
    "ErrorReason": "error_reason_pb2",
    "GetAttachmentRequest": "attachment_service_pb2",
    "GetAttachmentResponse": "attachment_service_pb2",
    "GetConversationRequest": "conversation_service_pb2",
    "GetConversationResponse": "conversation_service_pb2",
    "GetMessageRequest": "conversation_service_pb2",
    "GetMessageResponse": "conversation_service_pb2",
    "ListAccountsRequest": "admin_service_pb2",
    "ListAccountsResponse": "admin_service_pb2",
    "ListApiKeysRequest": "admin_service_pb2",
    "ListApiKeysResponse": "admin_service_pb2",
    "ListConversationsRequest": "conversation_service_pb2",
    "ListConversationsResponse": "conversation_service_pb2",
    "ListMessagesRequest": "conversation_service_pb2",
    "ListMessagesResponse": "conversation_service_pb2",
    "ListModelsRequest": "conversation_service_pb2",
    "ListModelsResponse": "conversation_service_pb2",
    "Message": "resources_pb2",
    "Model": "resources_pb2",
    "ON_BUSY_ENQUEUE": "conversation_service_pb2",
    "ON_BUSY_INTERRUPT": "conversation_service_pb2",
    "ON_BUSY_REJECT": "conversation_service_pb2",
    "ON_BUSY_UNSPECIFIED": "conversation_service_pb2",
    "OnBusy": "conversation_service_pb2",
    "RATING_BAD": "resources_pb2",
    "RATING_GOOD": "resources_pb2",
    "RATING_UNSPECIFIED": "resources_pb2",
    "RateReplyRequest": "conversation_service_pb2",
    "RateReplyResponse": "conversation_service_pb2",
    "Rating": "resources_pb2",
    "RegenerateReplyRequest": "conversation_service_pb2",
    "RegenerateReplyResponse": "conversation_service_pb2",
    "RevokeApiKeyRequest": "admin_service_pb2",
    "RevokeApiKeyResponse": "admin_service_pb2",
    "SearchMessagesRequest": "conversation_service_pb2",
    "SearchMessagesResponse": "conversation_service_pb2",
    "SendMessageRequest": "conversation_service_pb2",
    "SendMessageResponse": "conversation_service_pb2",
    "UpdateConversationRequest": "conversation_service_pb2",
    "UpdateConversationResponse": "conversation_service_pb2",
    "UploadAttachmentRequest": "attachment_service_pb2",
    "UploadAttachmentResponse": "attachment_service_pb2",
    "Usage": "resources_pb2",
    "User": "resources_pb2",
    "WatchConversationRequest": "conversation_service_pb2",
    "WatchConversationResponse": "conversation_service_pb2",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)

"""The API `conversation.v1`: its messages, enums and stubs. Generated, do not edit.

What each means is said in the protos, and in the stub files beside this one.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from colloquy.api.admin_service_pb2 import Account
    from colloquy.api.conversation_service_pb2 import AddParticipantsRequest
    from colloquy.api.conversation_service_pb2 import AddParticipantsResponse
    from colloquy.api.admin_service_pb2 import AdminServiceGetUsageRequest
    from colloquy.api.admin_service_pb2 import AdminServiceGetUsageResponse
    from colloquy.api.admin_service_pb2_grpc import AdminServiceStub
    from colloquy.api.admin_service_pb2 import ApiKey
    from colloquy.api.resources_pb2 import Attachment
    from colloquy.api.attachment_service_pb2_grpc import AttachmentServiceStub
    from colloquy.api.admin_service_pb2 import AuditEvent
    from colloquy.api.resources_pb2 import Budget
    from colloquy.api.conversation_service_pb2 import CancelReplyRequest
    from colloquy.api.conversation_service_pb2 import CancelReplyResponse
    from colloquy.api.resources_pb2 import ContextReceipt
    from colloquy.api.resources_pb2 import Conversation
    from colloquy.api.conversation_service_pb2 import ConversationEvent
    from colloquy.api.conversation_service_pb2_grpc import ConversationServiceStub
    from colloquy.api.conversation_service_pb2 import ConversationsEvent
    from colloquy.api.admin_service_pb2 import CreateAccountRequest
    from colloquy.api.admin_service_pb2 import CreateAccountResponse
    from colloquy.api.admin_service_pb2 import CreateApiKeyRequest
    from colloquy.api.admin_service_pb2 import CreateApiKeyResponse
    from colloquy.api.conversation_service_pb2 import CreateConversationRequest
    from colloquy.api.conversation_service_pb2 import CreateConversationResponse
    from colloquy.api.session_service_pb2 import CreateSignInLinkRequest
    from colloquy.api.session_service_pb2 import CreateSignInLinkResponse
    from colloquy.api.admin_service_pb2 import CreateWebhookRequest
    from colloquy.api.admin_service_pb2 import CreateWebhookResponse
    from colloquy.api.admin_service_pb2 import DeleteAccountRequest
    from colloquy.api.admin_service_pb2 import DeleteAccountResponse
    from colloquy.api.admin_service_pb2 import DeleteBudgetRequest
    from colloquy.api.admin_service_pb2 import DeleteBudgetResponse
    from colloquy.api.conversation_service_pb2 import DeleteConversationRequest
    from colloquy.api.conversation_service_pb2 import DeleteConversationResponse
    from colloquy.api.conversation_service_pb2 import DeleteMessageRequest
    from colloquy.api.conversation_service_pb2 import DeleteMessageResponse
    from colloquy.api.admin_service_pb2 import DeleteUserRequest
    from colloquy.api.admin_service_pb2 import DeleteUserResponse
    from colloquy.api.admin_service_pb2 import DeleteWebhookRequest
    from colloquy.api.admin_service_pb2 import DeleteWebhookResponse
    from colloquy.api.attachment_service_pb2 import DownloadAttachmentRequest
    from colloquy.api.attachment_service_pb2 import DownloadAttachmentResponse
    from colloquy.api.error_reason_pb2 import ERROR_REASON_ACCOUNT_NOT_FOUND
    from colloquy.api.error_reason_pb2 import ERROR_REASON_API_KEY_NOT_FOUND
    from colloquy.api.error_reason_pb2 import ERROR_REASON_ATTACHMENT_NOT_FOUND
    from colloquy.api.error_reason_pb2 import ERROR_REASON_ATTACHMENT_TOO_LARGE
    from colloquy.api.error_reason_pb2 import ERROR_REASON_ATTACHMENT_UNSUPPORTED
    from colloquy.api.error_reason_pb2 import ERROR_REASON_BUDGET_EXCEEDED
    from colloquy.api.error_reason_pb2 import ERROR_REASON_BUDGET_NOT_FOUND
    from colloquy.api.error_reason_pb2 import ERROR_REASON_CONTENT_FILTERED
    from colloquy.api.error_reason_pb2 import ERROR_REASON_CONVERSATION_BUSY
    from colloquy.api.error_reason_pb2 import ERROR_REASON_CONVERSATION_NOT_FOUND
    from colloquy.api.error_reason_pb2 import ERROR_REASON_DELIVERY_NOT_FOUND
    from colloquy.api.error_reason_pb2 import ERROR_REASON_INTERNAL
    from colloquy.api.error_reason_pb2 import ERROR_REASON_INVALID_FIELD
    from colloquy.api.error_reason_pb2 import ERROR_REASON_MESSAGE_NOT_FOUND
    from colloquy.api.error_reason_pb2 import ERROR_REASON_MESSAGE_TOO_LONG
    from colloquy.api.error_reason_pb2 import ERROR_REASON_MODEL_UNAVAILABLE
    from colloquy.api.error_reason_pb2 import ERROR_REASON_MODEL_UNKNOWN
    from colloquy.api.error_reason_pb2 import ERROR_REASON_OVERLOADED
    from colloquy.api.error_reason_pb2 import ERROR_REASON_PERMISSION_DENIED
    from colloquy.api.error_reason_pb2 import ERROR_REASON_PROVIDER_AUTHENTICATION
    from colloquy.api.error_reason_pb2 import ERROR_REASON_PROVIDER_QUOTA
    from colloquy.api.error_reason_pb2 import ERROR_REASON_PROVIDER_RATE_LIMITED
    from colloquy.api.error_reason_pb2 import ERROR_REASON_PROVIDER_REJECTED
    from colloquy.api.error_reason_pb2 import ERROR_REASON_PROVIDER_TIMEOUT
    from colloquy.api.error_reason_pb2 import ERROR_REASON_PROVIDER_UNAVAILABLE
    from colloquy.api.error_reason_pb2 import ERROR_REASON_QUEUE_FULL
    from colloquy.api.error_reason_pb2 import ERROR_REASON_QUOTA_EXCEEDED
    from colloquy.api.error_reason_pb2 import ERROR_REASON_RATE_LIMITED
    from colloquy.api.error_reason_pb2 import ERROR_REASON_REPLY_ABANDONED
    from colloquy.api.error_reason_pb2 import ERROR_REASON_REQUEST_ID_REUSED
    from colloquy.api.error_reason_pb2 import ERROR_REASON_SESSION_NOT_FOUND
    from colloquy.api.error_reason_pb2 import ERROR_REASON_UNAUTHENTICATED
    from colloquy.api.error_reason_pb2 import ERROR_REASON_UNSPECIFIED
    from colloquy.api.error_reason_pb2 import ERROR_REASON_USER_NOT_FOUND
    from colloquy.api.error_reason_pb2 import ERROR_REASON_WEBHOOK_NOT_FOUND
    from colloquy.api.resources_pb2 import Error
    from colloquy.api.error_reason_pb2 import ErrorReason
    from colloquy.api.admin_service_pb2 import ExportUserRequest
    from colloquy.api.admin_service_pb2 import ExportUserResponse
    from colloquy.api.attachment_service_pb2 import GetAttachmentRequest
    from colloquy.api.attachment_service_pb2 import GetAttachmentResponse
    from colloquy.api.conversation_service_pb2 import GetConversationRequest
    from colloquy.api.conversation_service_pb2 import GetConversationResponse
    from colloquy.api.conversation_service_pb2 import GetMessageRequest
    from colloquy.api.conversation_service_pb2 import GetMessageResponse
    from colloquy.api.session_service_pb2 import GetSessionRequest
    from colloquy.api.session_service_pb2 import GetSessionResponse
    from colloquy.api.conversation_service_pb2 import GetUsageRequest
    from colloquy.api.conversation_service_pb2 import GetUsageResponse
    from colloquy.api.admin_service_pb2 import ListAccountsRequest
    from colloquy.api.admin_service_pb2 import ListAccountsResponse
    from colloquy.api.admin_service_pb2 import ListApiKeysRequest
    from colloquy.api.admin_service_pb2 import ListApiKeysResponse
    from colloquy.api.admin_service_pb2 import ListAuditEventsRequest
    from colloquy.api.admin_service_pb2 import ListAuditEventsResponse
    from colloquy.api.admin_service_pb2 import ListBudgetsRequest
    from colloquy.api.admin_service_pb2 import ListBudgetsResponse
    from colloquy.api.conversation_service_pb2 import ListConversationsRequest
    from colloquy.api.conversation_service_pb2 import ListConversationsResponse
    from colloquy.api.admin_service_pb2 import ListDeadLettersRequest
    from colloquy.api.admin_service_pb2 import ListDeadLettersResponse
    from colloquy.api.conversation_service_pb2 import ListMessagesRequest
    from colloquy.api.conversation_service_pb2 import ListMessagesResponse
    from colloquy.api.conversation_service_pb2 import ListModelsRequest
    from colloquy.api.conversation_service_pb2 import ListModelsResponse
    from colloquy.api.session_service_pb2 import ListSessionsRequest
    from colloquy.api.session_service_pb2 import ListSessionsResponse
    from colloquy.api.conversation_service_pb2 import ListUsersRequest
    from colloquy.api.conversation_service_pb2 import ListUsersResponse
    from colloquy.api.admin_service_pb2 import ListWebhooksRequest
    from colloquy.api.admin_service_pb2 import ListWebhooksResponse
    from colloquy.api.conversation_service_pb2 import MarkReadRequest
    from colloquy.api.conversation_service_pb2 import MarkReadResponse
    from colloquy.api.resources_pb2 import Message
    from colloquy.api.resources_pb2 import Model
    from colloquy.api.conversation_service_pb2 import ON_BUSY_ENQUEUE
    from colloquy.api.conversation_service_pb2 import ON_BUSY_INTERRUPT
    from colloquy.api.conversation_service_pb2 import ON_BUSY_REJECT
    from colloquy.api.conversation_service_pb2 import ON_BUSY_UNSPECIFIED
    from colloquy.api.conversation_service_pb2 import OnBusy
    from colloquy.api.admin_service_pb2 import Quotas
    from colloquy.api.resources_pb2 import RATING_BAD
    from colloquy.api.resources_pb2 import RATING_GOOD
    from colloquy.api.resources_pb2 import RATING_UNSPECIFIED
    from colloquy.api.conversation_service_pb2 import RateReplyRequest
    from colloquy.api.conversation_service_pb2 import RateReplyResponse
    from colloquy.api.resources_pb2 import Rating
    from colloquy.api.conversation_service_pb2 import RegenerateReplyRequest
    from colloquy.api.conversation_service_pb2 import RegenerateReplyResponse
    from colloquy.api.conversation_service_pb2 import RemoveParticipantRequest
    from colloquy.api.conversation_service_pb2 import RemoveParticipantResponse
    from colloquy.api.admin_service_pb2 import RetryDeadLetterRequest
    from colloquy.api.admin_service_pb2 import RetryDeadLetterResponse
    from colloquy.api.admin_service_pb2 import RevokeApiKeyRequest
    from colloquy.api.admin_service_pb2 import RevokeApiKeyResponse
    from colloquy.api.session_service_pb2 import RevokeSessionRequest
    from colloquy.api.session_service_pb2 import RevokeSessionResponse
    from colloquy.api.conversation_service_pb2 import SearchMessagesRequest
    from colloquy.api.conversation_service_pb2 import SearchMessagesResponse
    from colloquy.api.conversation_service_pb2 import SendMessageRequest
    from colloquy.api.conversation_service_pb2 import SendMessageResponse
    from colloquy.api.session_service_pb2 import Session
    from colloquy.api.session_service_pb2_grpc import SessionServiceStub
    from colloquy.api.admin_service_pb2 import SetBudgetRequest
    from colloquy.api.admin_service_pb2 import SetBudgetResponse
    from colloquy.api.resources_pb2 import USAGE_GROUP_API_KEY
    from colloquy.api.resources_pb2 import USAGE_GROUP_DAY
    from colloquy.api.resources_pb2 import USAGE_GROUP_MODEL
    from colloquy.api.resources_pb2 import USAGE_GROUP_UNSPECIFIED
    from colloquy.api.resources_pb2 import USAGE_GROUP_USER
    from colloquy.api.admin_service_pb2 import UpdateAccountRequest
    from colloquy.api.admin_service_pb2 import UpdateAccountResponse
    from colloquy.api.conversation_service_pb2 import UpdateConversationRequest
    from colloquy.api.conversation_service_pb2 import UpdateConversationResponse
    from colloquy.api.attachment_service_pb2 import UploadAttachmentRequest
    from colloquy.api.attachment_service_pb2 import UploadAttachmentResponse
    from colloquy.api.resources_pb2 import Usage
    from colloquy.api.resources_pb2 import UsageGroup
    from colloquy.api.resources_pb2 import UsageRow
    from colloquy.api.resources_pb2 import User
    from colloquy.api.conversation_service_pb2 import WatchConversationRequest
    from colloquy.api.conversation_service_pb2 import WatchConversationResponse
    from colloquy.api.conversation_service_pb2 import WatchConversationsRequest
    from colloquy.api.conversation_service_pb2 import WatchConversationsResponse
    from colloquy.api.admin_service_pb2 import Webhook
    from colloquy.api.admin_service_pb2 import WebhookDelivery

__all__ = [
    "Account",
    "AddParticipantsRequest",
    "AddParticipantsResponse",
    "AdminServiceGetUsageRequest",
    "AdminServiceGetUsageResponse",
    "AdminServiceStub",
    "ApiKey",
    "Attachment",
    "AttachmentServiceStub",
    "AuditEvent",
    "Budget",
    "CancelReplyRequest",
    "CancelReplyResponse",
    "ContextReceipt",
    "Conversation",
    "ConversationEvent",
    "ConversationServiceStub",
    "ConversationsEvent",
    "CreateAccountRequest",
    "CreateAccountResponse",
    "CreateApiKeyRequest",
    "CreateApiKeyResponse",
    "CreateConversationRequest",
    "CreateConversationResponse",
    "CreateSignInLinkRequest",
    "CreateSignInLinkResponse",
    "CreateWebhookRequest",
    "CreateWebhookResponse",
    "DeleteAccountRequest",
    "DeleteAccountResponse",
    "DeleteBudgetRequest",
    "DeleteBudgetResponse",
    "DeleteConversationRequest",
    "DeleteConversationResponse",
    "DeleteMessageRequest",
    "DeleteMessageResponse",
    "DeleteUserRequest",
    "DeleteUserResponse",
    "DeleteWebhookRequest",
    "DeleteWebhookResponse",
    "DownloadAttachmentRequest",
    "DownloadAttachmentResponse",
    "ERROR_REASON_ACCOUNT_NOT_FOUND",
    "ERROR_REASON_API_KEY_NOT_FOUND",
    "ERROR_REASON_ATTACHMENT_NOT_FOUND",
    "ERROR_REASON_ATTACHMENT_TOO_LARGE",
    "ERROR_REASON_ATTACHMENT_UNSUPPORTED",
    "ERROR_REASON_BUDGET_EXCEEDED",
    "ERROR_REASON_BUDGET_NOT_FOUND",
    "ERROR_REASON_CONTENT_FILTERED",
    "ERROR_REASON_CONVERSATION_BUSY",
    "ERROR_REASON_CONVERSATION_NOT_FOUND",
    "ERROR_REASON_DELIVERY_NOT_FOUND",
    "ERROR_REASON_INTERNAL",
    "ERROR_REASON_INVALID_FIELD",
    "ERROR_REASON_MESSAGE_NOT_FOUND",
    "ERROR_REASON_MESSAGE_TOO_LONG",
    "ERROR_REASON_MODEL_UNAVAILABLE",
    "ERROR_REASON_MODEL_UNKNOWN",
    "ERROR_REASON_OVERLOADED",
    "ERROR_REASON_PERMISSION_DENIED",
    "ERROR_REASON_PROVIDER_AUTHENTICATION",
    "ERROR_REASON_PROVIDER_QUOTA",
    "ERROR_REASON_PROVIDER_RATE_LIMITED",
    "ERROR_REASON_PROVIDER_REJECTED",
    "ERROR_REASON_PROVIDER_TIMEOUT",
    "ERROR_REASON_PROVIDER_UNAVAILABLE",
    "ERROR_REASON_QUEUE_FULL",
    "ERROR_REASON_QUOTA_EXCEEDED",
    "ERROR_REASON_RATE_LIMITED",
    "ERROR_REASON_REPLY_ABANDONED",
    "ERROR_REASON_REQUEST_ID_REUSED",
    "ERROR_REASON_SESSION_NOT_FOUND",
    "ERROR_REASON_UNAUTHENTICATED",
    "ERROR_REASON_UNSPECIFIED",
    "ERROR_REASON_USER_NOT_FOUND",
    "ERROR_REASON_WEBHOOK_NOT_FOUND",
    "Error",
    "ErrorReason",
    "ExportUserRequest",
    "ExportUserResponse",
    "GetAttachmentRequest",
    "GetAttachmentResponse",
    "GetConversationRequest",
    "GetConversationResponse",
    "GetMessageRequest",
    "GetMessageResponse",
    "GetSessionRequest",
    "GetSessionResponse",
    "GetUsageRequest",
    "GetUsageResponse",
    "ListAccountsRequest",
    "ListAccountsResponse",
    "ListApiKeysRequest",
    "ListApiKeysResponse",
    "ListAuditEventsRequest",
    "ListAuditEventsResponse",
    "ListBudgetsRequest",
    "ListBudgetsResponse",
    "ListConversationsRequest",
    "ListConversationsResponse",
    "ListDeadLettersRequest",
    "ListDeadLettersResponse",
    "ListMessagesRequest",
    "ListMessagesResponse",
    "ListModelsRequest",
    "ListModelsResponse",
    "ListSessionsRequest",
    "ListSessionsResponse",
    "ListUsersRequest",
    "ListUsersResponse",
    "ListWebhooksRequest",
    "ListWebhooksResponse",
    "MarkReadRequest",
    "MarkReadResponse",
    "Message",
    "Model",
    "ON_BUSY_ENQUEUE",
    "ON_BUSY_INTERRUPT",
    "ON_BUSY_REJECT",
    "ON_BUSY_UNSPECIFIED",
    "OnBusy",
    "Quotas",
    "RATING_BAD",
    "RATING_GOOD",
    "RATING_UNSPECIFIED",
    "RateReplyRequest",
    "RateReplyResponse",
    "Rating",
    "RegenerateReplyRequest",
    "RegenerateReplyResponse",
    "RemoveParticipantRequest",
    "RemoveParticipantResponse",
    "RetryDeadLetterRequest",
    "RetryDeadLetterResponse",
    "RevokeApiKeyRequest",
    "RevokeApiKeyResponse",
    "RevokeSessionRequest",
    "RevokeSessionResponse",
    "SearchMessagesRequest",
    "SearchMessagesResponse",
    "SendMessageRequest",
    "SendMessageResponse",
    "Session",
    "SessionServiceStub",
    "SetBudgetRequest",
    "SetBudgetResponse",
    "USAGE_GROUP_API_KEY",
    "USAGE_GROUP_DAY",
    "USAGE_GROUP_MODEL",
    "USAGE_GROUP_UNSPECIFIED",
    "USAGE_GROUP_USER",
    "UpdateAccountRequest",
    "UpdateAccountResponse",
    "UpdateConversationRequest",
    "UpdateConversationResponse",
    "UploadAttachmentRequest",
    "UploadAttachmentResponse",
    "Usage",
    "UsageGroup",
    "UsageRow",
    "User",
    "WatchConversationRequest",
    "WatchConversationResponse",
    "WatchConversationsRequest",
    "WatchConversationsResponse",
    "Webhook",
    "WebhookDelivery",
]

_MODULES = {
    "Account": "admin_service_pb2",
    "AddParticipantsRequest": "conversation_service_pb2",
    "AddParticipantsResponse": "conversation_service_pb2",
    "AdminServiceGetUsageRequest": "admin_service_pb2",
    "AdminServiceGetUsageResponse": "admin_service_pb2",
    "AdminServiceStub": "admin_service_pb2_grpc",
    "ApiKey": "admin_service_pb2",
    "Attachment": "resources_pb2",
    "AttachmentServiceStub": "attachment_service_pb2_grpc",
    "AuditEvent": "admin_service_pb2",
    "Budget": "resources_pb2",
    "CancelReplyRequest": "conversation_service_pb2",
    "CancelReplyResponse": "conversation_service_pb2",
    "ContextReceipt": "resources_pb2",
    "Conversation": "resources_pb2",
    "ConversationEvent": "conversation_service_pb2",
    "ConversationServiceStub": "conversation_service_pb2_grpc",
    "ConversationsEvent": "conversation_service_pb2",
    "CreateAccountRequest": "admin_service_pb2",
    "CreateAccountResponse": "admin_service_pb2",
    "CreateApiKeyRequest": "admin_service_pb2",
    "CreateApiKeyResponse": "admin_service_pb2",
    "CreateConversationRequest": "conversation_service_pb2",
    "CreateConversationResponse": "conversation_service_pb2",
    "CreateSignInLinkRequest": "session_service_pb2",
    "CreateSignInLinkResponse": "session_service_pb2",
    "CreateWebhookRequest": "admin_service_pb2",
    "CreateWebhookResponse": "admin_service_pb2",
    "DeleteAccountRequest": "admin_service_pb2",
    "DeleteAccountResponse": "admin_service_pb2",
    "DeleteBudgetRequest": "admin_service_pb2",
    "DeleteBudgetResponse": "admin_service_pb2",
    "DeleteConversationRequest": "conversation_service_pb2",
    "DeleteConversationResponse": "conversation_service_pb2",
    "DeleteMessageRequest": "conversation_service_pb2",
    "DeleteMessageResponse": "conversation_service_pb2",
    "DeleteUserRequest": "admin_service_pb2",
    "DeleteUserResponse": "admin_service_pb2",
    "DeleteWebhookRequest": "admin_service_pb2",
    "DeleteWebhookResponse": "admin_service_pb2",
    "DownloadAttachmentRequest": "attachment_service_pb2",
    "DownloadAttachmentResponse": "attachment_service_pb2",
    "ERROR_REASON_ACCOUNT_NOT_FOUND": "error_reason_pb2",
    "ERROR_REASON_API_KEY_NOT_FOUND": "error_reason_pb2",
    "ERROR_REASON_ATTACHMENT_NOT_FOUND": "error_reason_pb2",
    "ERROR_REASON_ATTACHMENT_TOO_LARGE": "error_reason_pb2",
    "ERROR_REASON_ATTACHMENT_UNSUPPORTED": "error_reason_pb2",
    "ERROR_REASON_BUDGET_EXCEEDED": "error_reason_pb2",
    "ERROR_REASON_BUDGET_NOT_FOUND": "error_reason_pb2",
    "ERROR_REASON_CONTENT_FILTERED": "error_reason_pb2",
    "ERROR_REASON_CONVERSATION_BUSY": "error_reason_pb2",
    "ERROR_REASON_CONVERSATION_NOT_FOUND": "error_reason_pb2",
    "ERROR_REASON_DELIVERY_NOT_FOUND": "error_reason_pb2",
    "ERROR_REASON_INTERNAL": "error_reason_pb2",
    "ERROR_REASON_INVALID_FIELD": "error_reason_pb2",
    "ERROR_REASON_MESSAGE_NOT_FOUND": "error_reason_pb2",
    "ERROR_REASON_MESSAGE_TOO_LONG": "error_reason_pb2",
    "ERROR_REASON_MODEL_UNAVAILABLE": "error_reason_pb2",
    "ERROR_REASON_MODEL_UNKNOWN": "error_reason_pb2",
    "ERROR_REASON_OVERLOADED": "error_reason_pb2",
    "ERROR_REASON_PERMISSION_DENIED": "error_reason_pb2",
    "ERROR_REASON_PROVIDER_AUTHENTICATION": "error_reason_pb2",
    "ERROR_REASON_PROVIDER_QUOTA": "error_reason_pb2",
    "ERROR_REASON_PROVIDER_RATE_LIMITED": "error_reason_pb2",
    "ERROR_REASON_PROVIDER_REJECTED": "error_reason_pb2",
    "ERROR_REASON_PROVIDER_TIMEOUT": "error_reason_pb2",
    "ERROR_REASON_PROVIDER_UNAVAILABLE": "error_reason_pb2",
    "ERROR_REASON_QUEUE_FULL": "error_reason_pb2",
    "ERROR_REASON_QUOTA_EXCEEDED": "error_reason_pb2",
    "ERROR_REASON_RATE_LIMITED": "error_reason_pb2",
    "ERROR_REASON_REPLY_ABANDONED": "error_reason_pb2",
    "ERROR_REASON_REQUEST_ID_REUSED": "error_reason_pb2",
    "ERROR_REASON_SESSION_NOT_FOUND": "error_reason_pb2",
    "ERROR_REASON_UNAUTHENTICATED": "error_reason_pb2",
    "ERROR_REASON_UNSPECIFIED": "error_reason_pb2",
    "ERROR_REASON_USER_NOT_FOUND": "error_reason_pb2",
    "ERROR_REASON_WEBHOOK_NOT_FOUND": "error_reason_pb2",
    "Error": "resources_pb2",
    "ErrorReason": "error_reason_pb2",
    "ExportUserRequest": "admin_service_pb2",
    "ExportUserResponse": "admin_service_pb2",
    "GetAttachmentRequest": "attachment_service_pb2",
    "GetAttachmentResponse": "attachment_service_pb2",
    "GetConversationRequest": "conversation_service_pb2",
    "GetConversationResponse": "conversation_service_pb2",
    "GetMessageRequest": "conversation_service_pb2",
    "GetMessageResponse": "conversation_service_pb2",
    "GetSessionRequest": "session_service_pb2",
    "GetSessionResponse": "session_service_pb2",
    "GetUsageRequest": "conversation_service_pb2",
    "GetUsageResponse": "conversation_service_pb2",
    "ListAccountsRequest": "admin_service_pb2",
    "ListAccountsResponse": "admin_service_pb2",
    "ListApiKeysRequest": "admin_service_pb2",
    "ListApiKeysResponse": "admin_service_pb2",
    "ListAuditEventsRequest": "admin_service_pb2",
    "ListAuditEventsResponse": "admin_service_pb2",
    "ListBudgetsRequest": "admin_service_pb2",
    "ListBudgetsResponse": "admin_service_pb2",
    "ListConversationsRequest": "conversation_service_pb2",
    "ListConversationsResponse": "conversation_service_pb2",
    "ListDeadLettersRequest": "admin_service_pb2",
    "ListDeadLettersResponse": "admin_service_pb2",
    "ListMessagesRequest": "conversation_service_pb2",
    "ListMessagesResponse": "conversation_service_pb2",
    "ListModelsRequest": "conversation_service_pb2",
    "ListModelsResponse": "conversation_service_pb2",
    "ListSessionsRequest": "session_service_pb2",
    "ListSessionsResponse": "session_service_pb2",
    "ListUsersRequest": "conversation_service_pb2",
    "ListUsersResponse": "conversation_service_pb2",
    "ListWebhooksRequest": "admin_service_pb2",
    "ListWebhooksResponse": "admin_service_pb2",
    "MarkReadRequest": "conversation_service_pb2",
    "MarkReadResponse": "conversation_service_pb2",
    "Message": "resources_pb2",
    "Model": "resources_pb2",
    "ON_BUSY_ENQUEUE": "conversation_service_pb2",
    "ON_BUSY_INTERRUPT": "conversation_service_pb2",
    "ON_BUSY_REJECT": "conversation_service_pb2",
    "ON_BUSY_UNSPECIFIED": "conversation_service_pb2",
    "OnBusy": "conversation_service_pb2",
    "Quotas": "admin_service_pb2",
    "RATING_BAD": "resources_pb2",
    "RATING_GOOD": "resources_pb2",
    "RATING_UNSPECIFIED": "resources_pb2",
    "RateReplyRequest": "conversation_service_pb2",
    "RateReplyResponse": "conversation_service_pb2",
    "Rating": "resources_pb2",
    "RegenerateReplyRequest": "conversation_service_pb2",
    "RegenerateReplyResponse": "conversation_service_pb2",
    "RemoveParticipantRequest": "conversation_service_pb2",
    "RemoveParticipantResponse": "conversation_service_pb2",
    "RetryDeadLetterRequest": "admin_service_pb2",
    "RetryDeadLetterResponse": "admin_service_pb2",
    "RevokeApiKeyRequest": "admin_service_pb2",
    "RevokeApiKeyResponse": "admin_service_pb2",
    "RevokeSessionRequest": "session_service_pb2",
    "RevokeSessionResponse": "session_service_pb2",
    "SearchMessagesRequest": "conversation_service_pb2",
    "SearchMessagesResponse": "conversation_service_pb2",
    "SendMessageRequest": "conversation_service_pb2",
    "SendMessageResponse": "conversation_service_pb2",
    "Session": "session_service_pb2",
    "SessionServiceStub": "session_service_pb2_grpc",
    "SetBudgetRequest": "admin_service_pb2",
    "SetBudgetResponse": "admin_service_pb2",
    "USAGE_GROUP_API_KEY": "resources_pb2",
    "USAGE_GROUP_DAY": "resources_pb2",
    "USAGE_GROUP_MODEL": "resources_pb2",
    "USAGE_GROUP_UNSPECIFIED": "resources_pb2",
    "USAGE_GROUP_USER": "resources_pb2",
    "UpdateAccountRequest": "admin_service_pb2",
    "UpdateAccountResponse": "admin_service_pb2",
    "UpdateConversationRequest": "conversation_service_pb2",
    "UpdateConversationResponse": "conversation_service_pb2",
    "UploadAttachmentRequest": "attachment_service_pb2",
    "UploadAttachmentResponse": "attachment_service_pb2",
    "Usage": "resources_pb2",
    "UsageGroup": "resources_pb2",
    "UsageRow": "resources_pb2",
    "User": "resources_pb2",
    "WatchConversationRequest": "conversation_service_pb2",
    "WatchConversationResponse": "conversation_service_pb2",
    "WatchConversationsRequest": "conversation_service_pb2",
    "WatchConversationsResponse": "conversation_service_pb2",
    "Webhook": "admin_service_pb2",
    "WebhookDelivery": "admin_service_pb2",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)

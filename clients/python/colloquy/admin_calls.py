"""The calls of AdminService, as `calls` has the others."""

from __future__ import annotations

from datetime import datetime

from colloquy.api import admin_service_pb2 as admin_pb
from colloquy.api.admin_service_pb2 import Account, ApiKey, Quotas
from colloquy.api.resources_pb2 import Conversation, User
from colloquy.calls import Call, StreamCall, nothing, whole


def create_account(
    name: str,
    *,
    external_id: str = "",
    default_visibility: Conversation.Visibility.ValueType = Conversation.VISIBILITY_UNSPECIFIED,
    quotas: Quotas | None = None,
    retention_days: int = 0,
) -> Call[admin_pb.CreateAccountRequest, admin_pb.CreateAccountResponse, Account]:
    """Make an account. One whose external_id exists is returned as it is.

    `default_visibility` is who sees its new conversations: the whole account if it is not given.
    After `retention_days` without a new message a conversation is deleted; 0 for never.
    """
    request = admin_pb.CreateAccountRequest(
        name=name,
        external_id=external_id,
        default_visibility=default_visibility,
        quotas=quotas,
        retention_days=retention_days,
    )
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
    return Call(lambda to: to.admin.ListAccounts, request, whole)


def update_account(
    account_id: str,
    *,
    default_visibility: Conversation.Visibility.ValueType = Conversation.VISIBILITY_UNSPECIFIED,
    quotas: Quotas | None = None,
    retention_days: int | None = None,
) -> Call[admin_pb.UpdateAccountRequest, admin_pb.UpdateAccountResponse, Account]:
    """Change an account and return it. `default_visibility` is who sees its new conversations, and
    unspecified leaves it as it is; `quotas` are set all together, and without them they stay. After
    `retention_days` without a new message a conversation is deleted: 0 for never, None leaves them
    as they are."""
    request = admin_pb.UpdateAccountRequest(
        account_id=account_id,
        default_visibility=default_visibility,
        quotas=quotas,
        retention_days=retention_days,
    )
    return Call(lambda to: to.admin.UpdateAccount, request, lambda a: a.account)


def delete_account(
    account_id: str,
) -> Call[admin_pb.DeleteAccountRequest, admin_pb.DeleteAccountResponse, None]:
    """Delete an account with everything in it."""
    request = admin_pb.DeleteAccountRequest(account_id=account_id)
    return Call(lambda to: to.admin.DeleteAccount, request, nothing, repeatable=False)


def create_api_key(
    account_id: str,
    name: str,
    *,
    role: ApiKey.Role.ValueType = ApiKey.ROLE_SERVICE,
    user: User | None = None,
    expire_time: datetime | None = None,
    quotas: Quotas | None = None,
) -> Call[
    admin_pb.CreateApiKeyRequest, admin_pb.CreateApiKeyResponse, admin_pb.CreateApiKeyResponse
]:
    """Make a key. `secret` of the answer cannot be shown again. `user` is for a member's or an
    admin's key.

    `expire_time` must know its time zone.
    """
    request = admin_pb.CreateApiKeyRequest(
        account_id=account_id, name=name, role=role, user=user, quotas=quotas
    )
    if expire_time is not None:
        request.expire_time.FromDatetime(expire_time)
    return Call(lambda to: to.admin.CreateApiKey, request, whole, repeatable=False)


def list_api_keys(
    account_id: str, *, page_size: int = 0, page_token: str = ""
) -> Call[admin_pb.ListApiKeysRequest, admin_pb.ListApiKeysResponse, admin_pb.ListApiKeysResponse]:
    """Return a page of an account's keys, oldest first, revoked ones too."""
    request = admin_pb.ListApiKeysRequest(
        account_id=account_id, page_size=page_size, page_token=page_token
    )
    return Call(lambda to: to.admin.ListApiKeys, request, whole)


def revoke_api_key(
    api_key_id: str,
) -> Call[admin_pb.RevokeApiKeyRequest, admin_pb.RevokeApiKeyResponse, ApiKey]:
    """Revoke a key."""
    request = admin_pb.RevokeApiKeyRequest(api_key_id=api_key_id)
    return Call(lambda to: to.admin.RevokeApiKey, request, lambda a: a.api_key)


def list_audit_events(
    *, account_id: str = "", page_size: int = 0, page_token: str = ""
) -> Call[
    admin_pb.ListAuditEventsRequest,
    admin_pb.ListAuditEventsResponse,
    admin_pb.ListAuditEventsResponse,
]:
    """Return a page of who did what, the newest first, in one account or in all."""
    request = admin_pb.ListAuditEventsRequest(
        account_id=account_id, page_size=page_size, page_token=page_token
    )
    return Call(lambda to: to.admin.ListAuditEvents, request, whole)


def delete_user(
    user_id: str,
) -> Call[admin_pb.DeleteUserRequest, admin_pb.DeleteUserResponse, None]:
    """Delete a user with all that they said."""
    request = admin_pb.DeleteUserRequest(user_id=user_id)
    return Call(lambda to: to.admin.DeleteUser, request, nothing, repeatable=False)


def export_user(
    user_id: str,
) -> StreamCall[admin_pb.ExportUserRequest, admin_pb.ExportUserResponse]:
    """Return the archive of all that is known of a user, piece by piece."""
    request = admin_pb.ExportUserRequest(user_id=user_id)
    return StreamCall(lambda to: to.admin.ExportUser, request)

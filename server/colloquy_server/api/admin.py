"""AdminService: accounts, their keys and their users."""

from __future__ import annotations

from contextlib import aclosing

from colloquy.api import admin_service_pb2 as api

from colloquy_server.api import convert
from colloquy_server.api.access import AccessControl, hash_secret, new_secret, principal
from colloquy_server.api.handlers import Context
from colloquy_server.api.tokens import decode_page, encode_page, page_size
from colloquy_server.api.usage_reports import BudgetAdministration
from colloquy_server.api.user_export import UserExport
from colloquy_server.api.webhooks import WebhookAdministration
from colloquy_server.concurrency import shielded
from colloquy_server.database.models import KeyRole, Visibility
from colloquy_server.database.repository import access as rows
from colloquy_server.database.repository import audit, export
from colloquy_server.database.repository.audit import audited
from colloquy_server.database.repository.quotas import NO_LIMITS, Limits
from colloquy_server.database.repository.users import Author
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database
from colloquy_server.errors import PermissionDenied
from colloquy_server.files.files import Files
from colloquy_server.providers.discovery import Discovery
from colloquy_server.replies.engine import Replies


class AdminService(BudgetAdministration, WebhookAdministration):
    """One method an RPC; those about budgets, usage and webhooks are in its bases."""

    def __init__(
        self,
        db: Database,
        access: AccessControl,
        replies: Replies,
        files: Files,
        discovery: Discovery,
        *,
        allow_private_webhooks: bool,
    ) -> None:
        self._db = db
        self._allow_private_webhooks = allow_private_webhooks
        self._discovery = discovery
        self._access = access
        self._replies = replies
        self._files = files

    async def CreateAccount(
        self, request: api.CreateAccountRequest, _context: Context
    ) -> api.CreateAccountResponse:
        row = await self._db.write(
            EVERY_ACCOUNT,
            audited(rows.create_account),
            request.name,
            request.external_id or None,
            Visibility(request.default_visibility or Visibility.ACCOUNT),
            _limits(request),
            is_provisioned=principal.get().is_provisioning,
            retention_days=request.retention_days,
        )
        return api.CreateAccountResponse(account=convert.account(row))

    async def UpdateAccount(
        self, request: api.UpdateAccountRequest, _context: Context
    ) -> api.UpdateAccountResponse:
        visibility = request.default_visibility
        row = await self._db.write(
            EVERY_ACCOUNT,
            audited(rows.change_account),
            request.account_id.lower(),
            Visibility(visibility) if visibility else None,
            convert.limits(request.quotas) if request.HasField("quotas") else None,
            request.retention_days if request.HasField("retention_days") else None,
        )
        return api.UpdateAccountResponse(account=convert.account(row))

    async def ListAccounts(
        self, request: api.ListAccountsRequest, _context: Context
    ) -> api.ListAccountsResponse:
        limit = page_size(request.page_size)
        key = decode_page(request.page_token, str)
        found = await self._db.read(
            EVERY_ACCOUNT, rows.accounts, limit=limit + 1, after=str(key[0]) if key else ""
        )
        return api.ListAccountsResponse(
            accounts=[convert.account(row) for row in found[:limit]],
            next_page_token=encode_page(found[limit - 1].id) if len(found) > limit else "",
        )

    async def DeleteAccount(
        self, request: api.DeleteAccountRequest, _context: Context
    ) -> api.DeleteAccountResponse:
        account_id = request.account_id.lower()
        await self._replies.delete_account(account_id)
        self._access.forget_account(account_id)
        self._files.remove_soon()
        return api.DeleteAccountResponse()

    async def CreateApiKey(
        self, request: api.CreateApiKeyRequest, _context: Context
    ) -> api.CreateApiKeyResponse:
        secret = new_secret()
        digest = hash_secret(secret)
        row = await self._db.write(
            EVERY_ACCOUNT,
            audited(rows.create_key),
            request.account_id.lower(),
            name=request.name,
            role=KeyRole(request.role),
            user=Author(
                external_id=request.user.external_id,
                display_name=request.user.display_name,
                avatar_url=request.user.avatar_url,
            ),
            secret_hash=digest,
            expire_time=(
                convert.micros(request.expire_time, "expire_time")
                if request.HasField("expire_time")
                else None
            ),
            must_be_provisioned=principal.get().is_provisioning,
            limits=_limits(request),
        )
        self._access.add(digest)
        return api.CreateApiKeyResponse(api_key=convert.api_key(row), secret=secret)

    async def ListApiKeys(
        self, request: api.ListApiKeysRequest, _context: Context
    ) -> api.ListApiKeysResponse:
        limit = page_size(request.page_size)
        key = decode_page(request.page_token, str)
        found = await self._db.read(
            EVERY_ACCOUNT,
            rows.keys,
            request.account_id.lower(),
            limit=limit + 1,
            after=str(key[0]) if key else "",
        )
        return api.ListApiKeysResponse(
            api_keys=[convert.api_key(row) for row in found[:limit]],
            next_page_token=encode_page(found[limit - 1].id) if len(found) > limit else "",
        )

    async def RevokeApiKey(
        self, request: api.RevokeApiKeyRequest, _context: Context
    ) -> api.RevokeApiKeyResponse:
        row = await self._db.write(
            EVERY_ACCOUNT, audited(rows.revoke_key), request.api_key_id.lower()
        )
        self._access.forget(row.id)
        return api.RevokeApiKeyResponse(api_key=convert.api_key(row))

    async def DeleteUser(
        self, request: api.DeleteUserRequest, _context: Context
    ) -> api.DeleteUserResponse:
        user = await self._replies.delete_user(request.user_id.lower())
        self._access.forget_user(user.user_id)
        await shielded(self._replies.delete_leaving(user))
        self._files.remove_soon()
        return api.DeleteUserResponse()

    async def ExportUser(self, request: api.ExportUserRequest, context: Context) -> None:
        # Noted before the first byte leaves; what is read then is read in pages.
        person = await self._db.write(
            EVERY_ACCOUNT, audited(export.person), request.user_id.lower()
        )
        async with aclosing(UserExport(self._db, self._files, person).stream()) as pieces:
            async for piece in pieces:
                await context.write(api.ExportUserResponse(chunk=piece))

    async def ListAuditEvents(
        self, request: api.ListAuditEventsRequest, _context: Context
    ) -> api.ListAuditEventsResponse:
        limit = page_size(request.page_size)
        key = decode_page(request.page_token, int, str)
        found = await self._db.read(
            EVERY_ACCOUNT,
            audit.page,
            limit=limit + 1,
            before=(int(key[0]), str(key[1])) if key else None,
            account_id=request.account_id.lower(),
        )
        last = found[limit - 1] if len(found) > limit else None
        return api.ListAuditEventsResponse(
            audit_events=[convert.audit_event(row) for row in found[:limit]],
            next_page_token=encode_page(last.time, last.id) if last else "",
        )


def _limits(request: api.CreateAccountRequest | api.CreateApiKeyRequest) -> Limits:
    """The quotas that are asked for. Raises PermissionDenied for a provisioning key: an account's
    own beat the server's."""
    limits = convert.limits(request.quotas)
    if limits != NO_LIMITS and principal.get().is_provisioning:
        raise PermissionDenied("A provisioning key sets no quotas.")
    return limits

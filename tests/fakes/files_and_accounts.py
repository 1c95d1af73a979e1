"""The fake Colloquy's files, accounts and keys."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import AsyncIterator
from typing import Any

import grpc
from colloquy.api import admin_service_pb2 as admin_pb
from colloquy.api import attachment_service_pb2 as attachment_pb
from colloquy.api import attachment_service_pb2_grpc as attachment_grpc
from colloquy.api.resources_pb2 import Attachment
from grpc_status import rpc_status

from tests.fakes.budgets_and_webhooks import FakeBudgets
from tests.fakes.door import ADMIN_KEY, Door, new_id, paged, refuse


class FakeFiles(Door, attachment_grpc.AttachmentServiceServicer):
    """AttachmentService."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, tuple[Attachment, bytes]] = {}

    async def UploadAttachment(
        self, request_iterator: AsyncIterator[attachment_pb.UploadAttachmentRequest], context: Any
    ) -> attachment_pb.UploadAttachmentResponse:
        await self.enter(None, context)
        header = attachment_pb.UploadAttachmentRequest.Header()
        body = b""
        async for request in request_iterator:
            if request.HasField("header"):
                header = request.header
            body += request.chunk
        digest = hashlib.sha256(body).hexdigest()
        if header.sha256 not in ("", digest):
            await refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "other bytes")
        attachment = Attachment(
            id=new_id(),
            filename=header.filename,
            content_type=header.content_type,
            byte_size=len(body),
            sha256=digest,
        )
        self.files[attachment.id] = (attachment, body)
        return attachment_pb.UploadAttachmentResponse(attachment=attachment)

    async def DownloadAttachment(
        self, request: attachment_pb.DownloadAttachmentRequest, context: Any
    ) -> AsyncIterator[attachment_pb.DownloadAttachmentResponse]:
        await self.enter(request, context, stream=True)
        if request.attachment_id not in self.files:
            await refuse(context, grpc.StatusCode.NOT_FOUND, "ATTACHMENT_NOT_FOUND", "no such file")
        attachment, body = self.files[request.attachment_id]
        left, status = self.breaks.popleft() if self.breaks else (None, None)
        parts = [attachment_pb.DownloadAttachmentResponse(attachment=attachment)]
        parts += [
            attachment_pb.DownloadAttachmentResponse(chunk=body[at : at + 1000])
            for at in range(0, len(body), 1000)
        ]
        for part in itertools.islice(parts, left):
            yield part
        if status is not None:
            await context.abort_with_status(rpc_status.to_status(status))

    async def GetAttachment(
        self, request: attachment_pb.GetAttachmentRequest, context: Any
    ) -> attachment_pb.GetAttachmentResponse:
        await self.enter(request, context)
        return attachment_pb.GetAttachmentResponse(attachment=self.files[request.attachment_id][0])


class FakeAccounts(FakeBudgets):
    """AdminService."""

    def __init__(self) -> None:
        super().__init__()
        self.accounts: dict[str, admin_pb.Account] = {}
        self.keys: dict[str, admin_pb.ApiKey] = {}
        self.events: list[admin_pb.AuditEvent] = []

    async def CreateAccount(
        self, request: admin_pb.CreateAccountRequest, context: Any
    ) -> admin_pb.CreateAccountResponse:
        await self.enter(request, context, key=ADMIN_KEY)
        account = admin_pb.Account(
            id=new_id(),
            name=request.name,
            external_id=request.external_id,
            default_visibility=request.default_visibility,
            quotas=request.quotas,
            retention_days=request.retention_days,
        )
        self.accounts[account.id] = account
        return admin_pb.CreateAccountResponse(account=account)

    async def ListAccounts(
        self, request: admin_pb.ListAccountsRequest, context: Any
    ) -> admin_pb.ListAccountsResponse:
        await self.enter(request, context, key=ADMIN_KEY)
        page, token = paged(list(self.accounts.values()), request.page_size, request.page_token)
        return admin_pb.ListAccountsResponse(accounts=page, next_page_token=token)

    async def UpdateAccount(
        self, request: admin_pb.UpdateAccountRequest, context: Any
    ) -> admin_pb.UpdateAccountResponse:
        await self.enter(request, context, key=ADMIN_KEY)
        account = self.accounts[request.account_id]
        if request.default_visibility:
            account.default_visibility = request.default_visibility
        if request.HasField("quotas"):
            account.quotas.CopyFrom(request.quotas)
        if request.HasField("retention_days"):
            account.retention_days = request.retention_days
        return admin_pb.UpdateAccountResponse(account=account)

    async def DeleteAccount(
        self, request: admin_pb.DeleteAccountRequest, context: Any
    ) -> admin_pb.DeleteAccountResponse:
        await self.enter(request, context, key=ADMIN_KEY)
        if self.accounts.pop(request.account_id, None) is None:
            await refuse(
                context, grpc.StatusCode.NOT_FOUND, "ACCOUNT_NOT_FOUND", "there is no such account"
            )
        return admin_pb.DeleteAccountResponse()

    async def CreateApiKey(
        self, request: admin_pb.CreateApiKeyRequest, context: Any
    ) -> admin_pb.CreateApiKeyResponse:
        await self.enter(request, context, key=ADMIN_KEY)
        key = admin_pb.ApiKey(
            id=new_id(),
            account_id=request.account_id,
            name=request.name,
            role=request.role,
            quotas=request.quotas,
        )
        if request.HasField("user"):
            key.user.CopyFrom(request.user)
        if request.HasField("expire_time"):
            key.expire_time.CopyFrom(request.expire_time)
        self.keys[key.id] = key
        return admin_pb.CreateApiKeyResponse(api_key=key, secret="clq_secret")

    async def ListApiKeys(
        self, request: admin_pb.ListApiKeysRequest, context: Any
    ) -> admin_pb.ListApiKeysResponse:
        await self.enter(request, context, key=ADMIN_KEY)
        keys = [key for key in self.keys.values() if key.account_id == request.account_id]
        page, token = paged(keys, request.page_size, request.page_token)
        return admin_pb.ListApiKeysResponse(api_keys=page, next_page_token=token)

    async def DeleteUser(
        self, request: admin_pb.DeleteUserRequest, context: Any
    ) -> admin_pb.DeleteUserResponse:
        await self.enter(request, context, key=ADMIN_KEY)
        for key in [key for key in self.keys.values() if key.user.id == request.user_id]:
            del self.keys[key.id]
        return admin_pb.DeleteUserResponse()

    async def ExportUser(
        self, request: admin_pb.ExportUserRequest, context: Any
    ) -> AsyncIterator[admin_pb.ExportUserResponse]:
        await self.enter(request, context, key=ADMIN_KEY, stream=True)
        left, status = self.breaks.popleft() if self.breaks else (None, None)
        for part in itertools.islice((b"PK", b"of ", request.user_id.encode()), left):
            yield admin_pb.ExportUserResponse(chunk=part)
        if status is not None:
            await context.abort_with_status(rpc_status.to_status(status))

    async def RevokeApiKey(
        self, request: admin_pb.RevokeApiKeyRequest, context: Any
    ) -> admin_pb.RevokeApiKeyResponse:
        await self.enter(request, context, key=ADMIN_KEY)
        key = self.keys[request.api_key_id]
        key.last_used_time.GetCurrentTime()
        key.revoke_time.GetCurrentTime()
        return admin_pb.RevokeApiKeyResponse(api_key=key)

    async def ListAuditEvents(
        self, request: admin_pb.ListAuditEventsRequest, context: Any
    ) -> admin_pb.ListAuditEventsResponse:
        await self.enter(request, context, key=ADMIN_KEY)
        events = [event for event in self.events if request.account_id in ("", event.account_id)]
        page, token = paged(events, request.page_size, request.page_token)
        return admin_pb.ListAuditEventsResponse(audit_events=page, next_page_token=token)

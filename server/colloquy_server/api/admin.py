"""AdminService: accounts and their keys."""

from __future__ import annotations

from typing import Any

import grpc
from colloquy.api import admin_service_pb2 as api
from google.protobuf.timestamp_pb2 import Timestamp

from colloquy_server.api import convert
from colloquy_server.api.access import AccessControl, hash_secret, new_secret
from colloquy_server.api.tokens import decode_page, encode_page, page_size
from colloquy_server.database.models import MICROS, KeyRole
from colloquy_server.database.repository import access as rows
from colloquy_server.database.repository.access import Author
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database
from colloquy_server.errors import InvalidField
from colloquy_server.files.files import Files
from colloquy_server.replies.engine import Replies

_LAST_SECOND = 253_402_300_799
"""Of the year 9999, in which a Timestamp ends."""

Context = grpc.aio.ServicerContext[Any, Any]


class AdminService:
    """One method an RPC."""

    def __init__(self, db: Database, access: AccessControl, replies: Replies, files: Files) -> None:
        self._db = db
        self._access = access
        self._replies = replies
        self._files = files

    async def CreateAccount(
        self, request: api.CreateAccountRequest, _context: Context
    ) -> api.CreateAccountResponse:
        row = await self._db.write(
            EVERY_ACCOUNT, rows.create_account, request.name, request.external_id or None
        )
        return api.CreateAccountResponse(account=convert.account(row))

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
        row = await self._db.write(
            EVERY_ACCOUNT,
            rows.create_key,
            request.account_id.lower(),
            name=request.name,
            role=KeyRole(request.role),
            user=Author(
                external_id=request.user.external_id,
                display_name=request.user.display_name,
                avatar_url=request.user.avatar_url,
            ),
            secret_hash=hash_secret(secret),
            expire_time=_micros(request.expire_time) if request.HasField("expire_time") else None,
        )
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
        row = await self._db.write(EVERY_ACCOUNT, rows.revoke_key, request.api_key_id.lower())
        self._access.forget(row.id)
        return api.RevokeApiKeyResponse(api_key=convert.api_key(row))


def _micros(time: Timestamp) -> int:
    """Microseconds since 1970. Raises InvalidField for what protobuf says is no Timestamp."""
    if time.seconds > _LAST_SECOND or not 0 <= time.nanos < 1_000_000_000:
        raise InvalidField({"expire_time": "must be a time up to the year 9999"})
    return time.seconds * MICROS + time.nanos // 1_000

"""Webhooks, and what they did not take."""

from __future__ import annotations

from colloquy.api import admin_service_pb2 as api

from colloquy_server.api import convert
from colloquy_server.api.handlers import Context
from colloquy_server.api.tokens import decode_page, encode_page, page_size
from colloquy_server.database.repository import webhooks as rows
from colloquy_server.database.repository.audit import audited
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database
from colloquy_server.database.values import EventType
from colloquy_server.webhooks.addresses import check_url
from colloquy_server.webhooks.signing import new_secret


class WebhookAdministration:
    """The calls of AdminService about webhooks."""

    _db: Database
    _allow_private_webhooks: bool
    """As for `check_url`."""

    async def CreateWebhook(
        self, request: api.CreateWebhookRequest, _context: Context
    ) -> api.CreateWebhookResponse:
        await check_url(request.url, allow_private=self._allow_private_webhooks)
        secret = new_secret()
        row = await self._db.write(
            EVERY_ACCOUNT,
            audited(rows.create),
            request.account_id.lower(),
            request.url,
            [EventType(kind) for kind in request.event_types],
            secret,
        )
        return api.CreateWebhookResponse(webhook=convert.webhook(row), secret=secret)

    async def ListWebhooks(
        self, request: api.ListWebhooksRequest, _context: Context
    ) -> api.ListWebhooksResponse:
        limit = page_size(request.page_size)
        key = decode_page(request.page_token, str)
        found = await self._db.read(
            EVERY_ACCOUNT,
            rows.page,
            request.account_id.lower(),
            limit=limit + 1,
            after=str(key[0]) if key else "",
        )
        return api.ListWebhooksResponse(
            webhooks=[convert.webhook(row) for row in found[:limit]],
            next_page_token=encode_page(found[limit - 1].id) if len(found) > limit else "",
        )

    async def DeleteWebhook(
        self, request: api.DeleteWebhookRequest, _context: Context
    ) -> api.DeleteWebhookResponse:
        await self._db.write(EVERY_ACCOUNT, audited(rows.remove), request.webhook_id.lower())
        return api.DeleteWebhookResponse()

    async def ListDeadLetters(
        self, request: api.ListDeadLettersRequest, _context: Context
    ) -> api.ListDeadLettersResponse:
        limit = page_size(request.page_size)
        key = decode_page(request.page_token, int)
        found = await self._db.read(
            EVERY_ACCOUNT,
            rows.dead_letters,
            request.account_id.lower(),
            limit=limit + 1,
            after=int(key[0]) if key else -1,
        )
        return api.ListDeadLettersResponse(
            deliveries=[convert.delivery(row) for row in found[:limit]],
            next_page_token=encode_page(found[limit - 1].position) if len(found) > limit else "",
        )

    async def RetryDeadLetter(
        self, request: api.RetryDeadLetterRequest, _context: Context
    ) -> api.RetryDeadLetterResponse:
        row = await self._db.write(EVERY_ACCOUNT, audited(rows.retry), request.delivery_id.lower())
        return api.RetryDeadLetterResponse(delivery=convert.delivery(row))

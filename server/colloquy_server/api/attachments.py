"""AttachmentService: files up and down, in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from colloquy.api import attachment_service_pb2 as api

from colloquy_server.api import convert
from colloquy_server.api.access import principal
from colloquy_server.api.interceptors import CANCEL_NOTICE, validate
from colloquy_server.errors import InvalidField
from colloquy_server.files.files import Files

Context = grpc.aio.ServicerContext[Any, Any]


class AttachmentService:
    """One method an RPC."""

    def __init__(self, files: Files) -> None:
        self._files = files

    async def UploadAttachment(
        self, requests: AsyncIterator[api.UploadAttachmentRequest], _context: Context
    ) -> api.UploadAttachmentResponse:
        header = await self._header(requests)
        with self._files.spool() as spool:
            async for request in requests:
                if request.WhichOneof("part") != "chunk":
                    raise InvalidField({"chunk": "after the header come chunks only"})
                await spool.write(request.chunk)
            if not header.sha256:
                # The chunks of a call that was cancelled end like those of one that is complete.
                await asyncio.sleep(CANCEL_NOTICE)
            if header.sha256 and header.sha256.lower() != spool.sha256:
                raise InvalidField(
                    {"header.sha256": f"the bytes that came have the SHA-256 {spool.sha256}"}
                )
            row = await self._files.store(
                principal.get().account_id, spool, header.filename, header.content_type
            )
        return api.UploadAttachmentResponse(attachment=convert.attachment(row))

    async def _header(
        self, requests: AsyncIterator[api.UploadAttachmentRequest]
    ) -> api.UploadAttachmentRequest.Header:
        async for request in requests:
            validate(request)
            if not request.HasField("header"):
                raise InvalidField({"header": "must come first"})
            return request.header
        raise InvalidField({"header": "must come first"})

    async def GetAttachment(
        self, request: api.GetAttachmentRequest, _context: Context
    ) -> api.GetAttachmentResponse:
        row = await self._files.get(principal.get().account_id, request.attachment_id.lower())
        return api.GetAttachmentResponse(attachment=convert.attachment(row))

    async def DownloadAttachment(
        self, request: api.DownloadAttachmentRequest, context: Context
    ) -> None:
        row, pieces = await self._files.open(
            principal.get().account_id, request.attachment_id.lower()
        )
        await context.write(api.DownloadAttachmentResponse(attachment=convert.attachment(row)))
        async for piece in pieces:
            await context.write(api.DownloadAttachmentResponse(chunk=piece))

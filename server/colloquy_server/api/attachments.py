"""AttachmentService: files up and down, in pieces."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager

from colloquy.api import attachment_service_pb2 as api

from colloquy_server.api import convert
from colloquy_server.api.access import principal
from colloquy_server.api.call_limiter import CallLimiter
from colloquy_server.api.edge import validate
from colloquy_server.api.handlers import Context
from colloquy_server.api.requests import CANCEL_NOTICE
from colloquy_server.errors import InvalidField
from colloquy_server.files.files import Files

_MAX_OPEN = 10_000


class AttachmentService:
    """One method an RPC."""

    def __init__(self, files: Files) -> None:
        self._files = files
        most = _max_open()
        self._open = CallLimiter(most, (most + 1) // 2)

    def place(self) -> AbstractContextManager[None]:
        """Around what has a file open for the caller, up or down: one connection can have
        thousands of such calls. Raises Overloaded."""
        caller = principal.get()
        return self._open.call(caller.key_id or caller.user_id)

    async def UploadAttachment(
        self, requests: AsyncIterator[api.UploadAttachmentRequest], _context: Context
    ) -> api.UploadAttachmentResponse:
        header = await self._header(requests)
        caller = principal.get()
        key_id = caller.limited_key_id
        with (
            self.place(),
            await self._files.spool(
                caller.account_id, caller.user_id, key_id, header.sha256
            ) as spool,
        ):
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
            caller = principal.get()
            row = await self._files.store(
                caller.account_id,
                caller.user_id,
                key_id,
                spool,
                header.filename,
                header.content_type,
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
        row = await self._files.get(principal.get().scope, request.attachment_id.lower())
        return api.GetAttachmentResponse(attachment=convert.attachment(row))

    async def DownloadAttachment(
        self, request: api.DownloadAttachmentRequest, context: Context
    ) -> None:
        row, pieces = await self._files.open(principal.get().scope, request.attachment_id.lower())
        with self.place():
            await context.write(api.DownloadAttachmentResponse(attachment=convert.attachment(row)))
            async for piece in pieces:
                await context.write(api.DownloadAttachmentResponse(chunk=piece))


def _max_open() -> int:
    """An eighth of the files that the process may open: connections have three quarters."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MAX_OPEN if allowed < 0 else min(_MAX_OPEN, max(1, allowed // 8))

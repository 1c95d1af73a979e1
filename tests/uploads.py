"""Files up and down, as tests send and take them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
from colloquy.api import attachment_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy_server.database.transactions import EVERY_ACCOUNT, Session
from sqlalchemy import text

from tests.harness import Caller, Colloquy

CHUNK = 256 << 10


async def parts(
    data: bytes, filename: str = "file.txt", **header: str
) -> AsyncIterator[api.UploadAttachmentRequest]:
    yield api.UploadAttachmentRequest(
        header=api.UploadAttachmentRequest.Header(filename=filename, **header)
    )
    for start in range(0, len(data), CHUNK):
        yield api.UploadAttachmentRequest(chunk=data[start : start + CHUNK])


async def upload(
    caller: Caller, data: bytes, filename: str = "file.txt", **header: str
) -> resources.Attachment:
    while True:
        try:
            response = await caller.attachments.UploadAttachment(
                parts(data, filename, **header), metadata=caller.metadata
            )
        except grpc.aio.AioRpcError as error:
            # Where a server ends a call to which more is being sent, gRPC's client may fail at the
            # sending, and then does not tell what the server said.
            if error.details() != "Internal error from Core":
                raise
        else:
            return response.attachment


async def download(caller: Caller, attachment_id: str) -> tuple[resources.Attachment, bytes]:
    request = api.DownloadAttachmentRequest(attachment_id=attachment_id)
    first, data = None, bytearray()
    async for response in caller.attachments.DownloadAttachment(request, metadata=caller.metadata):
        if response.HasField("attachment"):
            first = response.attachment
        data += response.chunk
    assert first is not None
    return first, bytes(data)


async def known(caller: Caller, attachment_id: str) -> resources.Attachment:
    request = api.GetAttachmentRequest(attachment_id=attachment_id)
    response = await caller.attachments.GetAttachment(request, metadata=caller.metadata)
    return response.attachment


def stored(colloquy: Colloquy) -> list[Path]:
    """The objects in the store, which is a folder."""
    return sorted(path for path in (colloquy.folder / "files").rglob("*") if path.is_file())


async def count(colloquy: Colloquy, *tables: str) -> list[int]:
    """How many rows are in these tables."""

    def rows(s: Session) -> list[int]:
        return [s.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() for table in tables]

    return await colloquy.app.db.read(EVERY_ACCOUNT, rows)


async def emptied(colloquy: Colloquy) -> None:
    """Waits until nothing is left to remove, and requires that the store is empty then."""
    async with asyncio.timeout(60):
        while await count(colloquy, "removals") != [0]:  # noqa: ASYNC110 - as in `settle`
            await asyncio.sleep(0.01)
    assert stored(colloquy) == []

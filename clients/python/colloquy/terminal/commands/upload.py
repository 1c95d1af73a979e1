"""`upload`: a file for a later message."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from colloquy.terminal.connection import connection_of
from colloquy.terminal.console import print_lines

if TYPE_CHECKING:
    from colloquy.api.resources_pb2 import Attachment


def upload(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(help="The file.", exists=True, dir_okay=False, metavar="FILE")
    ],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Upload a file and print its id, for an attachment of a message."""
    from colloquy.terminal.attachments import upload_with_progress
    from colloquy.terminal.formatting import to_json

    connection = connection_of(context)

    async def run() -> Attachment:
        async with connection.async_client() as client:
            return await upload_with_progress(client, file)

    attachment = asyncio.run(run())
    print_lines([to_json(attachment) if json else attachment.id])

"""`export`: a conversation as a file, with its attachments."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from colloquy.terminal.connection import connection_of
from colloquy.terminal.partial_ids import find_conversation


class Format(StrEnum):
    """How to write a conversation down."""

    MD = "md"
    JSON = "json"


def export(
    context: typer.Context,
    conversation: Annotated[
        str, typer.Argument(help="Its id, or how that begins or ends.", metavar="CONVERSATION")
    ],
    format: Annotated[  # noqa: A002 - it is the option's name
        Format, typer.Option("--format", "-f", help="Markdown, or JSON with all fields.")
    ] = Format.MD,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file; default: standard output.", metavar="FILE"),
    ] = None,
    files: Annotated[
        Path | None,
        typer.Option(
            "--files",
            help="Save its files in this folder too; what is written names them there.",
            metavar="FOLDER",
            file_okay=False,
        ),
    ] = None,
) -> None:
    """Write a conversation down as Markdown or JSON, with its files if wanted."""
    from colloquy.terminal.attachments import save_attachments
    from colloquy.terminal.conversation_renderer import to_markdown, to_object
    from colloquy.terminal.formatting import dump

    with connection_of(context).client() as client:
        id_ = find_conversation(client, conversation)
        found = client.get_conversation(id_).conversation
        messages = list(client.messages(id_))
        saved = save_attachments(client, messages, files, output) if files is not None else {}
        if format is Format.JSON:
            text = dump(to_object(found, messages, saved), indent=2) + "\n"
        else:
            text = "".join(to_markdown(found, messages, saved))
    if output is None:
        sys.stdout.write(text)
    else:
        output.write_text(text, "utf-8")

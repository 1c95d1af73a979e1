"""The commands that look at what is there: list, show, watch, models, export, upload."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from colloquy.terminal.session import find_conversation, note, screen, session_of

if TYPE_CHECKING:
    from rich.table import Table

    from colloquy.api.resources_pb2 import Attachment

Which = Annotated[
    str, typer.Argument(help="Its id, or how that begins or ends.", metavar="CONVERSATION")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AsJsonLines = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


class Format(StrEnum):
    """How to write a conversation down."""

    MD = "md"
    JSON = "json"


def list_conversations(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 20,
    json: AsJsonLines = False,
) -> None:
    """List the conversations, the one with the latest activity first.

    On a pipe: id, time of the last message in UTC, number of messages, model and title, with tabs
    between them.
    """
    from colloquy.terminal.history import conversation_fields, title_of
    from colloquy.terminal.text import clean_line, local_time, short, to_json, to_tsv

    console = screen()
    with session_of(context).client() as client:
        found = list(itertools.islice(client.conversations(), limit))
    if json or not console.is_terminal:
        _print_lines(to_json(c) if json else to_tsv(conversation_fields(c)) for c in found)
        return
    if not found:
        note("no conversations yet: begin one with `chat`")
        return
    table = _table("ID", "Last message", "Messages", "Model", "Title")
    for c in found:
        last = local_time(c.last_message_time)
        table.add_row(short(c.id), last, str(c.message_count), clean_line(c.model), title_of(c))
    console.print(table)


def show(context: typer.Context, conversation: Which, json: AsJson = False) -> None:
    """Print a conversation with all its messages."""
    from colloquy.terminal.history import print_message, title_of, to_markdown, to_object
    from colloquy.terminal.text import clean_line, dump

    console = screen()
    with session_of(context).client() as client:
        id_ = find_conversation(client, conversation)
        found = client.get_conversation(id_).conversation
        messages = client.messages(id_)
        if json:
            _print_lines([dump(to_object(found, messages))])
        elif not console.is_terminal:
            sys.stdout.writelines(to_markdown(found, messages))
        else:
            console.print(title_of(found), style="bold")
            console.print(f"{found.id} · {clean_line(found.model)}\n", style="dim")
            for message in messages:
                print_message(console, message)


def watch(context: typer.Context, conversation: Which, json: AsJsonLines = False) -> None:
    """Print what happens in a conversation, until it is deleted or Ctrl-C.

    With --json each line is a ConversationEvent; its resume_token is valid in WatchConversation.
    """
    from colloquy.terminal.telling import Teller
    from colloquy.terminal.text import to_json

    teller = Teller(sys.stdout)
    with session_of(context).client() as client:
        id_ = find_conversation(client, conversation)
        with client.watch(id_) as events:
            for event in events:
                if json:
                    _print_lines([to_json(event)])
                else:
                    teller.tell(event)


def models(context: typer.Context, json: AsJsonLines = False) -> None:
    """List the models.

    On a pipe: id, whether it is available, whether new conversations get it, provider, tokens of
    context, US dollars for 1,000 tokens in and out, with tabs between them.
    """
    from colloquy.terminal.text import clean_line, to_json, to_tsv

    console = screen()
    with session_of(context).client() as client:
        answer = client.list_models()
    if json:
        _print_lines(to_json(model) for model in answer.models)
        return
    rows = [
        (
            clean_line(model.id),
            "available" if model.available else "no key",
            "default" if model.id == answer.default_model else "",
            clean_line(model.provider),
            str(model.context_window),
            f"{model.input_price:g}",
            f"{model.output_price:g}",
        )
        for model in answer.models
    ]
    if not console.is_terminal:
        _print_lines(to_tsv(row) for row in rows)
        return
    table = _table("Model", "", "", "Provider", "Context", "$ in", "$ out")
    for row in rows:
        table.add_row(*row, style="" if row[1] == "available" else "dim")
    console.print(table)


def upload(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(help="The file.", exists=True, dir_okay=False, metavar="FILE")
    ],
    json: AsJson = False,
) -> None:
    """Upload a file and print its id, for an attachment of a message."""
    from colloquy.terminal.text import to_json
    from colloquy.terminal.transfers import upload as send_up

    session = session_of(context)

    async def run() -> Attachment:
        async with session.async_client() as client:
            return await send_up(client, file)

    attachment = asyncio.run(run())
    _print_lines([to_json(attachment) if json else attachment.id])


def export(
    context: typer.Context,
    conversation: Which,
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
    from colloquy.terminal.history import to_markdown, to_object
    from colloquy.terminal.text import dump
    from colloquy.terminal.transfers import save

    with session_of(context).client() as client:
        id_ = find_conversation(client, conversation)
        found = client.get_conversation(id_).conversation
        messages = list(client.messages(id_))
        saved = save(client, messages, files, output) if files is not None else {}
        if format is Format.JSON:
            text = dump(to_object(found, messages, saved), indent=2) + "\n"
        else:
            text = "".join(to_markdown(found, messages, saved))
    if output is None:
        sys.stdout.write(text)
    else:
        output.write_text(text, "utf-8")


def _table(*columns: str) -> Table:
    from rich.table import Table

    return Table(*columns, box=None, pad_edge=False, header_style="bold")


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)  # noqa: T201

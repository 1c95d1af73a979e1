"""`send`: one question, for people and for scripts."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from colloquy.terminal.session import (
    Session,
    find_conversation_aio,
    note,
    screen,
    session_of,
    usage,
)

if TYPE_CHECKING:
    from colloquy.api.resources_pb2 import Message
    from colloquy.terminal.views import View


def send(
    context: typer.Context,
    text: Annotated[
        str | None,
        typer.Argument(
            help="What to say; - or nothing reads it from standard input.", metavar="TEXT"
        ),
    ] = None,
    conversation: Annotated[
        str | None,
        typer.Option(
            "--conversation",
            "-c",
            help="Say it in this conversation; default: a new one.",
            metavar="ID",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="The new conversation's model.", metavar="NAME"),
    ] = None,
    attach: Annotated[
        list[Path] | None,
        typer.Option("--attach", "-a", help="A file to send with it.", metavar="FILE"),
    ] = None,
    json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print the finished reply as one JSON object, a Message of the API.",
        ),
    ] = False,
    no_stream: Annotated[
        bool, typer.Option("--no-stream", help="Print the text when it is whole.")
    ] = False,
) -> None:
    """Say something and print the reply.

    On a terminal the reply is rendered Markdown, elsewhere plain text as it comes. Should the
    reply begin again after it broke, a line on standard error says that the text before is void;
    --no-stream and --json print the final text only.

    Exit codes: 0 the reply completed, 1 it failed, 2 wrong usage, 130 it was stopped (Ctrl-C
    stops it).
    """
    content = _content(text)
    if conversation and model:
        usage("--model is for a new conversation; leave --conversation or --model out")
    session = session_of(context)
    try:
        reply = asyncio.run(
            _send(session, content, conversation, model or "", attach or [], json, no_stream)
        )
    except asyncio.CancelledError:
        note("left; the reply goes on in the server")
        raise typer.Exit(130) from None
    raise typer.Exit(_exit_code(reply))


def _content(text: str | None) -> str:
    """Return what to say. Exits with 2 when that is nothing, or no text."""
    if text is None and sys.stdin.isatty():
        usage("say something: `send TEXT`, or `send -` to read standard input")
    if text is None or text == "-":
        try:
            text = sys.stdin.buffer.read().decode("utf-8").removesuffix("\n")
        except UnicodeDecodeError:
            usage("standard input is not UTF-8 text; send other files with --attach")
    if not text:
        usage("there is nothing to say: the text is empty")
    if "\0" in text:
        usage("the text has a null character (U+0000), which no message may have")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # how Python passes on other bytes
        usage("the text is not UTF-8")
    return text


async def _send(
    session: Session,
    content: str,
    conversation: str | None,
    model: str,
    attach: list[Path],
    json: bool,
    no_stream: bool,
) -> Message | None:
    from colloquy.errors import ColloquyError, InvalidArgument, ResourceExhausted
    from colloquy.terminal.following import follow
    from colloquy.terminal.text import short
    from colloquy.terminal.transfers import upload

    async with session.async_client() as client:
        attachments = [(await upload(client, path)).id for path in attach]
        if conversation:
            conversation_id = await find_conversation_aio(client, conversation)
        else:
            conversation_id = (await client.create_conversation(model=model)).id
        view = _view(as_json=json, whole=no_stream)
        reply = client.send(conversation_id, content, attachment_ids=attachments)
        try:
            finished = await follow(client, conversation_id, reply, view)
        except (InvalidArgument, ResourceExhausted):
            # It was refused; an empty conversation is of no use.
            if not conversation:
                with suppress(ColloquyError):
                    await client.delete_conversation(conversation_id)
            raise
    if sys.stdout.isatty() and not conversation:
        part = short(conversation_id)
        note(f"(go on with `send -c {part}` or `chat {part}`)")
    return finished


def _view(*, as_json: bool, whole: bool) -> View:
    from colloquy.terminal.views import LiveView, PlainView, WholeView

    console = screen()
    if as_json or whole:
        return WholeView(as_json=as_json)
    return LiveView(console) if console.is_terminal else PlainView()


def _exit_code(reply: Message | None) -> int:
    from colloquy.api.resources_pb2 import Message
    from colloquy.terminal.views import ending

    if reply is None:
        note("error: the conversation was deleted meanwhile")
        return 1
    if reply.state == Message.STATE_COMPLETED:
        return 0
    # On a terminal the view has said so already.
    failed = reply.state == Message.STATE_FAILED
    if not sys.stdout.isatty():
        note(f"error: the reply {ending(reply)}" if failed else "the reply was stopped")
    return 1 if failed else 130

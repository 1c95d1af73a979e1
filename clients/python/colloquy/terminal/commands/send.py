"""`send`: one question, for people and for scripts."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from colloquy.terminal.connection import Connection, connection_of
from colloquy.terminal.console import note, screen, usage_error
from colloquy.terminal.partial_ids import find_conversation_async

if TYPE_CHECKING:
    from colloquy import AsyncConversationClient
    from colloquy.api.resources_pb2 import Message
    from colloquy.terminal.reply_renderers import ReplyRenderer


@dataclass(frozen=True)
class _Where:
    """The conversation in which something is said: one that there is, or a new one."""

    part: str
    is_last: bool
    model: str
    system_prompt: str
    is_private: bool

    async def find(self, client: AsyncConversationClient) -> str:
        """Return the id of the conversation that there is; empty when a new one is to be made."""
        if self.part:
            return await find_conversation_async(client, self.part)
        if self.is_last:
            async for found in client.conversations():
                return found.id
            note("there is no conversation yet; this begins the first one")
        return ""

    async def make(self, client: AsyncConversationClient) -> str:
        """Return the id of a new one."""
        from colloquy.api.resources_pb2 import Conversation

        made = await client.create_conversation(
            model=self.model,
            system_prompt=self.system_prompt,
            visibility=Conversation.VISIBILITY_PARTICIPANTS
            if self.is_private
            else Conversation.VISIBILITY_UNSPECIFIED,
        )
        return made.id


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
    last: Annotated[
        bool,
        typer.Option("--last", "-l", help="Say it in the conversation that was used last."),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="The new conversation's model.", metavar="NAME"),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(
            "--system",
            "-s",
            help="What the model is told before all messages of the new conversation.",
            metavar="TEXT",
        ),
    ] = None,
    private: Annotated[
        bool,
        typer.Option("--private", help="Only you and those you invite see the new conversation."),
    ] = False,
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
    if conversation and last:
        usage_error("--last is the conversation; leave it or --conversation out")
    if (conversation or last) and (model or system is not None or private):
        usage_error(
            "--model, --system and --private are for a new conversation; leave them, or"
            " --conversation and --last, out"
        )
    where = _Where(conversation or "", last, model or "", system or "", private)
    connection = connection_of(context)
    try:
        reply = asyncio.run(_send(connection, content, where, attach or [], json, no_stream))
    except asyncio.CancelledError:
        note("left; the reply goes on in the server")
        raise typer.Exit(130) from None
    # On a terminal, what shows a reply while it comes also says how it ended.
    is_told = sys.stdout.isatty() and not (json or no_stream)
    raise typer.Exit(_exit_code(reply, is_told=is_told))


def _content(text: str | None) -> str:
    """Return what to say. Exits with 2 when that is nothing, or no text."""
    if text is None and sys.stdin.isatty():
        usage_error("say something: `send TEXT`, or `send -` to read standard input")
    if text is None or text == "-":
        try:
            text = sys.stdin.buffer.read().decode("utf-8").removesuffix("\n")
        except UnicodeDecodeError:
            usage_error("standard input is not UTF-8 text; send other files with --attach")
    if not text:
        usage_error("there is nothing to say: the text is empty")
    if "\0" in text:
        usage_error("the text has a null character (U+0000), which no message may have")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # how Python passes on other bytes
        usage_error("the text is not UTF-8")
    return text


async def _send(
    connection: Connection,
    content: str,
    where: _Where,
    attach: list[Path],
    json: bool,
    no_stream: bool,
) -> Message | None:
    from colloquy.errors import ColloquyError, InvalidArgument, ResourceExhausted
    from colloquy.terminal.attachments import upload_with_progress
    from colloquy.terminal.reply_display import display_reply

    async with connection.async_client() as client:
        attachments = [(await upload_with_progress(client, path)).id for path in attach]
        found = await where.find(client)
        conversation_id = found or await where.make(client)
        renderer = _renderer(as_json=json, whole=no_stream)
        reply = client.send(conversation_id, content, attachment_ids=attachments)
        try:
            finished = await display_reply(client, conversation_id, reply, renderer)
        except (InvalidArgument, ResourceExhausted):
            # It was refused; an empty conversation is of no use.
            if not found:
                with suppress(ColloquyError):
                    await client.delete_conversation(conversation_id)
            raise
    if sys.stdout.isatty() and not found:
        note(f"(go on with `colloquy send -c {conversation_id}`, or `colloquy chat` and this id)")
    return finished


def _renderer(*, as_json: bool, whole: bool) -> ReplyRenderer:
    from colloquy.terminal.reply_renderers import FinalRenderer, LiveRenderer, PlainRenderer

    console = screen()
    if as_json or whole:
        return FinalRenderer(as_json=as_json)
    return LiveRenderer(console) if console.is_terminal else PlainRenderer()


def _exit_code(reply: Message | None, *, is_told: bool) -> int:
    from colloquy.api.resources_pb2 import Message
    from colloquy.terminal.reply_renderers import outcome, stand_in

    if reply is None:
        note("error: the conversation was deleted meanwhile")
        return 1
    if reply.state == Message.STATE_COMPLETED:
        # Beside the text, which somebody may read on.
        for remark in () if is_told else (outcome(reply), stand_in(reply)):
            if remark:
                note(f"({remark})")
        return 0
    failed = reply.state == Message.STATE_FAILED
    if not is_told:
        note(f"error: the reply {outcome(reply)}" if failed else "the reply was stopped")
    return 1 if failed else 130

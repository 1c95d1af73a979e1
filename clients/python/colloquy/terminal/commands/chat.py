"""`chat`: its options, and where its session begins."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from colloquy.terminal.connection import Connection, connection_of
from colloquy.terminal.console import note, screen, usage_error
from colloquy.terminal.partial_ids import find_conversation_async

if TYPE_CHECKING:
    from colloquy import AsyncConversationClient
    from colloquy.terminal.chat_session import ChatSession

Item = TypeVar("Item")

# How many messages are shown when a chat goes on; `show` prints them all.
_SHOWN = 20


def chat(
    context: typer.Context,
    conversation: Annotated[
        str | None,
        typer.Argument(
            help="Its id, or how that begins or ends; default: a new one.",
            metavar="CONVERSATION",
        ),
    ] = None,
    last: Annotated[
        bool, typer.Option("--last", "-l", help="Go on with the latest conversation.")
    ] = False,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="The model that answers.", metavar="NAME")
    ] = None,
    private: Annotated[
        bool,
        typer.Option("--private", help="Only you and those you invite see the new conversation."),
    ] = False,
    attach: Annotated[
        list[Path] | None,
        typer.Option(
            "--attach", "-a", help="A file to send with what you say first.", metavar="FILE"
        ),
    ] = None,
) -> None:
    """Talk with a model, in a new conversation or in one that there is.

    Enter sends; Alt-Enter, or Enter after a backslash, begins another line. Ctrl-C stops a reply
    that is being written; at the prompt it leaves, as Ctrl-D does. /help lists the commands.
    """
    if conversation and last:
        usage_error("--last is the conversation; leave it or the id out")
    if private and (conversation or last):
        usage_error("--private is for a new conversation; leave it, or the id and --last, out")
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        usage_error("chat needs a terminal; `colloquy send` asks one question from a script")
    try:
        asyncio.run(
            _chat(connection_of(context), conversation, last, model or "", attach or [], private)
        )
    except asyncio.CancelledError:
        raise typer.Exit(130) from None


async def _chat(
    connection: Connection,
    conversation: str | None,
    last: bool,
    model: str,
    attach: list[Path],
    is_private: bool,
) -> None:
    from colloquy.terminal.chat_session import COMMANDS, ChatSession
    from colloquy.terminal.prompt import Prompt
    from colloquy.terminal.tty import echo_off

    # All the time, so that nothing is lost that is typed between two prompts.
    with echo_off():
        async with connection.async_client() as client:
            prompt = Prompt(list(COMMANDS))
            session = ChatSession(client, screen(), prompt, model, is_private=is_private)
            if conversation:
                await _resume(client, session, await find_conversation_async(client, conversation))
            elif last:
                async for found in client.conversations():
                    await _resume(client, session, found.id)
                    break
                else:
                    note("there is no conversation yet; this begins the first one")
            if session.conversation is None:
                await session.welcome()
            for path in attach:
                await session.attach(path)
            await session.run()


async def _resume(
    client: AsyncConversationClient, session: ChatSession, conversation_id: str
) -> None:
    """Show how a conversation stands, and go on with it."""
    found = await client.get_conversation(conversation_id)
    shown = await last_items(client.messages(conversation_id), _SHOWN)
    await session.resume(found.conversation, found.resume_token, shown)


async def last_items(items: AsyncIterator[Item], count: int) -> list[Item]:
    """Return the last items, holding no more than these."""
    last: deque[Item] = deque(maxlen=count)
    async for item in items:
        last.append(item)
    return list(last)

"""Displays one reply while it comes, and stops it with Ctrl-C."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from colloquy.api.resources_pb2 import Message
from colloquy.errors import ColloquyError
from colloquy.terminal.error_formatter import format_error
from colloquy.terminal.tty import echo_off, on_interrupt

if TYPE_CHECKING:
    from colloquy import AsyncConversationClient, AsyncReply
    from colloquy.terminal.reply_renderers import ReplyRenderer


async def display_reply(
    client: AsyncConversationClient,
    conversation_id: str,
    reply: AsyncReply,
    renderer: ReplyRenderer,
) -> Message | None:
    """Show a reply to its end and return it; None when the conversation was deleted meanwhile.

    The first Ctrl-C stops the reply, which then ends as cancelled. The second one stops following
    it: asyncio.CancelledError.
    """
    drawing = asyncio.create_task(_draw(renderer))
    stopping: asyncio.Task[None] | None = None
    this = asyncio.current_task()

    async def stop() -> None:
        nonlocal stopping
        try:
            # By request: the reply may not be known yet.
            await client.cancel_reply(conversation_id=conversation_id, request_id=reply.request_id)
        except ColloquyError as error:
            renderer.notify(f"it could not be stopped: {format_error(error, client.address)}")
            stopping = None

    def interrupt() -> None:
        nonlocal stopping
        if stopping is None:
            stopping = asyncio.create_task(stop())
        elif this is not None:
            this.cancel()

    finished: Message | None = None
    try:
        with on_interrupt(interrupt), echo_off():
            finished = await _show(reply, renderer)
        return finished
    finally:
        drawing.cancel()
        with suppress(asyncio.CancelledError):
            await drawing
        # The reply may end before the answer to the wish to stop it comes.
        if stopping is not None and this is not None and not this.cancelling():
            await stopping
        renderer.finish(finished)


async def _show(reply: AsyncReply, renderer: ReplyRenderer) -> Message | None:
    attempt = 0
    async with reply:
        async for event in reply:
            if event.HasField("accepted"):
                attempt = event.accepted.reply.attempt
            elif event.HasField("delta"):
                renderer.append(event.delta.text)
            elif event.HasField("deleted"):
                return None
            elif event.message.attempt > attempt and reply.reply is not None:
                if attempt and event.message.id == reply.reply.id:
                    renderer.restart()
                attempt = event.message.attempt
    return reply.reply


async def _draw(renderer: ReplyRenderer) -> None:
    while True:  # noqa: ASYNC110 - a picture comes when its time has come
        await asyncio.sleep(renderer.redraw())

"""Following one reply on a terminal: showing it, and stopping it with Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from colloquy.api.resources_pb2 import Message
from colloquy.errors import ColloquyError
from colloquy.terminal.complaints import describe

if TYPE_CHECKING:
    from colloquy import AsyncConversationClient, AsyncReply
    from colloquy.terminal.views import View


async def follow(
    client: AsyncConversationClient, conversation_id: str, reply: AsyncReply, view: View
) -> Message | None:
    """Show a reply to its end and return it; None when the conversation was deleted meanwhile.

    The first Ctrl-C stops the reply, which then ends as cancelled. The second one stops following
    it: asyncio.CancelledError.
    """
    drawing = asyncio.create_task(_draw(view))
    stopping: asyncio.Task[None] | None = None
    this = asyncio.current_task()

    async def stop() -> None:
        nonlocal stopping
        try:
            # By request: the reply may not be known yet.
            await client.cancel_reply(conversation_id=conversation_id, request_id=reply.request_id)
        except ColloquyError as error:
            view.say(f"it could not be stopped: {describe(error, client.address)}")
            stopping = None

    def interrupt() -> None:
        nonlocal stopping
        if stopping is None:
            stopping = asyncio.create_task(stop())
        elif this is not None:
            this.cancel()

    finished: Message | None = None
    try:
        with on_interrupt(interrupt), quiet_terminal():
            finished = await _show(reply, view)
        return finished
    finally:
        drawing.cancel()
        with suppress(asyncio.CancelledError):
            await drawing
        # The reply may end before the answer to the wish to stop it comes.
        if stopping is not None and this is not None and not this.cancelling():
            await stopping
        view.finish(finished)


@contextmanager
def on_interrupt(action: Callable[[], None]) -> Iterator[None]:
    """Do something else than usual for Ctrl-C while the block runs."""
    loop = asyncio.get_running_loop()
    usual = signal.getsignal(signal.SIGINT)
    loop.add_signal_handler(signal.SIGINT, action)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, usual)


@contextmanager
def quiet_terminal() -> Iterator[None]:
    """Keep what is typed off the screen while the block runs; the next prompt gets it."""
    if not sys.stdin.isatty():
        yield
        return
    import termios

    usual = termios.tcgetattr(sys.stdin)
    quiet = termios.tcgetattr(sys.stdin)
    quiet[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, usual)


async def _show(reply: AsyncReply, view: View) -> Message | None:
    attempt = 0
    async with reply:
        async for event in reply:
            if event.HasField("accepted"):
                attempt = event.accepted.reply.attempt
            elif event.HasField("delta"):
                view.append(event.delta.text)
            elif event.HasField("deleted"):
                return None
            elif event.message.attempt > attempt and reply.reply is not None:
                if attempt and event.message.id == reply.reply.id:
                    view.restart()
                attempt = event.message.attempt
    return reply.reply


async def _draw(view: View) -> None:
    while True:  # noqa: ASYNC110 - a picture comes when its time has come
        await asyncio.sleep(view.redraw())

"""Renders a reply while it comes: plain, when it is whole, or as Markdown that is redrawn."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol

from colloquy.api.resources_pb2 import Message
from colloquy.terminal.console import note
from colloquy.terminal.formatting import clean, clean_line, to_json

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

# Twelve pictures a second look alive and leave the rest of the time to others.
_FRAME = 1 / 12


class ReplyRenderer(Protocol):
    """Shows one reply."""

    def append(self, text: str) -> None:
        """Show more text."""

    def restart(self) -> None:
        """Forget the text: the reply begins again."""

    def redraw(self) -> float:
        """Bring the screen up to date and return the seconds until the next time."""

    def finish(self, reply: Message | None) -> None:
        """Show the end; None when it is not known how the reply ended."""

    def notify(self, text: str) -> None:
        """Print something beside the reply."""


def outcome(reply: Message) -> str:
    """Return what there is to say about how a reply ended; empty when it simply did."""
    if reply.state == Message.STATE_FAILED:
        return f"failed: {clean_line(reply.error.message) or 'the server does not say why'}"
    if reply.state == Message.STATE_CANCELLED:
        return "stopped"
    if reply.finish_reason == "length":
        return "cut off: the model reached its output limit"
    if reply.finish_reason == "content_filter":
        return "cut off by the provider's content filter"
    return ""


def stand_in(reply: Message) -> str:
    """Return that another model answered than was asked; empty when it was the same."""
    if not reply.requested_model or reply.requested_model == reply.model:
        return ""
    return f"answered by {clean_line(reply.model)} instead of {clean_line(reply.requested_model)}"


class PlainRenderer:
    """Writes text as it comes: for pipes and files, which cannot take anything back."""

    def __init__(self) -> None:
        self._last = "\n"

    def append(self, text: str) -> None:
        """Write more text."""
        self._write(clean(text))

    def restart(self) -> None:
        """Begin on a new line, and say on standard error that what stands above is void."""
        if self._last != "\n":
            self._write("\n")
        note("the reply begins again; what came before is void")

    def redraw(self) -> float:
        """There is nothing to redraw."""
        return 60.0

    def notify(self, text: str) -> None:
        """Print it on standard error."""
        note(text)

    def finish(self, reply: Message | None) -> None:
        """End the last line."""
        if self._last != "\n":
            self._write("\n")

    def _write(self, text: str) -> None:
        if text:
            sys.stdout.write(text)
            sys.stdout.flush()
            self._last = text[-1]


class FinalRenderer:
    """Shows nothing before the end, then the final text or the whole reply as JSON."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def append(self, text: str) -> None:
        """Wait."""

    def restart(self) -> None:
        """Wait."""

    def redraw(self) -> float:
        """There is nothing to redraw."""
        return 60.0

    def notify(self, text: str) -> None:
        """Print it on standard error."""
        note(text)

    def finish(self, reply: Message | None) -> None:
        """Write it."""
        if reply is not None:
            text = to_json(reply) if self._as_json else clean(reply.content)
            print(text.removesuffix("\n"))  # noqa: T201


class LiveRenderer:
    """Shows Markdown while it grows.

    Blocks that are whole are printed for good and scroll away as any output does; only the last
    one is redrawn, and of it no more than the screen holds until it is whole. So everything is
    there once, whatever its length, and nothing flickers.
    """

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self._console = console
        self._text = ""
        self._printed_any = False
        self._changed = True
        self._began = time.monotonic()
        self._live = Live(
            console=console, auto_refresh=False, transient=True, vertical_overflow="crop"
        )
        self._live.start()

    def append(self, text: str) -> None:
        """Take more text; `redraw` shows it."""
        self._text += text
        self._changed = True

    def restart(self) -> None:
        """Take the text back as far as it is not printed for good."""
        if self._printed_any:
            self._print_line("— the reply begins again —")
        self._text = ""
        self._changed = True

    def redraw(self) -> float:
        """Print what is whole, draw the rest. A slow terminal is drawn on less often."""
        began = time.monotonic()
        if self._changed or not self._text:
            self._print_finished()
            self._live.update(self._unfinished(), refresh=True)
            self._changed = False
        return max(_FRAME, 4 * (time.monotonic() - began))

    def finish(self, reply: Message | None) -> None:
        """Print what is left, and how it ended."""
        self._live.stop()
        if self._text.strip():
            self._print(self._text)
        self._text = ""
        if reply is not None and (end := outcome(reply)):
            self._print_line(f"[{end}]", "red" if reply.state == Message.STATE_FAILED else "dim")
        if reply is not None and (other := stand_in(reply)):
            self._print_line(f"[{other}]")

    def notify(self, text: str) -> None:
        """Print a line above what is redrawn."""
        self._print_line(clean_line(text))

    def _print_finished(self) -> None:
        from colloquy.terminal.markdown import finished_length

        whole = finished_length(self._text)
        if whole:
            self._print(self._text[:whole])
            self._text = self._text[whole:]

    def _unfinished(self) -> RenderableType:
        from rich.spinner import Spinner

        from colloquy.terminal.markdown import Tail

        if not self._text.strip():
            waited = time.monotonic() - self._began
            return Spinner("dots", f"{waited:.0f} s" if waited >= 2 else "", style="dim")
        return Tail(self._text, after_other=self._printed_any)

    def _print(self, text: str) -> None:
        from colloquy.terminal.markdown import render

        if self._printed_any:
            self._console.print()
        self._console.print(render(text.strip("\n")))
        self._printed_any = True

    def _print_line(self, text: str, style: str = "dim") -> None:
        self._console.print(text, style=style)

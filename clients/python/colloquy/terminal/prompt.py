"""The line that a person types into: Enter sends, Alt-Enter or a last \\ begins another line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.key_binding import KeyBindings

if TYPE_CHECKING:
    from prompt_toolkit.input import Input
    from prompt_toolkit.key_binding import KeyPressEvent
    from prompt_toolkit.output import Output

_MARK = "> "


class Prompt:
    """Asks for what to say."""

    def __init__(
        self, commands: list[str], source: Input | None = None, screen: Output | None = None
    ) -> None:
        """`commands` complete with Tab. Without `source` and `screen` it is the terminal's own."""
        self._session: PromptSession[str] = PromptSession(
            message=FormattedText([("bold ansicyan", _MARK)]),
            prompt_continuation=FormattedText([("", " " * len(_MARK))]),
            multiline=True,
            key_bindings=_keys(),
            completer=WordCompleter(commands, sentence=True),
            complete_while_typing=False,
            input=source,
            output=screen,
        )

    async def ask(self) -> str | None:
        """Return what was typed, None for Ctrl-C or Ctrl-D."""
        try:
            return await self._session.prompt_async()
        except (EOFError, KeyboardInterrupt):
            return None

    async def print_above(self, show: Callable[[], None]) -> None:
        """Call something that prints, above the line if one is being typed."""
        if self._session.app.is_running:
            await run_in_terminal(show)
        else:
            show()


def _keys() -> KeyBindings:
    # Ctrl-J is left alone: it is what Enter becomes when it is typed before the prompt is there.
    keys = KeyBindings()

    @keys.add("enter")
    def send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.text_before_cursor.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def begin_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys

"""Breaks lines between words, of text that comes in pieces."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TextIO

_PIECES = re.compile(r"\n|[^\S\n]+|\S+")
# A word that may go on in the next piece: letters that are one cell wide, as others need no spaces.
_UNFINISHED = re.compile(r"[!-~\u00a1-\u10ff]{1,40}\Z")


def unfinished_word(text: str) -> str:
    """Return the end of a text that may be the beginning of a word."""
    found = _UNFINISHED.search(text)
    if found is None or text[: found.start()][-1:].strip():  # a longer word, or one of wide letters
        return ""
    return found[0]


class WordWrap:
    """Writes whole words, each on one line of `width()` cells if it has room there."""

    def __init__(self, output: TextIO, width: Callable[[], int] | None) -> None:
        self._output = output
        self._width = width
        self._column = 0
        self._spaces = ""

    def write(self, text: str) -> None:
        """Write words. Without a width lines are as long as they are."""
        if self._width is None:
            self._output.write(text)
            return
        from rich.cells import cell_len

        width = self._width()
        for piece in _PIECES.findall(text):
            if piece == "\n":
                self._output.write("\n")
                self._column, self._spaces = 0, ""
            elif piece.isspace():
                self._spaces += piece
            else:
                taken = cell_len(self._spaces.expandtabs()) + cell_len(piece)
                if self._column and self._column + taken > width:
                    self._output.write(f"\n{piece}")
                    self._column = cell_len(piece)
                else:
                    self._output.write(self._spaces + piece)
                    self._column += taken
                self._column = (self._column - 1) % width + 1  # a longer word goes on below
                self._spaces = ""

"""Tables as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

_LINE_BREAK = re.compile(r"\r\n|[\r\n\v\f]")


def row(cells: Sequence[str]) -> str:
    """A row with its line's end; without what is empty at its end: a sheet may have 16,384 columns
    for one colour. Nothing when all is empty."""
    size = len(cells)
    while size and not cells[size - 1]:
        size -= 1
    return f"| {' | '.join(map(_cell, cells[:size]))} |\n" if size else ""


def _cell(text: str) -> str:
    return _LINE_BREAK.sub("<br>", text.strip()).replace("|", "\\|")

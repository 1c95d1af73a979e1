"""Tables as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

_LINE_BREAKS = re.compile(r"\s*[\r\n\v\f]\s*")


def row(cells: Sequence[str]) -> str:
    """A row with its line's end; without what is empty at its end: a sheet may have 16,384 columns
    for one colour. Nothing when all is empty."""
    size = len(cells)
    while size and not cells[size - 1]:
        size -= 1
    return f"| {' | '.join(map(cell, cells[:size]))} |\n" if size else ""


def cell(text: str) -> str:
    """A text that stays in its cell."""
    return _LINE_BREAKS.sub("<br>", text.strip()).replace("|", "\\|")

"""Prints tables whose cells are never cut: where one does not fit, its rows become blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console

_GAP = "  "
_BETWEEN = " · "


class Column(NamedTuple):
    """A column: its heading, what stands around a cell of it in a block, and whether it ends at
    the right, as numbers do."""

    heading: str
    in_block: str = "{}"
    is_number: bool = False


class Row(NamedTuple):
    """A row: the first cell names it; one that is not available is `dim`."""

    cells: Sequence[str]
    dim: bool = False


def print_table(console: Console, columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """Print a table, or a block for each row where the console is too narrow for it.

    Lines longer than the console are left to it, so that what is copied is whole.
    """
    from rich.cells import cell_len

    heading = [column.heading for column in columns]
    widths = [
        max(cell_len(cells[at]) for cells in (heading, *(row.cells for row in rows)))
        for at in range(len(columns))
    ]

    def line(cells: Sequence[str]) -> str:
        padded = []
        for column, cell, width in zip(columns, cells, widths, strict=True):
            space = " " * (width - cell_len(cell))
            padded.append(space + cell if column.is_number else cell + space)
        return _GAP.join(padded).rstrip()

    if sum(widths) + len(_GAP) * (len(widths) - 1) <= console.width:
        console.print(line(heading), style="bold", soft_wrap=True)
        for row in rows:
            console.print(line(row.cells), style="dim" if row.dim else "", soft_wrap=True)
        return
    for row in rows:
        console.print(row.cells[0], style="dim" if row.dim else "bold", soft_wrap=True)
        for text in _block(columns[1:], row.cells[1:], console.width):
            console.print(text, style="dim" if row.dim else "", soft_wrap=True)


def _block(columns: Sequence[Column], cells: Sequence[str], width: int) -> list[str]:
    """Return the other cells, as many on a line as fit."""
    from rich.cells import cell_len

    lines: list[str] = []
    for column, cell in zip(columns, cells, strict=True):
        if not cell:
            continue
        text = column.in_block.format(cell)
        if lines and cell_len(lines[-1] + _BETWEEN + text) <= width:
            lines[-1] += _BETWEEN + text
        else:
            lines.append(_GAP + text)
    return lines

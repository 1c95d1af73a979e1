"""Excel workbooks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from colloquy_server.files.extractors.results import Notes


def read(file: BinaryIO, notes: Notes) -> Iterator[str]:
    """The sheets of a workbook as tables."""
    import openpyxl

    book = openpyxl.load_workbook(file, read_only=True, data_only=True)
    for sheet in book.worksheets:
        yield f"## {sheet.title}\n\n"
        for row in sheet.iter_rows(values_only=True):
            cells = ["" if value is None else str(value) for value in row]
            while cells and not cells[-1]:  # a sheet may have 16,384 columns for one colour
                cells.pop()
            if cells:
                yield f"| {' | '.join(cells)} |\n"
        yield "\n"

"""PowerPoint presentations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from colloquy_server.files.extractors.results import Notes


def read(file: BinaryIO, notes: Notes) -> Iterator[str]:
    """The text of the slides and of their notes."""
    import pptx

    for number, slide in enumerate(pptx.Presentation(file).slides, 1):
        yield f"## Slide {number}\n\n"
        for shape in slide.shapes:
            if shape.has_text_frame:
                yield shape.text_frame.text + "\n"
            if shape.has_table:
                for row in shape.table.rows:
                    yield f"| {' | '.join(cell.text for cell in row.cells)} |\n"
        if slide.has_notes_slide:
            yield slide.notes_slide.notes_text_frame.text + "\n"
        yield "\n"

"""Jupyter notebooks: their cells and what came out of them, without pictures in base64."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from colloquy_server.files.extractors import plain_text
from colloquy_server.files.extractors.results import Notes

IPYNB = "application/x-ipynb+json"

_COLOURS = re.compile("\x1b\\[[0-9;]*m")


def read(file: BinaryIO, notes: Notes) -> Iterator[str]:
    """The cells in their order; the file as it is when it is no notebook."""
    source = plain_text.decode(file.read(), notes)
    try:
        book = json.loads(source)
        sheets = [book, *book.get("worksheets", [])]  # as notebooks of version 3 have them
        cells = [cell for sheet in sheets for cell in sheet.get("cells", [])]
        texts = [_cell(cell, notes) for cell in cells]
    except (ValueError, TypeError, AttributeError):
        texts = []
    yield from texts if any(text.strip() for text in texts) else [source]


def _cell(cell: Any, notes: Notes) -> str:
    source = _joined(cell.get("source", cell.get("input", "")))
    kind = cell.get("cell_type")
    if kind != "code":
        notes.left_out("picture", len(cell.get("attachments", {})))
        return (
            f"{'#' * cell.get('level', 1)} {source}\n\n" if kind == "heading" else f"{source}\n\n"
        )
    text = f"{_fenced(source)}\n"
    for output in cell.get("outputs", []):
        if shown := _output(output, notes).strip():
            text += f"Output:\n{_fenced(shown)}\n"
    return text


def _output(output: Any, notes: Notes) -> str:
    """What came out of a cell, in the plainest of the forms that it has."""
    if output.get("output_type") in ("error", "pyerr"):
        trace = _COLOURS.sub("", "\n".join(output.get("traceback", [])))
        return trace or f"{output.get('ename')}: {output.get('evalue')}"
    if "text" in output and "data" not in output:
        return _COLOURS.sub("", _joined(output["text"]))
    forms = output.get("data", {})
    notes.left_out("picture", any(form.startswith("image/") for form in forms))
    for form in ("text/plain", "text/markdown", "text/latex", "text/html"):
        if form in forms:
            return _joined(forms[form])
    return ""


def _joined(lines: Any) -> str:
    return lines if isinstance(lines, str) else "".join(lines)


def _fenced(text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text.rstrip()}\n{fence}\n"

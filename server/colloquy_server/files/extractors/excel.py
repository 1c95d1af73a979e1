"""Excel workbooks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import unescape
from itertools import repeat
from typing import Any, BinaryIO

from colloquy_server.files.extractors import old_office, ooxml, tables
from colloquy_server.files.extractors.number_formats import shown
from colloquy_server.files.extractors.ooxml import Package
from colloquy_server.files.extractors.results import Notes

_SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"

# Looked for in the bytes: a parsed sheet takes fifty times its size.
_UNVALUED = re.compile(
    rb"(?:</(?:\w+:)?f>|<(?:\w+:)?f\b[^>]*/>)\s*"
    rb"(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v></|</)"
)
"""A formula without a value behind it."""
_MERGED = re.compile(rb"<(?:\w+:)?mergeCell\b[^>]*?\bref=[\"']([A-Z0-9:]+)[\"']")
_LINK = re.compile(rb"<(?:\w+:)?hyperlink\b[^>]*>")
_ATTRIBUTE = re.compile(rb"""\b(ref|id|location)=(?:"([^"]*)"|'([^']*)')""")
_HIDDEN_ROW = re.compile(rb"<(?:\w+:)?row\b[^>]*?\bhidden=[\"'](?:1|true)[\"']")
_HIDDEN_COLUMN = re.compile(rb"<(?:\w+:)?col\b[^>]*?\bhidden=[\"'](?:1|true)[\"']")

_MAX_LINKS = 5_000
"""Links of a sheet that are given."""

_NAMED = 50
"""Merged ranges of a sheet that are named one by one."""


def read(file: BinaryIO, notes: Notes) -> Iterator[str]:
    """The sheets of a workbook as tables, each with its merged cells, comments and charts."""
    import mimetypes

    mimetypes.knownfiles.clear()  # openpyxl reads those of the system, which are closed to it here
    import openpyxl
    from openpyxl.worksheet import _reader

    # For a sheet that does not say its range it reads all, to find what is not wanted here.
    _reader.WorkSheetParser.parse_dimensions = lambda _self: None
    mended = ooxml.repaired(file)
    try:
        values = openpyxl.load_workbook(mended, read_only=True, data_only=True)
    except (ValueError, TypeError, KeyError, AttributeError):
        # It takes no style that it does not know, as some programs write; this looks at none.
        mended.seek(0)
        yield from old_office.read_sheets(mended, notes)
        return
    package = Package(mended)
    main = package.main()
    parts = {
        sheet.get("name"): package.relations(main)[sheet.get(_RELATION)].target
        for sheet in package.xml(main).iter(f"{_SHEET}sheet")
        if sheet.get(_RELATION) in package.relations(main)
    }
    formulas: Any = None
    for sheet in values.worksheets:
        part = parts.get(sheet.title, "")
        raw = package.read(part) if part in package.names else b""
        has_unvalued = _UNVALUED.search(raw) is not None
        if has_unvalued and formulas is None:
            formulas = openpyxl.load_workbook(mended, read_only=True)
        hidden = " (hidden sheet)" if sheet.sheet_state != "visible" else ""
        yield f"## {sheet.title}{hidden}\n\n"
        yield from _rows(sheet, formulas[sheet.title] if has_unvalued else None, notes)
        yield from _said_of(raw)
        yield from _links(raw, package.outside(part), notes)
        del raw
        yield from _beside(package, part, notes)
        yield "\n"
    with_cells = {sheet.title for sheet in values.worksheets}
    for name, part in parts.items():
        if name not in with_cells:  # a sheet that is a chart
            yield f"## {name}\n\n"
            yield from _beside(package, part, notes)


def _rows(sheet: Any, formulas: Any, notes: Notes) -> Iterator[str]:
    """The rows that are not empty, whatever range the sheet says it has: that may be false."""
    sheet.reset_dimensions()
    written: Iterator[Any] = repeat(())
    if formulas is not None:
        formulas.reset_dimensions()
        written = formulas.iter_rows()
    without_value = 0
    for cells, sources in zip(sheet.iter_rows(), written, strict=False):
        texts = [
            "" if cell.value is None else shown(cell.value, cell.number_format) for cell in cells
        ]
        for place, source in enumerate(sources):
            if cells[place].value is None and source.value is not None:
                formula = getattr(source.value, "text", source.value)  # of an array its text
                texts[place] = f"(no value stored: {formula})"
                without_value += 1
        yield tables.row(texts)
    if without_value:
        notes.say(
            f'sheet "{sheet.title}": formulas without a stored value, given as they are written:'
            f" {without_value:,}"
        )


def _said_of(raw: bytes) -> Iterator[str]:
    """What is merged and hidden in a sheet."""
    merged = [found.decode() for found in _MERGED.findall(raw)]
    if merged:
        more = f" and {len(merged) - _NAMED:,} more" if len(merged) > _NAMED else ""
        yield f"\nMerged cells: {', '.join(merged[:_NAMED])}{more}\n"
    for pattern, things in ((_HIDDEN_ROW, "rows"), (_HIDDEN_COLUMN, "groups of columns")):
        count = len(pattern.findall(raw))
        if count:
            yield f"\nHidden {things}, which are given above: {count:,}\n"


def _links(raw: bytes, addresses: Mapping[str, str], notes: Notes) -> Iterator[str]:
    """Where the links of cells lead; those to other cells of the workbook lead nowhere new."""
    links = _LINK.findall(raw)
    for link in links[:_MAX_LINKS]:
        said = {
            name: (one or other).decode(errors="replace")
            for name, one, other in _ATTRIBUTE.findall(link)
        }
        if address := addresses.get(said.get(b"id", "")):
            place = f"#{unescape(said[b'location'])}" if b"location" in said else ""
            yield f"\nLink on {said.get(b'ref', '')}: {address}{place}\n"
    notes.left_out("link", len(links) - _MAX_LINKS)


def _beside(package: Package, part: str, notes: Notes) -> Iterator[str]:
    """What is on a sheet beside its cells: links, comments, charts, texts in shapes."""
    for comments in package.beside(part, "comments", notes):
        for comment in comments.iter(f"{_SHEET}comment"):
            text = "".join(each.text or "" for each in comment.iter(f"{_SHEET}t"))
            yield f"\nComment on {comment.get('ref', '')}: {text.strip()}\n"
    for drawing in package.related(part, "drawing"):
        texts = ooxml.diagram(package.xml(drawing))
        if texts:
            yield f"\nTexts in shapes:\n{texts}"
        for chart in package.beside(drawing, "chart", notes):
            yield f"\n{ooxml.chart(chart)}"
        notes.left_out("picture", len(list(package.related(drawing, "image"))))
        notes.left_out("chart", len(list(package.related(drawing, "chartEx"))))
    notes.left_out("embedded file", len(list(package.related(part, "oleObject", "package"))))

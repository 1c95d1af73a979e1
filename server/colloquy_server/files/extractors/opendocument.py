"""OpenDocument: texts, sheets and presentations. They are read as the XML that they are, as the
libraries for it have had no releases for years."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from colloquy_server.files.extractors import tables, xml
from colloquy_server.files.extractors.results import Notes, Problem

_NS = "urn:oasis:names:tc:opendocument:xmlns:"
_TEXT = f"{{{_NS}text:1.0}}"
_TABLE = f"{{{_NS}table:1.0}}"
_DRAW = f"{{{_NS}drawing:1.0}}"
_OFFICE = f"{{{_NS}office:1.0}}"
_STYLE = f"{{{_NS}style:1.0}}"
_MATH = "{http://www.w3.org/1998/Math/MathML}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_CREATOR = "{http://purl.org/dc/elements/1.1/}creator"

_REPEATED = 100
"""A cell or a row that is there more often is given once, with the number: formatting fills whole
sheets with the same."""


def read(file: BinaryIO, notes: Notes) -> Iterator[str]:
    """The text of a document with its headers, tables, comments, charts and equations."""
    with zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
        if "META-INF/manifest.xml" in names and b"encryption-data" in archive.read(
            "META-INF/manifest.xml"
        ):
            raise Problem("it needs a password")
        if "styles.xml" in names:
            yield from _margins(xml.parsed(archive.read("styles.xml")))
        document = _Document(archive, names, notes)
        root = xml.parsed(archive.read("content.xml"))
        notes.left_out("deleted passage", sum(1 for _ in root.iter(f"{_TEXT}deletion")))
        document.hidden = {
            style.get(f"{_STYLE}name")
            for style in root.iter(f"{_STYLE}style")
            for properties in style.iter(f"{_STYLE}table-properties")
            if properties.get(f"{_TABLE}display") == "false"
        }
        yield from document.blocks(root.find(f"{_OFFICE}body"))


def _margins(styles: Any) -> Iterator[str]:
    """What stands above or below every page, each text once."""
    said: dict[str, None] = {}
    for kind in ("header", "footer"):
        for element in styles.iter(f"{_STYLE}{kind}"):
            text = "\n".join(filter(None, map(_inline, element.iter(f"{_TEXT}p"))))
            if text.strip():
                said[f"{kind.capitalize()} of the pages: {text}\n\n"] = None
    yield from said


def _number(element: Any, name: str) -> int:
    """An attribute that is a number from 1 on, which it is if it is not said."""
    said = element.get(name, "")
    return max(int(said), 1) if said.isascii() and said.isdecimal() and len(said) < 10 else 1


def _inline(element: Any) -> str:
    """The text of a paragraph, without the comments in it."""
    pieces = [element.text or ""]
    for each in element:
        name = each.tag if isinstance(each.tag, str) else ""
        if name == f"{_TEXT}s":
            pieces.append(" " * min(_number(each, f"{_TEXT}c"), 100))
        elif name == f"{_TEXT}tab":
            pieces.append("\t")
        elif name == f"{_TEXT}line-break":
            pieces.append("\n")
        elif name and name not in (f"{_OFFICE}annotation", f"{_DRAW}frame"):
            text, address = _inline(each), each.get(_LINK, "") if name == f"{_TEXT}a" else ""
            leads_out = text.strip() and address and not address.startswith("#")
            pieces.append(f"[{text}]({address})" if leads_out else text)
        pieces.append(each.tail or "")
    return "".join(pieces)


class _Document:
    """What the body of a document says."""

    def __init__(self, archive: zipfile.ZipFile, names: set[str], notes: Notes) -> None:
        self._archive = archive
        self._names = names
        self._notes = notes
        self.hidden: set[str | None] = set()
        """Styles of sheets that are not shown."""

    def blocks(self, parent: Any) -> Iterator[str]:
        """The text of what is inside an element, block by block."""
        for element in parent if parent is not None else ():
            name = element.tag if isinstance(element.tag, str) else ""
            if name == f"{_TABLE}table":
                yield from self._table(element)
            elif name == f"{_DRAW}object":
                yield from self._object(element)
            elif name == f"{_DRAW}image":
                # Beside an object it is how that looks.
                is_own = parent.find(f"{_DRAW}object") is None
                self._notes.left_out("picture", int(is_own))
            elif name == f"{_OFFICE}annotation":
                yield _comment(element)
            elif name and name != f"{_TEXT}tracked-changes":
                yield _beginning(element)
                is_text = name in (f"{_TEXT}p", f"{_TEXT}h")
                yield from self._in_paragraph(element) if is_text else self.blocks(element)

    def _in_paragraph(self, element: Any) -> Iterator[str]:
        """What hangs in a paragraph: comments, frames with pictures, boxes and objects."""
        for each in _outermost(element, f"{_OFFICE}annotation", f"{_DRAW}frame"):
            if each.tag == f"{_OFFICE}annotation":
                yield _comment(each)
            else:
                yield from self.blocks(each)

    def _table(self, table: Any) -> Iterator[str]:
        is_sheet = table.getparent().tag == f"{_OFFICE}spreadsheet"
        hidden = " (hidden sheet)" if table.get(f"{_TABLE}style-name") in self.hidden else ""
        if is_sheet:
            yield f"## {table.get(f'{_TABLE}name', '')}{hidden}\n\n"
        for row in _outermost(table, f"{_TABLE}table-row"):
            cells: list[str] = []
            for cell in row.iterchildren(f"{_TABLE}table-cell", f"{_TABLE}covered-table-cell"):
                text = "\n".join(_lines(cell))
                cells += _repeated(text, cell, "columns")
            text = tables.row(cells)
            yield from _repeated(text, row, "rows") if text else ()
        yield "\n"
        for each in _outermost(table, f"{_OFFICE}annotation", f"{_DRAW}frame", f"{_TABLE}table"):
            if each.tag == f"{_OFFICE}annotation":
                yield _comment(each)
            elif each.tag == f"{_DRAW}frame":
                yield from self.blocks(each)
            else:  # a table in a cell
                yield from self._table(each)

    def _object(self, element: Any) -> Iterator[str]:
        """A chart with its values, or an equation; anything else is counted."""
        name = element.get(_LINK, "").removeprefix("./") + "/content.xml"
        if name not in self._names:
            self._notes.left_out("embedded object")
            return
        root = xml.parsed(self._archive.read(name))
        equation = next(root.iter(f"{_MATH}annotation"), None)
        if equation is not None:
            yield f"Equation: {equation.text or ''}\n\n"
        elif root.tag == f"{_MATH}math":
            yield f"Equation: {' '.join(' '.join(root.itertext()).split())}\n\n"
        else:
            yield "Embedded object:\n\n"
            yield from self.blocks(root.find(f"{_OFFICE}body"))


def _outermost(element: Any, *tags: str) -> Iterator[Any]:
    """What has one of these tags inside an element, without what is inside of that."""
    for each in element:
        if each.tag in tags:
            yield each
        else:
            yield from _outermost(each, *tags)


def _lines(cell: Any) -> Iterator[str]:
    """The paragraphs in a cell, also those of lists in it."""
    for each in cell:
        if each.tag in (f"{_TEXT}p", f"{_TEXT}h"):
            yield _inline(each)
        elif each.tag in (f"{_TEXT}list", f"{_TEXT}list-item", f"{_TEXT}section"):
            yield from _lines(each)


def _beginning(element: Any) -> str:
    """What stands before the blocks in an element: a heading or a paragraph has only this."""
    match element.tag.rpartition("}")[2]:
        case "h":
            level = min(_number(element, f"{_TEXT}outline-level"), 6)
            return f"{'#' * level} {_inline(element)}\n\n"
        case "p":
            return f"{_inline(element)}\n\n"
        case "list-item":
            return "- "
        case "page":
            return f"## Slide {element.get(f'{_DRAW}name', '')}\n\n"
        case "notes":
            return "Speaker's notes: "
        case _:
            return ""


def _repeated(text: str, element: Any, things: str) -> list[str]:
    """A cell or a row as often as it is there."""
    times = _number(element, f"{_TABLE}number-{things}-repeated")
    if times <= _REPEATED:
        return [text] * times
    if not text:
        return [""] * _REPEATED
    return [f"{text.rstrip()} ({times:,} times)" + ("\n" if text.endswith("\n") else "")]


def _comment(element: Any) -> str:
    author = element.findtext(_CREATOR, "")
    text = "\n".join(map(_inline, element.iter(f"{_TEXT}p")))
    return f"Comment{' by ' if author else ''}{author}: {text}\n\n"

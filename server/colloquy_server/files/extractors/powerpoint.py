"""PowerPoint presentations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from colloquy_server.files.extractors import ooxml, tables
from colloquy_server.files.extractors.ooxml import MATH, Package
from colloquy_server.files.extractors.results import Notes

_DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_SLIDE = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_COMPATIBLE = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"

_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"

_SAME_LINE = 228_600
"""A quarter of an inch in EMU: shapes whose tops are this near are read from left to right."""


def read(file: BinaryIO, notes: Notes) -> Iterator[str]:
    """The slides in their order, each with its shapes in the order of position, its charts, its
    comments and the speaker's notes."""
    import pptx

    mended = ooxml.repaired(file)
    slides = pptx.Presentation(mended).slides
    package = Package(mended)
    for number, slide in enumerate(slides, 1):
        hidden = " (hidden)" if slide.element.get("show") in ("0", "false") else ""
        yield f"## Slide {number}{hidden}\n\n"
        _choose(slide.element)
        yield from _shapes(slide.shapes, notes)
        part = slide.part.partname.lstrip("/")
        for root in package.beside(part, "diagramData", notes):
            yield f"Diagram:\n{ooxml.diagram(root)}"
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            text = slide.notes_slide.notes_text_frame.text
            if text.strip():
                yield f"Speaker's notes: {text}\n"
        for root in package.beside(part, "comments", notes):
            yield from _comments(root)
        yield "\n"


def _choose(slide: Any) -> None:
    """Puts what newer programs show in place of its alternatives, as shapes with equations are."""
    for either in list(slide.iter(f"{_COMPATIBLE}AlternateContent")):
        choice, parent = either.find(f"{_COMPATIBLE}Choice"), either.getparent()
        if choice is not None and parent is not None:
            for element in reversed(choice):
                either.addnext(element)
            parent.remove(either)


def _shapes(shapes: Iterable[Any], notes: Notes) -> Iterator[str]:
    for shape in _in_order(list(shapes)):
        kind = shape.element.tag.rpartition("}")[2]
        if kind == "grpSp":
            yield from _shapes(shape.shapes, notes)
        elif getattr(shape, "has_chart", False):
            yield ooxml.chart(shape.chart.element)
        elif getattr(shape, "has_table", False):
            for row in shape.table.rows:
                yield tables.row([_text(cell.text_frame) for cell in row.cells])
            yield "\n"
        elif shape.has_text_frame:
            text = _text(shape.text_frame)
            yield f"{text}\n" if text.strip() else ""
        elif kind == "pic":
            notes.left_out("picture")
            said = shape.element.nvPicPr.cNvPr.get("descr", "").strip()
            yield f"[picture: {' '.join(said.split())}]\n" if said else ""
        elif kind == "graphicFrame":
            _name(shape, notes)


def _name(shape: Any, notes: Notes) -> None:
    """Counts what a frame holds that is not read."""
    data = shape.element.find(f".//{_DRAWING}graphicData")
    uri = "" if data is None else data.get("uri", "")
    if uri.endswith("/chartex"):
        notes.left_out("chart")
    elif not uri.endswith("/diagram"):
        notes.left_out("embedded file")


def _in_order(shapes: list[Any]) -> list[Any]:
    """From top to bottom, and from left to right where tops are nearly the same."""
    placed = sorted(shapes, key=lambda shape: shape.top or 0)
    ordered: list[Any] = []
    line: list[Any] = []
    for shape in placed:
        if line and (shape.top or 0) - (line[0].top or 0) > _SAME_LINE:
            ordered += sorted(line, key=lambda each: each.left or 0)
            line = []
        line.append(shape)
    return ordered + sorted(line, key=lambda each: each.left or 0)


def _text(frame: Any) -> str:
    return "\n".join(_paragraph(each._p, frame.part) for each in frame.paragraphs)


def _address(text: Any, part: Any) -> str:
    """Where a text leads outside of the presentation; empty when it does not."""
    link = text.getparent().find(f"{_DRAWING}rPr/{_DRAWING}hlinkClick")
    relation = None if link is None else part.rels.get(link.get(_RELATION, ""))
    return relation.target_ref if relation is not None and relation.is_external else ""


def _paragraph(element: Any, part: Any) -> str:
    pieces = []
    for each in element.iter(f"{_DRAWING}t", f"{_DRAWING}br", f"{MATH}oMath"):
        name = each.tag.rpartition("}")[2]
        if name == "oMath":
            pieces.append(ooxml.equation(each))
        else:
            address = _address(each, part) if name == "t" else ""
            text = "\n" if name == "br" else each.text or ""
            pieces.append(f"[{text}]({address})" if address and text.strip() else text)
    return "".join(pieces)


def _comments(root: Any) -> Iterator[str]:
    for each in root:
        texts = [t.text or "" for t in each.iter(f"{_SLIDE}text", f"{_DRAWING}t")]
        if any(texts):
            yield f"Comment: {' '.join(texts)}\n"

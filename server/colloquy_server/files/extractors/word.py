"""Word documents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from colloquy_server.files.extractors import markup, ooxml, word_source
from colloquy_server.files.extractors.ooxml import MATH, Package
from colloquy_server.files.extractors.results import Notes

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"

_DELETED = re.compile(rb"<w:del[ >]")
"""What was deleted with changes tracked, so that it can be had back."""

_STYLES = "comment-reference => sup"
"""Has mammoth give comments, behind the text with their authors."""


def read(file: BinaryIO, notes: Notes) -> Iterator[str]:
    """The text of a document: its headers, the body with footnotes and comments, its footers,
    charts and diagrams."""
    import mammoth
    from bs4 import BeautifulSoup

    mended = ooxml.repaired(file)
    package = Package(mended)
    main = package.main()
    yield from _margins(package, main, "header", notes)
    skip_pictures = mammoth.images.img_element(lambda _image: {})
    html = mammoth.convert_to_html(
        word_source.mended(mended, package, main, notes),
        convert_image=skip_pictures,
        style_map=_STYLES,
    ).value
    yield markup.markdown(BeautifulSoup(html, "html.parser")) + "\n\n"
    yield from _margins(package, main, "footer", notes)
    for root in package.beside(main, "chart", notes):
        yield ooxml.chart(root) + "\n"
    for root in package.beside(main, "diagramData", notes):
        yield f"Diagram:\n\n{ooxml.diagram(root)}\n"
    notes.left_out("deleted passage", len(_DELETED.findall(package.read(main))))
    for kinds, thing in (
        (("image",), "picture"),
        (("chartEx",), "chart"),
        (("oleObject", "package", "aFChunk"), "embedded file"),
    ):
        notes.left_out(thing, len(list(package.related(main, *kinds))))


def _margins(package: Package, main: str, kind: str, notes: Notes) -> Iterator[str]:
    """What stands above or below every page, each text once."""
    texts = dict.fromkeys(
        "\n".join(filter(None, map(_paragraph, root.iter(f"{_WORD}p"))))
        for root in package.beside(main, kind, notes)
    )
    for text in texts:
        if text.strip():
            yield f"{kind.capitalize()} of the pages: {text}\n\n"


def _paragraph(element: Any) -> str:
    return "".join(each.text or "" for each in element.iter(f"{_WORD}t", f"{MATH}t")).strip()

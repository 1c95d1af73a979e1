"""Word documents."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from io import BytesIO
from typing import Any, BinaryIO

from colloquy_server.files.extractors import markup, ooxml
from colloquy_server.files.extractors.ooxml import MATH, Package
from colloquy_server.files.extractors.results import Notes

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_SPACE = "{http://www.w3.org/XML/1998/namespace}space"

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
        _with_equations(mended, package), convert_image=skip_pictures, style_map=_STYLES
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


def _with_equations(file: BinaryIO, package: Package) -> BinaryIO:
    """The document with its equations as text, as mammoth skips them, and without its pictures;
    the same file when there are no equations."""
    from lxml import etree

    with_equations = {
        name for name in package.names if name.endswith(".xml") and b"oMath" in package.read(name)
    }
    if not with_equations:
        return file
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in package.names:
            if name in with_equations:
                root = package.xml(name)
                for element in list(root.iter(f"{MATH}oMathPara", f"{MATH}oMath")):
                    _replace(element, etree)
                archive.writestr(name, etree.tostring(root))
            else:
                is_read = name.endswith((".xml", ".rels"))
                archive.writestr(name, package.read(name) if is_read else b"")
    out.seek(0)
    return out


def _replace(element: Any, etree: Any) -> None:
    """Puts an equation's text in its place, as a run."""
    parent = element.getparent()
    if parent is None or parent.tag.startswith(MATH):
        return  # a part of one that was replaced
    run = etree.Element(f"{_WORD}r")
    text = etree.SubElement(run, f"{_WORD}t")
    text.set(_SPACE, "preserve")
    text.text = ooxml.equation(element)
    run.tail = element.tail
    parent.replace(element, run)

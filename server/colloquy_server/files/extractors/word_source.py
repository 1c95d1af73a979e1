"""Word documents as mammoth takes them: what it skips is put into its words."""

from __future__ import annotations

import zipfile
from io import BytesIO
from typing import Any, BinaryIO

from colloquy_server.files.extractors import ooxml
from colloquy_server.files.extractors.ooxml import MATH, Package
from colloquy_server.files.extractors.results import Notes
from colloquy_server.files.extractors.word_numbers import Numbering

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_VML = "{urn:schemas-microsoft-com:vml}"
_COMPATIBLE = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_SPACE = "{http://www.w3.org/XML/1998/namespace}space"

_SKIPPED = (b"oMath", b"txbxContent", b":ruby", b"ddList", b"numPr", b"pStyle")


def mended(file: BinaryIO, package: Package, main: str, notes: Notes) -> BinaryIO:
    """The document with its equations, text boxes, readings of characters, choices in forms and
    numbers of paragraphs as text, and without its pictures; the same file when it has none."""
    from lxml import etree

    changed = {}
    numbering = Numbering(package, main, notes)
    lists = set(package.related(main, "numbering"))
    # The body first: its numbers do not go on from those of footnotes.
    for name in sorted(package.names, key=lambda each: (each != main, each)):
        if not name.endswith(".xml") or not any(mark in package.read(name) for mark in _SKIPPED):
            continue
        root = package.xml(name)
        if name in lists:
            _forget_styles(root)
        else:
            _mend(root, numbering)
        changed[name] = etree.tostring(root)
    if not changed:
        return file
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in package.names:
            is_read = name.endswith((".xml", ".rels"))
            archive.writestr(name, changed.get(name) or (package.read(name) if is_read else b""))
    out.seek(0)
    return out


def _mend(root: Any, numbering: Numbering) -> None:
    for element in list(root.iter(f"{MATH}oMathPara", f"{MATH}oMath")):
        parent = element.getparent()
        if parent is not None and not parent.tag.startswith(MATH):  # no part of one replaced
            run = _run(ooxml.equation(element))
            run.tail = element.tail
            parent.replace(element, run)
    for element in list(root.iter(f"{_WORD}ruby")):
        base, reading = (_texts(element.find(f"{_WORD}{name}")) for name in ("rubyBase", "rt"))
        text = _text(f"{base} ({reading})" if reading else base)
        text.tail = element.tail
        element.getparent().replace(element, text)
    for element in list(root.iter(f"{_WORD}ddList")):
        _answer(element)
    for element in list(root.iter(f"{_WORD}txbxContent")):
        _show_box(element)
    for element in list(root.iter(f"{_COMPATIBLE}Choice")):
        element.getparent().remove(element)  # what is in both forms would be counted twice
    for element in root.iter(f"{_WORD}p"):
        if number := numbering.next(element):
            properties = element.find(f"{_WORD}pPr")
            own = properties.find(f"{_WORD}numPr")
            if own is not None:
                properties.remove(own)
            properties.addnext(_run(f"{number} "))


def _answer(choices: Any) -> None:
    """Puts the answer of a field with a list behind it: it is no text of the document."""
    entries = [each.get(f"{_WORD}val", "") for each in choices.iter(f"{_WORD}listEntry")]
    chosen = "0"
    for name in ("default", "result"):
        found = choices.find(f"{_WORD}{name}")
        chosen = chosen if found is None else found.get(f"{_WORD}val", "")
    run = next(choices.iterancestors(f"{_WORD}r"), None)
    if run is not None and chosen.isascii() and chosen.isdecimal() and len(chosen) < 5:
        answer = entries[int(chosen) : int(chosen) + 1]
        run.addprevious(_run("".join(answer)))


def _show_box(content: Any) -> None:
    """Puts a text box in its older form, where it has none: the newer is not looked at."""
    from lxml import etree

    drawing = next(content.iterancestors(f"{_WORD}drawing"), None)
    if drawing is None:
        return  # the older form already
    either = next(drawing.iterancestors(f"{_COMPATIBLE}AlternateContent"), None)
    place = drawing.getparent()
    if either is not None:
        older = either.find(f"{_COMPATIBLE}Fallback")
        if older is not None and next(older.iter(f"{_WORD}txbxContent"), None) is not None:
            return
        place = either.getparent()
    box = etree.SubElement(etree.Element(f"{_WORD}pict"), f"{_VML}textbox")
    place.append(box.getparent())
    box.append(content)


def _forget_styles(numbering: Any) -> None:
    """Takes the styles from numbered levels: their numbers are text by now."""
    for level in numbering.iter(f"{_WORD}lvl"):
        style, kind = level.find(f"{_WORD}pStyle"), level.find(f"{_WORD}numFmt")
        if style is not None and (kind is None or kind.get(f"{_WORD}val") != "bullet"):
            level.remove(style)


def _run(text: str) -> Any:
    from lxml import etree

    run = etree.Element(f"{_WORD}r")
    run.append(_text(text))
    return run


def _text(text: str) -> Any:
    from lxml import etree

    element = etree.Element(f"{_WORD}t")
    element.set(_SPACE, "preserve")
    element.text = text
    return element


def _texts(element: Any) -> str:
    return "" if element is None else "".join(t.text or "" for t in element.iter(f"{_WORD}t"))

"""What all Office Open XML documents share: the package, its parts and their relations, charts and
equations."""

from __future__ import annotations

import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO
from zipfile import BadZipFile

from colloquy_server.files.extractors import tables, xml
from colloquy_server.files.extractors.results import Notes

_STRICT = re.compile(rb"http://purl\.oclc\.org/ooxml/(\w+)/(\w+)")
_TRANSITIONAL = rb"http://schemas.openxmlformats.org/\1/2006/\2"
_SHOWS = re.compile(rb"presentationml\.(slideshow|template)\.main|ms-powerpoint\.\w+\.macroEnabled"
                    rb"\.main")  # fmt: skip

MATH = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_CHART = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
_DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/main}"


def repaired(file: BinaryIO) -> BinaryIO:
    """The package as the libraries take it: in the transitional namespaces, which strict documents
    do not use, with slashes in names, where some writers have backslashes, and shows and templates
    called presentations. It is the same file when there is nothing to mend."""
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        types = next((name for name in names if _clean(name) == "[Content_Types].xml"), None)
        main = next((name for name in names if _clean(name) in _MAINS), None)
        is_strict = main is not None and b"purl.oclc.org/ooxml" in archive.read(main)
        is_show = types is not None and _SHOWS.search(archive.read(types)) is not None
        if not is_strict and not is_show and all(_clean(name) == name for name in names):
            file.seek(0)
            return file
        out = BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as mended:
            for name in names:
                data = archive.read(name)
                if name.endswith((".xml", ".rels")):
                    data = _STRICT.sub(_TRANSITIONAL, data)
                if name == types:
                    data = _SHOWS.sub(b"presentationml.presentation.main", data)
                    data = data.replace(
                        b"vnd.presentationml", b"vnd.openxmlformats-officedocument.presentationml"
                    )
                mended.writestr(_clean(name), data)
    out.seek(0)
    return out


_MAINS = ("word/document.xml", "xl/workbook.xml", "ppt/presentation.xml")


def _clean(name: str) -> str:
    return name.replace("\\", "/").lstrip("/")


@dataclass(frozen=True, slots=True)
class Relation:
    """From one part to another: its kind, as "chart", and the other's name, empty when it is
    outside."""

    kind: str
    target: str


class Package:
    """The parts of a document."""

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        self._archive = zipfile.ZipFile(file)
        self.names = frozenset(self._archive.namelist())

    def read(self, name: str) -> bytes:
        """A part's bytes."""
        return self._archive.read(name)

    def xml(self, name: str) -> Any:
        """A part's root element."""
        return xml.parsed(self.read(name))

    def beside(self, part: str, kind: str, notes: Notes) -> Iterator[Any]:
        """The root elements of parts that stand beside this one. One that is damaged is noted, and
        takes nothing else with it."""
        from lxml.etree import XMLSyntaxError

        for name in self.related(part, kind):
            try:
                root = self.xml(name)
            except (XMLSyntaxError, BadZipFile, zlib.error):
                notes.left_out(f"damaged part of kind {kind}")
            else:
                yield root

    def main(self) -> str:
        """The name of the part that is the document."""
        top = self.relations("").values()
        found = [each.target for each in top if each.kind == "officeDocument"]
        return found[0] if found else next(name for name in _MAINS if name in self.names)

    def relations(self, part: str) -> dict[str, Relation]:
        """The relations of a part, by id; of the package itself, when it is empty."""
        folder, name = posixpath.split(part)
        file = posixpath.join(folder, "_rels", f"{name}.rels")
        if file not in self.names:
            return {}
        return {
            each.get("Id", ""): Relation(
                each.get("Type", "").rpartition("/")[2],
                ""
                if each.get("TargetMode") == "External"
                else _path(folder, each.get("Target", "")),
            )
            for each in self.xml(file)
        }

    def outside(self, part: str) -> dict[str, str]:
        """The addresses outside of the document that a part leads to, by id."""
        folder, name = posixpath.split(part)
        file = posixpath.join(folder, "_rels", f"{name}.rels")
        if file not in self.names:
            return {}
        return {
            each.get("Id", ""): each.get("Target", "")
            for each in self.xml(file)
            if each.get("TargetMode") == "External"
        }

    def related(self, part: str, *kinds: str) -> Iterator[str]:
        """The parts that this one has of these kinds."""
        for each in self.relations(part).values():
            if each.kind in kinds and each.target in self.names:
                yield each.target


def _path(folder: str, target: str) -> str:
    """The name of a part as a relation says it, from the folder of its source or from the top."""
    return posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")


def chart(root: Any) -> str:
    """A chart's title, categories and values, as a table."""
    title = "".join(_texts(root.find(f".//{_CHART}title"), _DRAWING))
    series = list(root.iter(f"{_CHART}ser"))
    names = [
        " ".join(_texts(each.find(f"{_CHART}tx"), _CHART)) or f"Series {number}"
        for number, each in enumerate(series, 1)
    ]
    categories: dict[int, str] = {}
    columns: list[dict[int, str]] = []
    for each in series:
        for kind in ("cat", "xVal"):
            categories = {**_points(each.find(f"{_CHART}{kind}")), **categories}
        columns.append(_points(each.find(f"{_CHART}val")) or _points(each.find(f"{_CHART}yVal")))
    places = sorted({*categories, *(place for column in columns for place in column)})
    lines = [tables.row(["", *names])]
    lines += [
        tables.row([categories.get(place, str(place + 1)), *(c.get(place, "") for c in columns)])
        for place in places
    ]
    return f"Chart{': ' if title else ''}{title}\n\n{''.join(lines)}\n"


def _points(source: Any) -> dict[int, str]:
    """The values of a chart that are kept with it, by their places."""
    if source is None:
        return {}
    return {
        int(place): "".join(_texts(point, _CHART))
        for point in source.iter(f"{_CHART}pt")
        if (place := point.get("idx", "")).isascii() and place.isdecimal() and len(place) < 10
    }


def _texts(element: Any, namespace: str) -> list[str]:
    if element is None:
        return []
    wanted = {f"{namespace}v", f"{namespace}t"}
    return [each.text for each in element.iter() if each.tag in wanted and each.text]


def diagram(root: Any) -> str:
    """The texts of a diagram (SmartArt), one a line."""
    texts = ("".join(_texts(each, _DRAWING)) for each in root.iter(f"{_DRAWING}p"))
    return "".join(f"- {text}\n" for text in texts if text.strip())


def equation(element: Any) -> str:
    """An equation in one line."""
    return "".join(_linear(each) for each in element)


def _linear(element: Any) -> str:
    name = element.tag.removeprefix(MATH) if isinstance(element.tag, str) else ""
    if name == "t":
        return element.text or ""
    if name.endswith("Pr"):
        return ""
    parts = {
        each.tag.removeprefix(MATH): equation(each)
        for each in element
        if isinstance(each.tag, str) and each.tag.startswith(MATH)
    }
    base, below, above = (parts.get(key, "") for key in ("e", "sub", "sup"))
    if name == "f":
        return f"{_closed(parts.get('num', ''))}/{_closed(parts.get('den', ''))}"
    if name == "rad":
        degree = parts.get("deg", "")
        return f"{f'root {degree} of ' if degree else '√'}{_closed(base)}"
    if name in ("sSup", "sSub", "sSubSup", "sPre", "nary"):
        symbol = base
        if name == "nary":
            sign = element.find(f"{MATH}naryPr/{MATH}chr")
            symbol = "∫" if sign is None else sign.get(f"{MATH}val", "")
        marks = f"_{_closed(below)}" if below else ""
        marks += f"^{_closed(above)}" if above else ""
        return f"{symbol}{marks}{f' {base}' if name == 'nary' else ''}"
    if name == "d":
        return _delimited(element)
    if name in ("m", "eqArr"):
        rows = [[*map(equation, each)] for each in element.findall(f"{MATH}mr")]
        rows += [[equation(each)] for each in element.findall(f"{MATH}e")]
        return f"[{'; '.join(map(', '.join, rows))}]"
    if name == "func":
        return f"{parts.get('fName', '')}{_closed(base)}"
    if name in ("limLow", "limUpp"):
        return f"{base}{'_' if name == 'limLow' else '^'}{_closed(parts.get('lim', ''))}"
    return equation(element)


def _delimited(element: Any) -> str:
    """What is in brackets of any kind."""
    signs = {"begChr": "(", "sepChr": "|", "endChr": ")"}
    for name in signs:
        found = element.find(f"{MATH}dPr/{MATH}{name}")
        if found is not None:
            signs[name] = found.get(f"{MATH}val", "")
    inner = signs["sepChr"].join(equation(each) for each in element.findall(f"{MATH}e"))
    return f"{signs['begChr']}{inner}{signs['endChr']}"


def _closed(text: str) -> str:
    """In brackets, if it is more than a sign or a number."""
    return text if text.isalnum() else f"({text})"

"""Books in EPUB."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from typing import BinaryIO
from urllib.parse import unquote

from colloquy_server.files.extractors import markup, xml
from colloquy_server.files.extractors.results import Notes, Problem

_CONTAINER = "META-INF/container.xml"
_RIGHTS = frozenset({"META-INF/rights.xml", "META-INF/sinf.xml", "META-INF/license.lcpl"})
"""What a book has whose chapters only its shop's programs can read."""


def read(file: BinaryIO, notes: Notes) -> Iterator[str]:
    """The chapters in the order of reading."""
    from bs4 import BeautifulSoup

    with zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
        if _RIGHTS & names:
            raise Problem("its text is locked by its shop (digital rights management)")
        book = xml.parsed(archive.read(_CONTAINER)).find(".//{*}rootfile").get("full-path")
        root = xml.parsed(archive.read(book))
        items = {item.get("id"): item for item in root.iter("{*}item")}
        notes.left_out(
            "picture",
            sum(item.get("media-type", "").startswith("image/") for item in items.values()),
        )
        for reference in root.iter("{*}itemref"):
            item = items.get(reference.get("idref"))
            href = unquote(item.get("href", "")) if item is not None else ""
            name = posixpath.normpath(posixpath.join(posixpath.dirname(book), href))
            if name not in names:
                notes.left_out("missing chapter")
                continue
            page = BeautifulSoup(archive.read(name), "html.parser")
            for hidden in page(["script", "style", "head", "img", "svg"]):
                hidden.decompose()
            yield markup.markdown(page).strip() + "\n\n"

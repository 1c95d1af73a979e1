"""Rich Text Format."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import BinaryIO

from colloquy_server.files.extractors.results import Notes

RTF = "application/rtf"

_CODE_PAGE = re.compile(rb"\\ansicpg(\d{1,5})")
_PICTURE = re.compile(rb"\\pict(?![a-z])")
_COPY = re.compile(rb"\{\\nonshppict")
_OBJECT = re.compile(rb"\\object(?![a-z])")
_HEX = re.compile(rb"[0-9A-Fa-f\r\n]{256,}")
"""The bytes of a picture, of which a document may have megabytes."""

# Parts that the library skips, as text in their places.
_PARTS = re.compile(r"\\(?:\*\s*\\)?(header|footer|footnote|annotation)[lrf]?(?![a-z])\s?")
_NAMES = {"header": "Header", "footer": "Footer", "footnote": "Footnote", "annotation": "Comment"}


def read(file: BinaryIO, notes: Notes) -> Iterator[str]:
    """The text of a document, with its headers, footers, notes and comments."""
    from striprtf.striprtf import rtf_to_text

    data = file.read()
    # Writers put each picture in twice, once for those that do not know the newer form.
    notes.left_out("picture", len(_PICTURE.findall(data)) - len(_COPY.findall(data)))
    notes.left_out("embedded file", len(_OBJECT.findall(data)))
    source = _HEX.sub(b"", data).decode(_code_page(data), "replace")
    marked = _PARTS.sub(lambda part: rf"\par {_NAMES[part[1]]}: ", source)
    text: str = rtf_to_text(marked, errors="replace")  # type: ignore[no-untyped-call]
    # What is beyond 16 bits comes as two halves.
    yield text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _code_page(data: bytes) -> str:
    """The encoding of bytes that are not written as ASCII."""
    found = _CODE_PAGE.search(data[:1_000])
    try:
        return codecs.lookup(f"cp{found[1].decode()}").name if found else "cp1252"
    except LookupError:
        return "cp1252"

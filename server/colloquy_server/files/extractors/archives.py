"""What is in a zip archive: office documents are told by their members."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from typing import BinaryIO

from colloquy_server.files.extractors.results import Problem

MAX_UNPACKED = 200 << 20
"""Bytes of an archive's members together; office documents hold their pictures packed."""

_OPEN_XML = "application/vnd.openxmlformats-officedocument."
DOCX = f"{_OPEN_XML}wordprocessingml.document"
XLSX = f"{_OPEN_XML}spreadsheetml.sheet"
PPTX = f"{_OPEN_XML}presentationml.presentation"

XLSB = "application/vnd.ms-excel.sheet.binary.macroenabled.12"
_ODF = "application/vnd.oasis.opendocument."
ODF_TYPES = tuple(f"{_ODF}{kind}" for kind in ("text", "spreadsheet", "presentation"))
EPUB = "application/epub+zip"
IWORK = "application/vnd.apple.iwork"

TYPES = frozenset({DOCX, XLSX, PPTX, XLSB, *ODF_TYPES, EPUB})
"""Archives that are unpacked."""

_MEMBERS = {
    "word/document.xml": DOCX,
    "xl/workbook.xml": XLSX,
    "ppt/presentation.xml": PPTX,
    "xl/workbook.bin": XLSB,
    "Index/Document.iwa": IWORK,
    "Index.zip": IWORK,
}

# By the type of its main part, wherever that is: some writers have a word/document2.xml.
_MAIN_TYPES = {
    b"wordprocessingml.document.main": DOCX,
    b"spreadsheetml.sheet.main": XLSX,
    b"presentationml.presentation.main": PPTX,
}


def check(file: BinaryIO) -> str:
    """The type of a document that is a zip archive, else empty: other archives are never unpacked.
    Raises Problem when it unpacks to too much."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        found = _kind(archive, {_slashed(member.filename): member for member in members})
    file.seek(0)
    unpacked = sum(member.file_size for member in members)
    if found and unpacked > MAX_UNPACKED:
        raise Problem(f"it unpacks to {unpacked >> 20:,} MiB, and {MAX_UNPACKED >> 20} is the most")
    return found


def _slashed(name: str) -> str:
    return name.replace("\\", "/").lstrip("/")


def _kind(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]) -> str:
    for name, kind in _MEMBERS.items():
        if name in members:
            return kind
    if "mimetype" in members:
        named = _beginning(archive, members["mimetype"], 100).strip().decode("ascii", "replace")
        if named in TYPES:
            return named
    if "[Content_Types].xml" in members:
        types = _beginning(archive, members["[Content_Types].xml"], 1 << 20)
        return next((kind for name, kind in _MAIN_TYPES.items() if name in types), "")
    return ""


def _beginning(archive: zipfile.ZipFile, member: zipfile.ZipInfo, size: int) -> bytes:
    """The first bytes of a member; none when it cannot be read."""
    try:
        with archive.open(member) as opened:
            return opened.read(size)
    except (RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error, EOFError):
        return b""  # with a password, packed in another way, or damaged

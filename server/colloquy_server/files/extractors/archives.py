"""What is in a zip archive: office documents are told by their members."""

from __future__ import annotations

import zipfile
from typing import BinaryIO

from colloquy_server.files.extractors.results import Problem

MAX_UNPACKED = 200 << 20
"""Bytes of an archive's members together; office documents hold their pictures packed."""

_OPEN_XML = "application/vnd.openxmlformats-officedocument."
DOCX = f"{_OPEN_XML}wordprocessingml.document"
XLSX = f"{_OPEN_XML}spreadsheetml.sheet"
PPTX = f"{_OPEN_XML}presentationml.presentation"

_MEMBERS = {"word/document.xml": DOCX, "xl/workbook.xml": XLSX, "ppt/presentation.xml": PPTX}


def check(file: BinaryIO) -> str:
    """The type of an office document, else empty: other zip archives are never unpacked. Raises
    Problem when it unpacks to too much."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    file.seek(0)
    names = {member.filename for member in members}
    found = next((kind for name, kind in _MEMBERS.items() if name in names), "")
    unpacked = sum(member.file_size for member in members)
    if found and unpacked > MAX_UNPACKED:
        raise Problem(f"it unpacks to {unpacked >> 20:,} MiB, and {MAX_UNPACKED >> 20} is the most")
    return found

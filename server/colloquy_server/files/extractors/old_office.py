"""Office files of before 2007 and binary workbooks, and what is locked by a password."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from colloquy_server.files.extractors import tables
from colloquy_server.files.extractors.number_formats import shown
from colloquy_server.files.extractors.results import Notes, Problem

OLE = "application/x-ole-storage"
DOC = "application/msword"
XLS = "application/vnd.ms-excel"
PPT = "application/vnd.ms-powerpoint"
MSG = "application/vnd.ms-outlook"

_STREAMS = {
    "EncryptedPackage": OLE,
    "WordDocument": DOC,
    "Workbook": XLS,
    "Book": XLS,
    "PowerPoint Document": PPT,
    "__properties_version1.0": MSG,
}


def kind(file: BinaryIO) -> str:
    """What a compound file is, by the streams in it; OLE when that is not known, or locked."""
    streams = _streams(file)
    return next((found for name, found in _STREAMS.items() if name in streams), OLE)


def _streams(file: BinaryIO) -> set[str]:
    """The names of the streams at the top of a compound file."""
    import olefile

    file.seek(0)
    try:
        with olefile.OleFileIO(file) as ole:
            return {path[0] for path in ole.listdir()}
    except OSError:  # damaged: nothing is known of it
        return set()
    finally:
        file.seek(0)


def refuse(file: BinaryIO, notes: Notes) -> Iterator[str]:
    """Says what is wrong with a compound file that is no document."""
    if "EncryptedPackage" in _streams(file):
        raise Problem("it needs a password")
    raise Problem("files of this type cannot be read here")


def read_sheets(file: BinaryIO, notes: Notes) -> Iterator[str]:
    """The sheets of a workbook as tables."""
    from python_calamine import (
        CalamineError,
        CalamineWorkbook,
        PasswordError,
        SheetTypeEnum,
        SheetVisibleEnum,
    )

    try:
        book = CalamineWorkbook.from_filelike(file)
        for sheet in book.sheets_metadata:
            if sheet.typ != SheetTypeEnum.WorkSheet:
                notes.left_out("sheet without cells")
                continue
            is_shown = sheet.visible == SheetVisibleEnum.Visible
            yield f"## {sheet.name}{'' if is_shown else ' (hidden sheet)'}\n\n"
            for row in book.get_sheet_by_name(sheet.name).iter_rows():
                yield tables.row([shown(value, "") for value in row])
            yield "\n"
    except PasswordError:
        raise Problem("it needs a password") from None
    except CalamineError:
        raise Problem("it is damaged") from None
    notes.say("given: the cells' values alone, without their formats, comments and charts")

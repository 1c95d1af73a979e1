"""PDF documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from colloquy_server.files.extractors.results import Notes, Pages, Problem


def read(file: BinaryIO, notes: Notes) -> Iterator[str]:
    """The text of a document, page by page."""
    for page in _opened(file):
        yield page.get_textpage().get_text_bounded() + "\n\n"


def pages(file: BinaryIO) -> Pages:
    """How many pages it has. Raises Problem when it cannot be read."""
    document = _opened(file)
    document[0].close()
    return Pages(len(document))


def _opened(file: BinaryIO) -> Any:
    """The document. Raises Problem when it cannot be opened."""
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(file)
    except pypdfium2.PdfiumError as error:
        is_locked = error.err_code == pypdfium2.raw.FPDF_ERR_PASSWORD
        raise Problem("it needs a password" if is_locked else "it is damaged") from None
    if len(document) == 0:
        raise Problem("there are no pages in it")
    return document

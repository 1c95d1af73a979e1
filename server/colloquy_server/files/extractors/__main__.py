"""Does one task with one file, which a stranger made: before it reads a byte of it, it gives up all
that it does not need (see `confinement`).

`inspect` says as JSON what a picture or an archive is, `text` gives a document's text as JSON of
ExtractedText, `pages` how many pages there are if all is whole, as JSON of Pages, `pictures` what
models are given of a picture, as Pictures. What cannot be done is told in one line on standard
error, with exit code 3.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import BinaryIO

from colloquy_server.confinement import confine_extraction
from colloquy_server.files.extractors import (
    archives,
    epub,
    excel,
    mail,
    markup,
    notebook,
    old_office,
    opendocument,
    pdf,
    pictures,
    plain_text,
    powerpoint,
    rtf,
    word,
)
from colloquy_server.files.extractors.results import Notes, Problem, gather

MEMORY = 1 << 30
"""Bytes of address space."""

CPU_SECONDS = 20

READERS: dict[str, Callable[[BinaryIO, Notes], Iterator[str]]] = {
    "application/pdf": pdf.read,
    "text/html": markup.read,
    archives.DOCX: word.read,
    archives.XLSX: excel.read,
    archives.PPTX: powerpoint.read,
    archives.XLSB: old_office.read_sheets,
    archives.EPUB: epub.read,
    **dict.fromkeys(archives.ODF_TYPES, opendocument.read),
    old_office.XLS: old_office.read_sheets,
    old_office.OLE: old_office.refuse,
    old_office.MSG: mail.read_outlook,
    mail.EML: mail.read,
    mail.MHTML: mail.read_page,
    notebook.IPYNB: notebook.read,
    rtf.RTF: rtf.read,
    plain_text.TEXT: plain_text.read,
}
"""What makes the text of a file of each type."""


def limit() -> None:
    """Gives up what this process does not need."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform == "linux":  # elsewhere it is not kept, or counts what is not used
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def inspect(file: BinaryIO, content_type: str) -> bytes:
    """What a picture or an archive is."""
    if content_type.startswith("image/"):
        width, height = pictures.size(file)
        return json.dumps({"width": width, "height": height}).encode()
    found = old_office.kind(file) if content_type == old_office.OLE else archives.check(file)
    return json.dumps({"content_type": found or content_type}).encode()


def pages(file: BinaryIO, _content_type: str) -> bytes:
    """How many pages a PDF has."""
    return pdf.pages(file).dump().encode()


def made_pictures(file: BinaryIO, _content_type: str) -> bytes:
    """What models are given of a picture."""
    return pictures.pictures(file).dump()


def text(file: BinaryIO, content_type: str) -> bytes:
    """The text of a document, as Markdown where it has structure."""
    if content_type not in READERS:
        raise Problem("there is no text in files of this type")
    if content_type in archives.TYPES:
        archives.check(file)
    notes = Notes()
    return gather(READERS[content_type](file, notes), notes).dump().encode(errors="replace")


TASKS = {"inspect": inspect, "text": text, "pages": pages, "pictures": made_pictures}


def main() -> None:
    """Does one task."""
    task, content_type = sys.argv[1:]
    limit()
    if task != "inspect":  # nobody waits for it as for a look, and replies go first
        os.nice(10)
    confine_extraction()
    try:
        result = TASKS[task](sys.stdin.buffer, content_type)
    except Problem as problem:
        sys.stderr.write(f"\n{problem}")
        sys.exit(3)
    except MemoryError:
        sys.stderr.write("\nreading it takes too much memory")
        sys.exit(3)
    except RecursionError:
        sys.stderr.write("\nit is nested too deeply")
        sys.exit(3)
    sys.stdout.buffer.write(result)


if __name__ == "__main__":
    main()

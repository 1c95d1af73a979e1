"""Reads one file that a stranger made, in a process of its own that can do no harm: it has no keys,
little memory, little time, and may not write files. `extraction` starts it.

    python extraction_worker.py TASK CONTENT_TYPE < the file > the result

The tasks: `inspect` says as JSON what a picture or an archive is, `text` gives a document's text in
UTF-8, `pages` how many pages or pictures there are if all is whole, `picture` a smaller picture.
What cannot be done is told in one line on standard error, with exit code 3.

It imports nothing of the server, so that it starts fast; libraries are imported by what needs them.
"""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

MAX_TEXT = 400_000
"""Characters of text that are read out of a file: a book of 200 pages."""

MAX_PIXELS = 50_000_000
"""Of a picture: more than any camera of a phone makes in one shot. Decoded it takes 200 MB."""

MAX_UNPACKED = 200 << 20
"""Bytes of an archive's members together; office documents hold their pictures packed."""

LONG_SIDE = 2_048
"""Pixels. OpenAI scales pictures down into a square of this side, Anthropic into a smaller one."""

MAX_PICTURE = 1_200_000
"""Bytes of a picture as it is sent: the ten that a message may have fit in one request."""

MEMORY = 1 << 30
"""Bytes of address space."""

CPU_SECONDS = 20

_OFFICE = {
    "word/document.xml": (
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    ),
    "xl/workbook.xml": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "ppt/presentation.xml": (
        "application/vnd.openxmlformats-officedocument.presentationml.presentation"
    ),
}


class Problem(Exception):
    """Why a file cannot be read, for the person who sent it."""


def limit() -> None:
    """Gives up what this process does not need."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform == "linux":  # elsewhere it is not kept, or counts what is not used
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def check_archive(file: BinaryIO) -> str:
    """The type of an office document, else empty: other zip archives are never unpacked. Raises
    Problem when it unpacks to too much."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    file.seek(0)
    names = {member.filename for member in members}
    found = next((kind for name, kind in _OFFICE.items() if name in names), "")
    unpacked = sum(member.file_size for member in members)
    if found and unpacked > MAX_UNPACKED:
        raise Problem(f"it unpacks to {unpacked >> 20:,} MiB, and {MAX_UNPACKED >> 20} is the most")
    return found


def open_picture(file: BinaryIO) -> Any:
    """The picture, of which only the header was read. Raises Problem when it is too large."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # ours is checked before anything is decoded
    image = Image.open(file, formats=["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise Problem(
            f"it has {width:,} by {height:,} pixels, and {MAX_PIXELS:,} in all is the most"
        )
    return image


def inspect(file: BinaryIO, content_type: str) -> bytes:
    """What a picture or an archive is."""
    if content_type.startswith("image/"):
        width, height = open_picture(file).size
        return json.dumps({"width": width, "height": height}).encode()
    return json.dumps({"content_type": check_archive(file) or content_type}).encode()


def pages(file: BinaryIO, content_type: str) -> bytes:
    """How many pages a PDF has, or how many pictures are in a picture, which is decoded."""
    if content_type == "application/pdf":
        document = _open_pdf(file)
        document[0].close()
        return str(len(document)).encode()
    image = open_picture(file)
    image.load()
    # A second picture in a JPEG is its preview or its depth, which nobody shows.
    is_film = image.format in ("GIF", "PNG", "WEBP")
    return str(getattr(image, "n_frames", 1) if is_film else 1).encode()


def picture(file: BinaryIO, _content_type: str) -> bytes:
    """The picture, or the first of a moving one, upright and small enough for a model, as JPEG or,
    with transparency, PNG."""
    from io import BytesIO

    from PIL import ImageOps

    image = open_picture(file)
    image.draft("RGB", (LONG_SIDE, LONG_SIDE))
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "I;16", "F"):  # more depth than a model sees
        image = image.convert("L")
    is_clear = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    image = image.convert("RGBA" if is_clear else "RGB")
    image.thumbnail((LONG_SIDE, LONG_SIDE))
    if is_clear:
        out = BytesIO()
        image.save(out, "PNG")
        if out.tell() <= MAX_PICTURE:
            return out.getvalue()
        from PIL import Image

        paper = Image.new("RGB", image.size, "white")
        paper.paste(image, mask=image.getchannel("A"))
        image = paper
    while True:
        for quality in (88, 70, 40):
            out = BytesIO()
            image.save(out, "JPEG", quality=quality)
            if out.tell() <= MAX_PICTURE:
                return out.getvalue()
        image.thumbnail((image.width // 2, image.height // 2))


def text(file: BinaryIO, content_type: str) -> bytes:
    """The text of a document, as Markdown where it has structure."""
    readers = {
        "application/pdf": _pdf,
        "text/html": _html,
        **dict(zip(_OFFICE.values(), (_docx, _xlsx, _pptx), strict=True)),
    }
    if content_type not in readers:
        raise Problem("there is no text in files of this type")
    if content_type in _OFFICE.values():
        check_archive(file)
    pieces = []
    size = 0
    for piece in readers[content_type](file):
        pieces.append(piece)
        size += len(piece)
        if size >= MAX_TEXT:
            break
    found = "".join(pieces).replace("\x00", "").strip()
    if not found:
        raise Problem("there is no text in it")
    return found[:MAX_TEXT].encode(errors="replace")


def _open_pdf(file: BinaryIO) -> Any:
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


def _pdf(file: BinaryIO) -> Iterator[str]:
    for page in _open_pdf(file):
        yield page.get_textpage().get_text_bounded() + "\n\n"


def _html(file: BinaryIO) -> Iterator[str]:
    from bs4 import BeautifulSoup

    # A page may carry megabytes of scripts before its text.
    page = BeautifulSoup(file.read(8 << 20), "html.parser")
    for hidden in page(["script", "style", "template", "img", "svg"]):
        hidden.decompose()
    yield _markdown(page)


def _docx(file: BinaryIO) -> Iterator[str]:
    import mammoth
    from bs4 import BeautifulSoup

    skip_pictures = mammoth.images.img_element(lambda _image: {})
    html = mammoth.convert_to_html(file, convert_image=skip_pictures).value
    yield _markdown(BeautifulSoup(html, "html.parser"))


def _markdown(page: Any) -> str:
    from markdownify import MarkdownConverter

    converted: str = MarkdownConverter(heading_style="ATX", strip=["img"]).convert_soup(page)
    return converted


def _xlsx(file: BinaryIO) -> Iterator[str]:
    import openpyxl

    book = openpyxl.load_workbook(file, read_only=True, data_only=True)
    for sheet in book.worksheets:
        yield f"## {sheet.title}\n\n"
        for row in sheet.iter_rows(values_only=True):
            cells = ["" if value is None else str(value) for value in row]
            while cells and not cells[-1]:  # a sheet may have 16,384 columns for one colour
                cells.pop()
            if cells:
                yield f"| {' | '.join(cells)} |\n"
        yield "\n"


def _pptx(file: BinaryIO) -> Iterator[str]:
    import pptx

    for number, slide in enumerate(pptx.Presentation(file).slides, 1):
        yield f"## Slide {number}\n\n"
        for shape in slide.shapes:
            if shape.has_text_frame:
                yield shape.text_frame.text + "\n"
            if shape.has_table:
                for row in shape.table.rows:
                    yield f"| {' | '.join(cell.text for cell in row.cells)} |\n"
        if slide.has_notes_slide:
            yield slide.notes_slide.notes_text_frame.text + "\n"
        yield "\n"


TASKS = {"inspect": inspect, "text": text, "pages": pages, "picture": picture}


def main() -> None:
    """Does one task."""
    task, content_type = sys.argv[1:]
    limit()
    if task != "inspect":  # nobody waits for it as for a look, and replies go first
        os.nice(10)
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

"""Small real files of the kinds that people send, and of the kinds that nobody should."""

from __future__ import annotations

import io
import random
import struct
import wave
import zipfile
import zlib

import openpyxl
from PIL import Image

_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_TYPES = "http://schemas.openxmlformats.org/package/2006/content-types"
_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
_DOCUMENT = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"


def photo(width: int = 320, height: int = 240) -> bytes:
    """A JPEG."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(file, "JPEG")
    return file.getvalue()


def png(width: int = 16, height: int = 16) -> bytes:
    """A PNG that claims this size; it holds pixels only when it is small."""
    rows = bytes(1 + 3 * width) * height if width * height < 1_000_000 else bytes(100)
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


def pdf(text: str) -> bytes:
    """A PDF of one page with this line on it."""
    return _pdf("<< /Type /Pages /Kids [3 0 R] /Count 1 >>", text)


def looping_pdf() -> bytes:
    """A PDF whose tree of pages is its own child, many times."""
    return _pdf(f"<< /Type /Pages /Kids [{'2 0 R ' * 50}] /Count 1000000000 >>", "never read")


def _pdf(pages: str, text: str) -> bytes:
    drawing = f"BT /F1 18 Tf 20 100 Td ({text}) Tj ET"
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        pages,
        (
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 400 200] /Contents 4 0 R"
            " /Resources << /Font << /F1 5 0 R >> >> >>"
        ),
        f"<< /Length {len(drawing)} >>\nstream\n{drawing}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode()
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    size = len(objects) + 1
    return (
        out
        + (
            f"xref\n0 {size}\n0000000000 65535 f \n{table}"
            f"trailer << /Size {size} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF\n"
        ).encode()
    )


def docx(text: str, *, padding: int = 0) -> bytes:
    """A Word document of one paragraph; `padding` zeros in it make it a bomb."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{_TYPES}"><Default Extension="xml" ContentType="application/xml"/>'
            '<Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-'
            'officedocument.wordprocessingml.document.main+xml"/></Types>',
        )
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{_RELATIONS}"><Relationship Id="rId1" Type="{_DOCUMENT}"'
            ' Target="word/document.xml"/></Relationships>',
        )
        archive.writestr(
            "word/document.xml",
            f'<w:document xmlns:w="{_WORD}"><w:body><w:p><w:r><w:t>{text}</w:t></w:r></w:p>'
            "</w:body></w:document>",
        )
        block = bytes(1 << 20)
        for number in range(0, padding, 64 << 20):
            with archive.open(f"word/media/{number}.bin", "w", force_zip64=True) as member:
                for _ in range(64):
                    member.write(block)
    return file.getvalue()


def zip_bomb() -> bytes:
    """A Word document of two megabytes that unpacks to half a gigabyte."""
    return docx("Boom", padding=512 << 20)


def wav(seconds: float = 0.2) -> bytes:
    """A recording of silence."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8_000)
        sound.writeframes(bytes(int(8_000 * seconds) * 2))
    return file.getvalue()


def m4a(brand: bytes) -> bytes:
    """The beginning of what may be a recording or a film, by this program's brand."""
    return (24).to_bytes(4, "big") + b"ftyp" + brand + bytes(4) + b"isom" + brand + bytes(2_000)


def sparse_xlsx() -> bytes:
    """A sheet with few values, far apart."""
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row, column, value in ((1, 1, "head"), (1, 3_000, ""), (5_000, 2, "end")):
        sheet.cell(row, column, value)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def zip_of_zeros() -> bytes:
    """An archive of no document, of a quarter of a megabyte, that unpacks to 201 MiB."""
    file = io.BytesIO()
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("log", "w") as member,
    ):
        for _ in range(201):
            member.write(bytes(1 << 20))
    return file.getvalue()


def csv(rows: int = 3) -> bytes:
    """A table."""
    lines = "\n".join(f"{number},{number * number}" for number in range(rows))
    return f"number,square\n{lines}\n".encode()


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that are of no type and do not pack."""
    return b"\x00\x01" + random.Random(seed).randbytes(size - 2)

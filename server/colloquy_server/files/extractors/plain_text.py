"""Plain text in any encoding."""

from __future__ import annotations

import codecs
import contextlib
import re
import unicodedata
from collections.abc import Iterator
from typing import BinaryIO

from colloquy_server.files.extractors.results import Notes

TEXT = "text/plain"

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as UTF-16's does
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")
_HARD = re.compile(rb"\x00+|[\x01-\x06\x0e-\x19\x1c-\x1f]")
"""What terminals do not write into logs; a run of zeros is the hole that a crash leaves."""

_XML_ENCODING = re.compile(rb"""^\s*<\?xml[^>]{0,100}encoding\s*=\s*["']([\w.:-]{1,40})["']""")

_PAYLOAD = re.compile(
    r"(data:[\w.+-]{1,60}/[\w.+-]{1,60}(?:;[\w.=+-]{1,60}){0,5};base64,)[A-Za-z0-9+/=]{1000,}"
)
"""A file within a text, as a picture in Markdown or SVG: no model can read it, and it may be all
that fits into a model's window."""

_SAMPLE = 200_000
"""Bytes of which the encoding is guessed."""

_SURE = 0.1
"""A detector's confidence, below which it is not believed against Western European."""

_WESTERN = frozenset(
    bytes(
        ({*range(0xC0, 0x100)} - {*b"\xd0\xd7\xdd\xde\xf0\xf7\xfd\xfe"})
        | {*b"\x80\x82\x84\x85\x8a\x8c\x8e\x99\x9a\x9c\x9e\x9f"}
        | {*range(0x91, 0x98), *b"\xa0\xa1\xa3\xa7\xa9\xaa\xab\xae", *range(0xB0, 0xB4)}
        | {*b"\xb5\xb7", *range(0xBA, 0xC0)}
    ).decode("cp1252")
)
"""Characters that are common in texts of Western Europe: letters without those of Iceland, quotes
and signs."""

_MIXED = 0.4
"""Of the letters: with more outside of ASCII, a text is in no Latin script."""


def is_plain(head: bytes) -> bool:
    """Whether a file begins with text for certain: with a mark of Unicode, or without control
    characters."""
    return head.startswith(tuple(bom for bom, _ in _BOMS)) or not _CONTROL.search(head)


def is_text(head: bytes) -> bool:
    """Whether a file that no other type is known of begins with text, also with some control
    characters, as logs have, or in UTF-16 without a mark."""
    if is_plain(head) or _utf16(head):
        return True
    if head.count(0) * 2 > len(head):
        return False
    hard = len(_HARD.findall(head))
    if _is_utf8(head):
        return hard <= max(1, len(head) // 100)
    return not hard and len(_CONTROL.findall(head)) <= len(head) // 20


def certain(data: bytes) -> str | None:
    """The text, when its encoding is no guess."""
    try:
        for bom, encoding in _BOMS:
            if data.startswith(bom):
                return _clean(data.decode(encoding))
        if b"\x1b$" in data:
            with contextlib.suppress(UnicodeDecodeError):
                return _clean(data.decode("iso2022_jp_2"))
        return None if _utf16(data[:_SAMPLE]) else _clean(data.decode())
    except UnicodeDecodeError:
        return None


def read(file: BinaryIO, notes: Notes) -> Iterator[str]:
    """The text of a file, without files in base64 within it."""
    text, count = _PAYLOAD.subn(r"\1…", decode(file.read(), notes))
    notes.left_out("file in base64", count)
    yield text


def has_files(text: str) -> bool:
    """Whether a text has files within it, that `read` leaves out."""
    return ";base64," in text and _PAYLOAD.search(text) is not None


def decode(data: bytes, notes: Notes) -> str:
    """A text of any encoding; of one that is a guess, and of bytes that mean nothing in it, the
    notes tell."""
    found = certain(data)
    if found is not None:
        return found
    text, encoding, is_guess = _decoded(data)
    if is_guess:
        notes.say(f"its encoding is a guess: {encoding}")
    if bad := text.count("\ufffd"):
        notes.say(f"not valid in {encoding}, and given as \ufffd: {bad:,} characters")
    return _clean(text)


def _decoded(data: bytes) -> tuple[str, str, bool]:
    """The text, the name of its encoding, and whether that is a guess."""
    bom = next((encoding for bom, encoding in _BOMS if data.startswith(bom)), "")
    if encoding := bom or _utf16(data[:_SAMPLE]):
        return data.decode(encoding, "replace"), encoding, False
    if declared := _declared(data):
        return data.decode(declared, "replace"), declared, False
    text = data.decode(errors="replace")
    bad = text.count("\ufffd")
    if sum(c > "\x7f" for c in text) > 5 * bad:  # other encodings hardly ever look like it
        return text, "UTF-8", False
    encoding = _guessed(data)
    return data.decode(encoding, "replace"), encoding, True


def _declared(data: bytes) -> str:
    """The encoding that XML says it has; empty when it says none that is known."""
    found = _XML_ENCODING.match(data[:300])
    try:
        return codecs.lookup(found[1].decode()).name if found else ""
    except LookupError:
        return ""


def _guessed(data: bytes) -> str:
    import chardet

    sample = data[:_SAMPLE]
    guess = chardet.detect(
        sample, encoding_era=chardet.EncodingEra.MODERN_WEB, prefer_superset=True
    )
    encoding = guess["encoding"] or "windows-1252"
    if guess["confidence"] < _SURE and _is_western(sample):
        return "Windows-1252"
    return encoding


def _is_western(sample: bytes) -> bool:
    """Whether bytes read as Western European are mostly Latin letters, with what is usual beside
    them: of a few accents in a short text, a detector of many languages makes anything."""
    try:
        text = sample.decode("cp1252")
    except UnicodeDecodeError:
        return False
    others = {c for c in text if c > "\x7f"}
    letters = [c for c in text if c.isalpha()]
    accented = sum(c > "\x7f" for c in letters)
    return others <= _WESTERN and accented <= _MIXED * len(letters)


def _utf16(head: bytes) -> str:
    """The order of UTF-16 without a mark, as a codec's name; empty when it is none. Zeros are every
    other byte of ASCII in it, and the halves of some spaces and digits in any other script."""
    size = len(head) & ~1
    zeros = head[0:size:2].count(0), head[1:size:2].count(0)
    encoding, many, few = (
        ("utf-16-le", zeros[1], zeros[0])
        if zeros[1] > zeros[0]
        else ("utf-16-be", zeros[0], zeros[1])
    )
    share = 0.4 if head.replace(b"\x00", b"").isascii() else 0.1
    if many < 2 or many < share * size / 2 or few > many // 20:
        return ""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head[:size])
    except UnicodeDecodeError:
        return ""
    is_read = all(
        c in "\t\n\r\f\x1a\x1b" or unicodedata.category(c) not in ("Cc", "Cn", "Co", "Cs")
        for c in set(text)
    )
    return encoding if is_read else ""


def _is_utf8(head: bytes) -> bool:
    """Whether it is UTF-8, of which the last character may be cut."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def _clean(text: str) -> str:
    """Without zeros, which databases refuse, and the mark by which DOS ended files."""
    return text.replace("\x00", "").rstrip("\x1a")

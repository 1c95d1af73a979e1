"""What a file is, decided from its bytes: its name only tells kinds of text apart."""

from __future__ import annotations

import mimetypes
import unicodedata
from enum import IntEnum

import filetype

from colloquy_server.errors import InvalidField

HEAD = 16 << 10
"""Bytes of a file's beginning that are looked at."""

PDF = "application/pdf"
ZIP = "application/zip"
OCTETS = "application/octet-stream"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"

SCALABLE = frozenset(
    {"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/tiff", "image/avif"}
)
"""Pictures that can be read here; others are kept, and named to models."""

_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f\x1b")) + b"\x7f"
_BOMS = (b"\xff\xfe", b"\xfe\xff")

# Names that the registries disagree on, or that Python does not know.
_TEXT_NAMES = {
    ".md": "text/markdown",
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".json": "application/json",
    ".ipynb": "application/json",
    ".yml": "application/yaml",
    ".yaml": "application/yaml",
    ".toml": "application/toml",
    ".xml": "application/xml",
    ".svg": "image/svg+xml",
    ".html": "text/html",
    ".htm": "text/html",
    ".sql": "application/sql",
    ".sh": "application/x-sh",
}
_PROMISES = {
    "image": frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif",
                        ".heic", ".heif", ".ico"}),
    "audio": frozenset({".mp3", ".wav", ".m4a", ".m4b", ".aac", ".ogg", ".oga", ".opus", ".flac",
                        ".weba", ".aif", ".aiff", ".amr"}),
}  # fmt: skip
"""Endings of names that promise a kind of file; a list of ours, as each machine has another."""

# Names by which filetype knows what others know by another.
_SAME = {
    "audio/x-wav": "audio/wav",
    "audio/x-flac": "audio/flac",
    "image/apng": "image/png",
    "video/x-m4v": "video/mp4",
}

_RECORDINGS = {"video/quicktime": "audio/mp4"}
"""Containers of films whose recordings are called otherwise: MP4 is QuickTime's, standardised."""

_AUDIO_SUFFIXES = {
    "audio/wav": ".wav",
    "audio/mpeg": ".mp3",
    "audio/mp4": ".m4a",
    "audio/ogg": ".ogg",
    "audio/webm": ".webm",
    "audio/flac": ".flac",
}

_MAX_NAME = 255
"""Bytes of a name, as file systems have it."""


class Kind(IntEnum):
    """Attachment.Kind of the API, with its numbers."""

    IMAGE = 1
    AUDIO = 2
    DOCUMENT = 3


KIND_NAMES = {Kind.IMAGE: "image", Kind.AUDIO: "audio", Kind.DOCUMENT: "document"}
"""As the catalogue's `input_kinds` has them."""


class Unsupported(InvalidField):
    """The file cannot be taken."""

    reason = "ATTACHMENT_UNSUPPORTED"


def clean_name(name: str) -> str:
    """A file's name without folders, without what does not show, and short enough for any disk."""
    name = unicodedata.normalize("NFC", name).replace("\\", "/").rpartition("/")[2]
    # Category C: control characters, and those that turn the direction of writing.
    name = "".join(c for c in name if not unicodedata.category(c).startswith("C"))
    name = name.strip().lstrip(".").strip() or "file"
    stem, dot, suffix = name.rpartition(".")
    if len(name.encode()) <= _MAX_NAME:
        return name
    suffix = f".{suffix}" if dot and len(suffix) <= 16 else ""
    room = _MAX_NAME - len(suffix.encode())
    return (stem or name).encode()[:room].decode(errors="ignore") + suffix


def decide(head: bytes, name: str, declared_type: str) -> str:
    """The media type of a file that begins with these bytes; its name and `declared_type`, what its
    sender takes it for, count only between recordings and films."""
    if head.startswith(b"%PDF-"):
        return PDF
    if is_text(head):
        return _text_type(head, name)
    guessed: str | None = filetype.guess_mime(head)
    if guessed is None:
        return OCTETS
    found = _SAME.get(guessed, guessed)
    if found.startswith("video/") and (
        declared_type.startswith("audio/") or _suffix(name) in _PROMISES["audio"]
    ):
        # A recording in a film's container.
        return _RECORDINGS.get(found, "audio/" + found.removeprefix("video/"))
    return found


def is_text(head: bytes) -> bool:
    """Whether bytes are text: Unicode, or a legacy encoding without control characters."""
    if head.startswith(_BOMS):
        return True
    return not head.translate(None, delete=bytes(set(range(256)) - set(_CONTROL)))


def _text_type(head: bytes, name: str) -> str:
    beginning = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:200].lower()
    if beginning.startswith((b"<!doctype html", b"<html")):
        return "text/html"
    suffix = _suffix(name)
    if suffix in _TEXT_NAMES:
        return _TEXT_NAMES[suffix]
    guessed = mimetypes.types_map.get(suffix, "")
    return guessed if guessed.startswith("text/") else "text/plain"


def _suffix(name: str) -> str:
    """The ending of a name, with its dot, in lower case."""
    return f".{name.rpartition('.')[2].lower()}" if "." in name else ""


def kind_of(content_type: str) -> Kind:
    """What a file of this type is to a model."""
    if content_type == "image/svg+xml":  # a text that draws
        return Kind.DOCUMENT
    family = content_type.partition("/")[0]
    return {"image": Kind.IMAGE, "audio": Kind.AUDIO}.get(family, Kind.DOCUMENT)


def audio_name(name: str, content_type: str) -> str:
    """A recording's name with the ending of its type, by which transcribers know what it is."""
    suffix = _AUDIO_SUFFIXES.get(content_type)
    return name if suffix is None else f"{name.rpartition('.')[0] or name}{suffix}"


def check_name(name: str, content_type: str) -> None:
    """Raises Unsupported when a name promises a picture or a recording, and the bytes are something
    else for certain; what cannot be told is taken as it is."""
    promised = next((kind for kind, names in _PROMISES.items() if _suffix(name) in names), "")
    is_known = content_type != OCTETS
    if promised and is_known and not content_type.startswith((f"{promised}/", "video/")):
        raise Unsupported(
            {
                "header.filename": f'"{name}" is the name of a file of type {promised}, and its'
                f" bytes are {content_type}: give it the name that fits"
            }
        )

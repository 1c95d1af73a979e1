"""What a file is, decided from its bytes: its name only tells kinds of text apart."""

from __future__ import annotations

import mimetypes
import re
import unicodedata
from enum import IntEnum

import filetype

from colloquy_server.errors import InvalidField
from colloquy_server.files.extractors import archives, mail, notebook, old_office, plain_text, rtf

HEAD = 16 << 10
"""Bytes of a file's beginning that are looked at."""

PDF = "application/pdf"
ZIP = "application/zip"
HEIC = "image/heic"
OCTETS = "application/octet-stream"

CONTAINERS = archives.TYPES | {ZIP, old_office.OLE}
"""Types of which only a look inside tells which one it is."""

READABLE = archives.TYPES | {
    PDF, "text/html", old_office.XLS, old_office.OLE, old_office.MSG, mail.EML, mail.MHTML,
    notebook.IPYNB, rtf.RTF
}  # fmt: skip
"""Documents whose text `extraction` reads, or says what is wrong with them."""

UNREAD = {
    old_office.DOC: "it is an old Word file: save it as .docx",
    old_office.PPT: "it is an old PowerPoint file: save it as .pptx",
    archives.IWORK: "it is a file of Pages, Numbers or Keynote: export it as PDF or to Office",
    ZIP: "it is an archive: attach the files in it one by one",
}
"""What those who send other files can do."""

SCALABLE = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp",
                      "image/tiff", "image/avif", HEIC})  # fmt: skip
"""Pictures that can be read here; others are kept, and named to models."""

_RTF_MAGIC = b"{\\rtf"
_OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
_PDF_WITHIN = 1_024
"""Bytes in which the header of a PDF has to begin."""
_PDF_LINE = re.compile(rb"%PDF-\d\.\d\s*[\r\n]")
_PDF_OBJECT = re.compile(rb"^\d+ \d+ obj\b", re.MULTILINE)

# Names that the registries disagree on, or that Python does not know.
_TEXT_NAMES = {
    ".md": "text/markdown",
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".json": "application/json",
    ".ipynb": notebook.IPYNB,
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
_PAGES = {".mht", ".mhtml", ".doc", ".xls"}
"""Endings of pages that were saved as one file; wikis export such, and call them Word's."""

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

_JOINERS = "\u200c\u200d"
"""What joins emoji, and parts letters in Persian and in the scripts of India: they are kept."""

_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e001f\U000e0080-\U000e00ff]"
    # Tags hide a text in a name, but in the flags of regions, as Scotland's.
    "|(\U0001f3f4[\U000e0030-\U000e007a]{2,6}\U000e007f)|[\U000e0020-\U000e007f]"
)
"""Control characters, those that turn the direction of writing, and others that do not show."""

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
    name = _HIDDEN.sub(r"\1", name).strip().lstrip(".").strip()
    if not name.strip(_JOINERS):
        name = "file"
    stem, dot, suffix = name.rpartition(".")
    if len(name.encode()) <= _MAX_NAME:
        return name
    suffix = f".{suffix}" if dot and len(suffix) <= 16 else ""
    room = _MAX_NAME - len(suffix.encode())
    return (stem or name).encode()[:room].decode(errors="ignore").rstrip(_JOINERS) + suffix


def decide(head: bytes, name: str, declared_type: str) -> str:
    """The media type of a file that begins with these bytes; its name and `declared_type`, what its
    sender takes it for, count only between recordings and films."""
    if _is_pdf(head):
        return PDF
    if head.startswith(_OLE_MAGIC):
        return old_office.OLE
    if head.startswith(_RTF_MAGIC):
        return rtf.RTF
    if plain_text.is_plain(head):
        return _text_type(head, name)
    if _is_heif(head):
        return HEIC
    guessed: str | None = filetype.guess_mime(head)
    if guessed is None:
        return _text_type(head, name) if plain_text.is_text(head) else OCTETS
    found = _SAME.get(guessed, guessed)
    if found.startswith("video/") and (
        declared_type.startswith("audio/") or _suffix(name) in _PROMISES["audio"]
    ):
        # A recording in a film's container.
        return _RECORDINGS.get(found, "audio/" + found.removeprefix("video/"))
    return found


def _is_heif(head: bytes) -> bool:
    """Whether a picture in HEVC begins here, of any depth: the brands tell."""
    size = int.from_bytes(head[:4], "big")
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, min(size, len(head)), 4))}
    return head[4:8] == b"ftyp" and not _HEIF_BRANDS.isdisjoint(brands)


def _is_pdf(head: bytes) -> bool:
    """Whether a PDF begins here, or after other bytes, as readers of PDF allow; a text that tells
    of the header has no objects after it."""
    if head.startswith(b"%PDF-"):
        return True
    found = _PDF_LINE.search(head[:_PDF_WITHIN])
    return found is not None and _PDF_OBJECT.search(head, found.end()) is not None


def _text_type(head: bytes, name: str) -> str:
    beginning = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:200].lower()
    if beginning.startswith((b"<!doctype html", b"<html")):
        return "text/html"
    suffix = _suffix(name)
    if suffix == ".eml" and mail.is_mail(head):
        return mail.EML
    if suffix in _PAGES and mail.is_page(head):
        return mail.MHTML
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

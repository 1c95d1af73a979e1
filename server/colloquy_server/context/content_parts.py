"""What a model is given of a file: the file as it is where the model takes its kind, else its
text."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson
import structlog

from colloquy_server.context.extraction_cache import ExtractionCache
from colloquy_server.context.token_estimates import estimate_tokens
from colloquy_server.database.models import Attachment
from colloquy_server.files import filetypes
from colloquy_server.files.extraction import ExtractedText, Unreadable
from colloquy_server.files.filetypes import Kind
from colloquy_server.files.storage import ObjectMissing, StorageUnavailable
from colloquy_server.providers.catalog import Model

log = structlog.get_logger()

MAX_RAW = 12_000_000
"""Bytes of files as they are in one request. Providers take more (Anthropic 32 MB in base64, OpenAI
50), but each request is held in memory as long as it is being answered."""

ENCODED_AT_ONCE = 3 << 16
"""Bytes that become base64 without a pause for others; a multiple of three, so that pieces join."""

PICTURE_TOKENS = 1_600
"""What a picture takes at most: Anthropic counts a token for 750 pixels after scaling it down to
some 1.2 million; OpenAI some 1,100 for its largest."""

_PIXELS_PER_TOKEN = 750

_PAGE_TOKENS = 2_000
"""A page of a PDF: its text, and its picture beside it."""

_AUDIO_BYTES_PER_TOKEN = 1_600
"""A tenth of a second at 128 kbit/s: OpenAI counts ten tokens a second."""

TEXT = 2
"""The rank of what goes as text."""

_AS_AUDIO: Mapping[str, str] = {"audio/wav": "wav", "audio/mpeg": "mp3"}
"""The formats of `input_audio`."""

NO_ROOM = "there is no room for it in the model's window"
TOO_MANY_BYTES = "the files of one request would be too large with it"
UNREACHABLE = "its bytes cannot be reached at the moment"
REFUSED = "the model's provider did not take it"

_PAUSES = (0.5, 1.0, 2.0)
"""Seconds between tries to reach the bytes of a new message's files."""


@dataclass(frozen=True, slots=True)
class FileContent:
    """What a model is given of a file: `parts` of a message, each as JSON, and `text`; with
    neither, `reason` says why. `notes` say what is missing. `raw` is in bytes."""

    parts: tuple[bytes, ...] = ()
    text: str = ""
    reason: str = ""
    notes: tuple[str, ...] = ()
    tokens: int = 0
    raw: int = 0

    @property
    def note(self) -> str:
        """All notes in one line."""
        return "; ".join(self.notes)


@dataclass(slots=True)
class Room:
    """What a request still has room for."""

    tokens: int
    raw: int = field(default=MAX_RAW)


class ContentParts:
    """Makes content parts of files."""

    def __init__(self, extractions: ExtractionCache) -> None:
        self._extractions = extractions

    async def of(
        self, file: Attachment, model: Model, room: Room, *, is_new: bool, as_text: bool
    ) -> FileContent:
        """What a model is given of a file. Of a new message's file, text that has no room is cut,
        and bytes that cannot be reached are waited for; `as_text` gives no file as it is."""
        for pause in (*_PAUSES, None) if is_new else (None,):
            try:
                content = None if as_text else await self._as_it_is(file, model, room)
                return content or await self._as_text(file, room, may_cut=is_new)
            except Unreadable as problem:
                is_refused = as_text and self.rank(file, model) < TEXT
                return FileContent(reason=REFUSED if is_refused else str(problem))
            except ObjectMissing:
                log.error("file is missing in the store", attachment_id=file.id)
                return FileContent(reason="its bytes are lost")
            except StorageUnavailable:
                log.warning("file cannot be reached", attachment_id=file.id)
                if pause is not None:
                    await asyncio.sleep(pause)
        return FileContent(reason=UNREACHABLE)

    def rank(self, file: Attachment, model: Model) -> int:
        """What is to be given before what: a picture is given whole or not at all, what else goes
        as it is could go as text, and TEXT can be cut."""
        if filetypes.KIND_NAMES[Kind(file.kind)] not in model.input_kinds:
            return TEXT
        if file.kind == Kind.IMAGE:
            return 0
        return 1 if file.content_type == filetypes.PDF or file.content_type in _AS_AUDIO else TEXT

    # --- as it is -----------------------------------------------------------------------------

    async def _as_it_is(self, file: Attachment, model: Model, room: Room) -> FileContent | None:
        """None when the model does not take such files, or this one is too large."""
        if self.rank(file, model) == TEXT:
            return None
        if file.kind == Kind.IMAGE:
            return await self._picture(file, room)
        if file.byte_size > room.raw:
            return None
        beside = ""
        notes: tuple[str, ...] = ()
        if file.kind == Kind.AUDIO:
            tokens = file.byte_size // _AUDIO_BYTES_PER_TOKEN + 10
        else:
            pages = await self._extractions.pages(file)
            beside, notes = pages.text, pages.notes
            tokens = pages.count * _PAGE_TOKENS + estimate_tokens(beside)
        if tokens > room.tokens:
            return None
        data = await self._extractions.data(file)
        part: dict[str, object]
        if file.kind == Kind.AUDIO:
            sound = {"format": _AS_AUDIO[file.content_type], "data": ""}
            part = {"type": "input_audio", "input_audio": sound}
        else:
            uri = f"data:{filetypes.PDF};base64,"
            part = {"type": "file", "file": {"filename": file.filename, "file_data": uri}}
        encoded = await asyncio.to_thread(_encode, part, data)
        return FileContent((encoded,), text=beside, notes=notes, tokens=tokens, raw=file.byte_size)

    async def _picture(self, file: Attachment, room: Room) -> FileContent:
        tokens = picture_tokens(file)
        if tokens > room.tokens:
            return FileContent(reason=NO_ROOM)
        if file.content_type not in filetypes.SCALABLE:
            raise Unreadable("pictures of this type cannot be read here")
        made = await self._extractions.pictures(file)
        parts: list[bytes] = []
        tokens = raw = 0
        for picture in made.pictures:
            cost, size = _area_tokens(picture.width * picture.height), len(picture.data)
            if raw + size > room.raw or tokens + cost > room.tokens:
                break
            uri = f"data:{picture.content_type};base64,"
            part = {"type": "image_url", "image_url": {"url": uri}}
            parts.append(await asyncio.to_thread(_encode, part, picture.data))
            tokens, raw = tokens + cost, raw + size
        if not parts:
            is_large = len(made.pictures[0].data) > room.raw
            return FileContent(reason=TOO_MANY_BYTES if is_large else NO_ROOM)
        return FileContent(tuple(parts), notes=made.first(len(parts)), tokens=tokens, raw=raw)

    # --- as text ------------------------------------------------------------------------------

    async def _as_text(self, file: Attachment, room: Room, *, may_cut: bool) -> FileContent:
        found = await self._extractions.text(file)
        text, notes = _joined(found)
        tokens = estimate_tokens(text)
        if tokens > room.tokens:
            if not may_cut or room.tokens <= 0:
                return FileContent(reason=NO_ROOM)
            size = len(text.encode())
            text, notes = _joined(_shortened(found, size * room.tokens // tokens))
            tokens = room.tokens
        return FileContent(text=text, tokens=tokens, notes=(*notes, *found.notes))


def _shortened(found: ExtractedText, size: int) -> ExtractedText:
    """A text in about this many bytes, of which the end has a quarter."""
    last = found.end or found.beginning
    end = last.encode()[-(size // 4) :].decode(errors="ignore") if size >= 4 else ""
    beginning = found.beginning.encode()[: size - size // 4].decode(errors="ignore")
    return ExtractedText(beginning, end, found.length)


def _joined(found: ExtractedText) -> tuple[str, tuple[str, ...]]:
    """A text with a mark where its middle is left out, and what is to be said of that."""
    missing = found.length - len(found.beginning) - len(found.end)
    if missing <= 0:
        return found.beginning + found.end, ()
    note = (
        f"given: its first {len(found.beginning):,} and its last {len(found.end):,} of"
        f" {found.length:,} characters"
    )
    return f"{found.beginning}\n\n[{missing:,} characters left out]\n\n{found.end}", (note,)


def picture_tokens(file: Attachment) -> int:
    """About how many tokens a picture takes, or the first of several in a file."""
    area = file.width * file.height
    return _area_tokens(area) if area else PICTURE_TOKENS


def _area_tokens(area: int) -> int:
    return min(area // _PIXELS_PER_TOKEN + 85, PICTURE_TOKENS)


def label(file: Attachment) -> str:
    """A file's name and type, for a model; JSON quotes what a name may hold."""
    return f"{json.dumps(file.filename, ensure_ascii=False)} ({file.content_type})"


def _encode(part: Mapping[str, object], data: bytes) -> bytes:
    """The part as JSON, with the data in base64 at the end of its last string."""
    around = orjson.dumps(part)
    end = len(around) - len('"}}')
    pieces = range(0, len(data), ENCODED_AT_ONCE)
    encoded = (base64.b64encode(data[at : at + ENCODED_AT_ONCE]) for at in pieces)
    return b"".join((around[:end], *encoded, around[end:]))

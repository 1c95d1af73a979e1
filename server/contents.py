"""What a model is given of a file: the file as it is where the model takes its kind, else its text,
which is read out once and kept. A picture is made small enough once and kept too."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from server import filetypes
from server.catalog import Catalog, Model
from server.database import Database
from server.estimates import estimate_tokens
from server.extraction import LONG_SIDE, MAX_PICTURE, MAX_TEXT, Extractor, Unreadable
from server.files import picture_key
from server.filetypes import Kind
from server.models import Attachment
from server.providers import ProviderError, Providers
from server.repository import attachments
from server.storage import ObjectMissing, Storage

log = structlog.get_logger()

MAX_RAW = 12_000_000
"""Bytes of files as they are in one request. Providers take more (Anthropic 32 MB in base64, OpenAI
50), but the request is one piece of JSON, and while it is made no other stream moves."""

_ENCODED_AT_ONCE = 3 << 16
"""Bytes that become base64 without a pause for others; a multiple of three, so that pieces join."""

PICTURE_TOKENS = 1_600
"""What a picture takes at most: Anthropic counts a token for 750 pixels after scaling it down to
some 1.2 million; OpenAI some 1,100 for its largest."""

_PIXELS_PER_TOKEN = 750

_PAGE_TOKENS = 2_000
"""A page of a PDF: its text, and its picture beside it."""

_BYTES_PER_PAGE = 50_000
"""Of a PDF whose pages are packed away and cannot be counted."""

_AUDIO_BYTES_PER_TOKEN = 1_600
"""A tenth of a second at 128 kbit/s: OpenAI counts ten tokens a second."""

_PAGE = re.compile(rb"/Type\s*/Page(?![a-zA-Z])")

_AS_PICTURE = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""What OpenAI and Anthropic take as it is."""

_AS_AUDIO: Mapping[str, str] = {"audio/wav": "wav", "audio/mpeg": "mp3"}
"""The formats of `input_audio`."""

_READABLE = frozenset({filetypes.PDF, filetypes.DOCX, filetypes.XLSX, filetypes.PPTX, "text/html"})
_TEXT = ("text/", "application/json", "application/xml", "application/yaml", "application/toml",
         "application/sql", "application/x-sh", "image/svg+xml")  # fmt: skip

NO_ROOM = "there is no room for it in the model's window"


@dataclass(frozen=True, slots=True)
class Content:
    """What a model is given of a file: `part` of a message, or `text`; with neither, `reason` says
    why. `note` says what is missing of a text. `raw` is in bytes."""

    part: dict[str, Any] | None = None
    text: str = ""
    reason: str = ""
    note: str = ""
    tokens: int = 0
    raw: int = 0


@dataclass(slots=True)
class Room:
    """What a request still has room for."""

    tokens: int
    raw: int = field(default=MAX_RAW)


class Contents:
    """Makes contents of files."""

    def __init__(
        self,
        db: Database,
        storage: Storage,
        extractor: Extractor,
        catalog: Catalog,
        providers: Providers,
    ) -> None:
        self._db = db
        self._storage = storage
        self._extractor = extractor
        self._catalog = catalog
        self._providers = providers

    async def of(self, file: Attachment, model: Model, room: Room, *, may_cut: bool) -> Content:
        """What a model is given of a file; text that has no room is cut if it may be."""
        try:
            content = await self._as_it_is(file, model, room)
            if content is None:
                content = await self._as_text(file, room, may_cut=may_cut)
        except Unreadable as problem:
            return Content(reason=str(problem))
        except ObjectMissing:
            log.error("file is missing in the store", attachment_id=file.id)
            return Content(reason="its bytes are lost")
        return content

    # --- as it is -----------------------------------------------------------------------------

    async def _as_it_is(self, file: Attachment, model: Model, room: Room) -> Content | None:
        """None when the model does not take files of this kind, or this one is too large."""
        if filetypes.KIND_NAMES[Kind(file.kind)] not in model.input_kinds:
            return None
        if file.kind == Kind.IMAGE:
            return await self._picture(file, room)
        if file.byte_size > room.raw:
            return None
        if file.kind == Kind.AUDIO and file.content_type in _AS_AUDIO:
            tokens = file.byte_size // _AUDIO_BYTES_PER_TOKEN + 10
            if tokens > room.tokens:
                return None
            data = await self._base64(await self._bytes(file))
            sound = {"data": data, "format": _AS_AUDIO[file.content_type]}
            part = {"type": "input_audio", "input_audio": sound}
            return Content(part, tokens=tokens, raw=file.byte_size)
        if file.content_type == filetypes.PDF:
            whole = await self._bytes(file)
            pages = len(_PAGE.findall(whole)) or file.byte_size // _BYTES_PER_PAGE + 1
            if pages * _PAGE_TOKENS > room.tokens:
                return None
            uri = f"data:{filetypes.PDF};base64,{await self._base64(whole)}"
            part = {"type": "file", "file": {"filename": file.filename, "file_data": uri}}
            return Content(part, tokens=pages * _PAGE_TOKENS, raw=file.byte_size)
        return None

    async def _picture(self, file: Attachment, room: Room) -> Content:
        tokens = picture_tokens(file)
        if tokens > room.tokens or room.raw < MAX_PICTURE:
            return Content(reason=NO_ROOM)
        if file.content_type not in filetypes.SCALABLE:
            raise Unreadable("pictures of this type cannot be read here")
        is_small = max(file.width, file.height) <= LONG_SIDE and file.byte_size <= MAX_PICTURE
        if is_small and file.content_type in _AS_PICTURE:
            data, content_type = await self._bytes(file), file.content_type
        else:
            data = await self._scaled(file)
            content_type = "image/png" if data.startswith(b"\x89PNG") else "image/jpeg"
        url = f"data:{content_type};base64,{await self._base64(data)}"
        part = {"type": "image_url", "image_url": {"url": url}}
        return Content(part, tokens=tokens, raw=len(data))

    async def _scaled(self, file: Attachment) -> bytes:
        """The picture as models take it, made once."""
        key = await self._key(file)
        try:
            return await self._whole(picture_key(key), MAX_PICTURE)
        except ObjectMissing:
            pass
        await self._known_problem(file)
        with tempfile.TemporaryFile() as copy:
            await self._storage.save(key, copy)
            try:
                data = await self._extractor.picture(file.account_id, copy, file.content_type)
            except Unreadable as problem:
                await self._keep_problem(file, problem)
                raise
        await self._storage.put(picture_key(key), io.BytesIO(data))
        if not await self._db.read(file.account_id, attachments.keys, [file.id]):
            await self._storage.remove(picture_key(key))  # the file was removed meanwhile
        return data

    # --- as text ------------------------------------------------------------------------------

    async def _as_text(self, file: Attachment, room: Room, *, may_cut: bool) -> Content:
        text = await self._known_problem(file)
        if text is None:
            text = await self._read_out(file)
            await self._keep(file, text, "")
        tokens = estimate_tokens(text)
        note = ""
        if tokens > room.tokens:
            if not may_cut or room.tokens <= 0:
                return Content(reason=NO_ROOM)
            whole = len(text)
            text = text.encode()[: len(text.encode()) * room.tokens // tokens]\
                .decode(errors="ignore")  # fmt: skip
            tokens = room.tokens
            note = f"only its first {len(text):,} of {whole:,} characters fit in the window"
        return Content(text=text, tokens=tokens, note=note)

    async def _known_problem(self, file: Attachment) -> str | None:
        """The text that was read out before. Raises Unreadable when that went wrong."""
        known = await self._db.read(file.account_id, attachments.reading, file)
        if known is not None and known.problem:
            raise Unreadable(known.problem)
        return known.content if known is not None else None

    async def _read_out(self, file: Attachment) -> str:
        """The text of a file; what is wrong with the file is kept, what passes is not."""
        if file.content_type in _READABLE:
            with tempfile.TemporaryFile() as copy:
                await self._storage.save(await self._key(file), copy)
                try:
                    return await self._extractor.text(file.account_id, copy, file.content_type)
                except Unreadable as problem:
                    await self._keep_problem(file, problem)
                    raise
        if file.content_type.startswith(_TEXT):
            return _decode(await self._whole(await self._key(file), MAX_TEXT * 4))[:MAX_TEXT]
        if file.kind == Kind.AUDIO:
            return await self._transcribed(file)
        what = "picture" if file.kind == Kind.IMAGE else "file of this type"
        raise Unreadable(f"this model cannot take a {what}")

    async def _transcribed(self, file: Attachment) -> str:
        transcriber = self._catalog.transcription()
        if transcriber is None:
            raise Unreadable("this model cannot take recordings, and none here transcribes them")
        with tempfile.TemporaryFile() as copy:
            await self._storage.save(await self._key(file), copy)
            try:
                return await self._providers.transcribe(transcriber, copy, file.filename)
            except ProviderError as error:
                log.warning("not transcribed", reason=error.reason, detail=error.detail)
                raise Unreadable(
                    f"it could not be transcribed: {error.message.rstrip('.')}"
                ) from None

    async def _keep_problem(self, file: Attachment, problem: Unreadable) -> None:
        if not problem.passes:
            await self._keep(file, "", str(problem))

    async def _keep(self, file: Attachment, content: str, problem: str) -> None:
        await self._db.write(file.account_id, attachments.keep_reading, file, content, problem)

    # --- bytes --------------------------------------------------------------------------------

    async def _key(self, file: Attachment) -> str:
        keys = await self._db.read(file.account_id, attachments.keys, [file.id])
        if file.id not in keys:
            raise ObjectMissing
        return keys[file.id]

    async def _bytes(self, file: Attachment) -> bytes:
        return await self._whole(await self._key(file), file.byte_size)

    async def _whole(self, key: str, limit: int) -> bytes:
        """An object's bytes, up to a limit."""
        data = bytearray()
        async for piece in self._storage.stream(key):
            data += piece
            if len(data) >= limit:
                break
        return bytes(data[:limit])

    async def _base64(self, data: bytes) -> str:
        return await asyncio.to_thread(_encode, data)


def picture_tokens(file: Attachment) -> int:
    """About how many tokens a picture takes."""
    area = file.width * file.height
    return min(area // _PIXELS_PER_TOKEN + 85, PICTURE_TOKENS) if area else PICTURE_TOKENS


def label(file: Attachment) -> str:
    """A file's name and type, for a model; JSON quotes what a name may hold."""
    return f"{json.dumps(file.filename, ensure_ascii=False)} ({file.content_type})"


def _encode(data: bytes) -> str:
    pieces = range(0, len(data), _ENCODED_AT_ONCE)
    return "".join(
        base64.b64encode(data[at : at + _ENCODED_AT_ONCE]).decode("ascii") for at in pieces
    )


def _decode(data: bytes) -> str:
    """Text of any usual encoding, without what databases refuse."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", errors="replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            # A limit may cut a character; anything earlier is a legacy encoding.
            is_cut = error.start >= len(data) - 3
            text = data.decode("utf-8-sig" if is_cut else "cp1252", errors="replace")
    return text.replace("\x00", "")

"""What is extracted from files, once for all: their text, whether they are whole, and pictures made
small enough for models. It is kept, and so is why there is none."""

from __future__ import annotations

import asyncio
import contextlib
import io
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import IO, TypeVar

import structlog

from colloquy_server.concurrency import KeyedLocks
from colloquy_server.database.models import Attachment
from colloquy_server.database.repository import accounting, attachments
from colloquy_server.database.repository.usage import NANOS, Payer, Spent, estimate
from colloquy_server.database.transactions import Database
from colloquy_server.errors import NotFound
from colloquy_server.files import filetypes
from colloquy_server.files.extraction import (
    MAX_PICTURES,
    ExtractedText,
    Extractor,
    Pages,
    Pictures,
    TooSlow,
    Unreadable,
)
from colloquy_server.files.extractors import plain_text
from colloquy_server.files.files import picture_key
from colloquy_server.files.filetypes import Kind
from colloquy_server.files.storage import ObjectMissing, Storage, needs_room
from colloquy_server.providers.catalog import Catalog
from colloquy_server.providers.client import ProviderError, Providers
from colloquy_server.providers.models import Transcriber
from colloquy_server.providers.transcript import Transcript

T = TypeVar("T")

log = structlog.get_logger()

_TEXT = ("text/", "application/json", "application/xml", "application/yaml", "application/toml",
         "application/sql", "application/x-sh", "image/svg+xml")  # fmt: skip

_TEXT_FORM = "; text and notes"
"""Added to a file's type where its ExtractedText is kept."""

_WHOLE = "; pages and notes"
"""Added to a file's type where what is kept is its Pages: whether it is whole."""

_PICTURES = "; pictures"
"""Added to a file's type where what is kept is why it cannot be made into Pictures."""

_SHORT = 2 << 20
"""Bytes of a text that is read without a process of its own, if its encoding is certain."""

_SLOW_FILES = 1_000
"""Files that are remembered for having taken too long once."""


class ExtractionCache:
    """Extracts from files, once each, or gives what was extracted before."""

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
        self._locks = KeyedLocks()
        self._slow: dict[tuple[str, str, str], None] = {}

    async def text(self, file: Attachment) -> ExtractedText:
        """A file's text, and what is missing of it. Raises Unreadable, ObjectMissing and
        StorageUnavailable."""
        kept = await self._once(file, file.content_type + _TEXT_FORM, self._read_out)
        return ExtractedText.load(kept)

    async def pages(self, file: Attachment) -> Pages:
        """How many pages a PDF has. Raises as `text`: Unreadable when it cannot be read to its end,
        for which a provider refuses the request."""
        kept = await self._once(file, file.content_type + _WHOLE, self._count_pages)
        return Pages.load(kept)

    async def pictures(self, file: Attachment) -> Pictures:
        """A picture as models take it. Raises as `text`."""
        async with self._lock(file):
            key = await self._key(file)
            # What an older version kept there is one picture alone: it is made again.
            with contextlib.suppress(ObjectMissing, ValueError):
                return Pictures.load(await self._whole(picture_key(key), MAX_PICTURES))
            await self._known(file, file.content_type + _PICTURES)
            return await self._found(file, file.content_type + _PICTURES, self._make_pictures)

    async def data(self, file: Attachment) -> bytes:
        """A file's bytes. Raises ObjectMissing and StorageUnavailable."""
        return await self._whole(await self._key(file), file.byte_size)

    # --- once ---------------------------------------------------------------------------------

    def _lock(self, file: Attachment) -> asyncio.Semaphore:
        """What two want of one file at the same time is read once, by the first of them."""
        return self._locks.of((file.account_id, file.sha256))

    async def _once(
        self, file: Attachment, form: str, read: Callable[[Attachment], Awaitable[str]]
    ) -> str:
        async with self._lock(file):
            content = await self._known(file, form)
            if content is None:
                content = await self._found(file, form, read)
                await self._keep(file, form, content, "")
            return content

    async def _known(self, file: Attachment, form: str) -> str | None:
        """What was read before. Raises Unreadable when that went wrong."""
        known = await self._db.read(file.account_id, attachments.extraction, file, form)
        if known is not None and known.problem:
            raise Unreadable(known.problem)
        return known.content if known is not None else None

    async def _found(
        self, file: Attachment, form: str, read: Callable[[Attachment], Awaitable[T]]
    ) -> T:
        """What `read` finds; what is wrong with the file is kept, what passes is not."""
        try:
            return await read(file)
        except Unreadable as problem:
            if not problem.passes or (isinstance(problem, TooSlow) and self._again(file, form)):
                await self._keep(file, form, "", str(problem))
            raise

    def _again(self, file: Attachment, form: str) -> bool:
        """Whether this file took too long before: then it is the file, not a busy machine."""
        key = (file.account_id, file.sha256, form)
        if key in self._slow:
            return True
        self._slow[key] = None
        if len(self._slow) > _SLOW_FILES:
            del self._slow[next(iter(self._slow))]
        return False

    async def _keep(self, file: Attachment, form: str, content: str, problem: str) -> None:
        await self._db.write(
            file.account_id, attachments.save_extraction, file, form, content, problem
        )

    # --- extracting -------------------------------------------------------------------------------

    async def _read_out(self, file: Attachment) -> str:
        if file.content_type in filetypes.READABLE:
            async with self._copy(file) as copy:
                read = await self._extractor.text(file.account_id, copy, file.content_type)
            return read.dump()
        if file.content_type.startswith(_TEXT):
            certain = None
            if file.byte_size <= _SHORT:  # what is longer comes into the memory of no server
                certain = await asyncio.to_thread(plain_text.certain, await self.data(file))
            if certain is None or plain_text.has_files(certain):
                async with self._copy(file) as copy:
                    read = await self._extractor.text(file.account_id, copy, plain_text.TEXT)
                return read.dump()
            found = certain
        elif file.kind == Kind.AUDIO:
            found = await self._transcribed(file)
        elif file.kind == Kind.IMAGE:
            raise Unreadable("this model cannot take a picture", passes=True)
        else:
            why = filetypes.UNREAD.get(file.content_type, "files of this type cannot be read here")
            raise Unreadable(why, passes=True)
        if not found.strip():
            raise Unreadable("there is nothing in it")
        return ExtractedText.of(found).dump()

    async def _transcribed(self, file: Attachment) -> str:
        transcriber = self._catalog.transcription()
        if transcriber is None:
            raise Unreadable(
                "this model cannot take recordings, and none here transcribes them", passes=True
            )
        async with self._copy(file) as copy:
            try:
                name = filetypes.audio_name(file.filename, file.content_type)
                heard = await self._providers.transcribe(transcriber, copy, name)
            except ProviderError as error:
                log.warning("not transcribed", **error.log_fields())
                raise Unreadable(
                    f"it could not be transcribed: {error.message.rstrip('.')}",
                    passes=not error.is_about_content,
                ) from None
        await self._book(file, transcriber, heard)
        return heard.text

    async def _book(self, file: Attachment, transcriber: Transcriber, heard: Transcript) -> None:
        """Books what a transcription used, for whoever uploaded the recording. Of one whose tokens
        nobody counted, those of its text stand for them."""
        if heard.usage is None:
            spent = estimate(transcriber.id, 0, heard.text)
        else:
            usage = heard.usage
            counted = usage.input_tokens, usage.cached_tokens, usage.output_tokens
            spent = Spent(transcriber.id, *counted)
        spent = replace(spent, cost_nanos=_nanos(transcriber, spent))
        payer = Payer(file.uploader_id)
        with contextlib.suppress(NotFound):  # the account is gone
            await self._db.write(
                file.account_id, accounting.book_alone, file.account_id, payer, spent
            )

    async def _count_pages(self, file: Attachment) -> str:
        async with self._copy(file) as copy:
            pages = await self._extractor.pages(file.account_id, copy, file.content_type)
        return pages.dump()

    async def _make_pictures(self, file: Attachment) -> Pictures:
        async with self._copy(file) as copy:
            made = await self._extractor.pictures(file.account_id, copy, file.content_type)
        key = await self._key(file)
        await self._storage.put(picture_key(key), io.BytesIO(made.dump()))
        if not await self._db.read(file.account_id, attachments.keys, [file.id]):
            await self._storage.remove(picture_key(key))  # the file was removed meanwhile
        return made

    # --- bytes --------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _copy(self, file: Attachment) -> AsyncIterator[IO[bytes]]:
        """A file's bytes on disk, under no name. Raises ObjectMissing and StorageUnavailable."""
        with needs_room(), tempfile.TemporaryFile() as copy:
            await self._storage.save(await self._key(file), copy)
            yield copy

    async def _key(self, file: Attachment) -> str:
        keys = await self._db.read(file.account_id, attachments.keys, [file.id])
        if file.id not in keys:
            raise ObjectMissing
        return keys[file.id]

    async def _whole(self, key: str, limit: int) -> bytes:
        """An object's bytes, up to a limit."""
        pieces = []
        room = limit
        async for piece in self._storage.stream(key):
            pieces.append(piece[:room])
            room -= len(pieces[-1])
            if not room:
                break
        return await asyncio.to_thread(b"".join, pieces)  # which lets others run meanwhile


def _nanos(transcriber: Transcriber, spent: Spent) -> int:
    price = spent.input_tokens * transcriber.input_price
    price += spent.output_tokens * transcriber.output_price
    return round(price * NANOS / 1000)

"""Files of accounts: taking them in, giving them out, and removing what nobody needs."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import IO, Self

import structlog

from colloquy_server.concurrency import shielded
from colloquy_server.database.models import Attachment
from colloquy_server.database.repository import attachments, quotas
from colloquy_server.database.repository.attachments import NewFile
from colloquy_server.database.repository.quotas import Charge, Limits, Room
from colloquy_server.database.transactions import (
    EVERY_ACCOUNT,
    Database,
    DatabaseUnavailable,
    Scope,
)
from colloquy_server.errors import InvalidField, QuotaExceeded
from colloquy_server.files import filetypes
from colloquy_server.files.extraction import Extractor, Unreadable
from colloquy_server.files.filetypes import Kind, Unsupported
from colloquy_server.files.storage import Storage, StorageUnavailable, needs_room

log = structlog.get_logger()

_SWEEP_INTERVAL = 600.0
"""Seconds between looks for files that nobody needs."""

_LOOK_INTERVAL = 15.0
"""Seconds between looks for what another process let go of, and died."""

_REMOVED_AT_ONCE = 100

_CHECK_INTERVAL = 5.0
"""Seconds between looks whether who takes a file still sees it: whoever takes it slowly would else
have it for as long as they like."""


class TooLarge(InvalidField):
    """The file is too large."""

    reason = "ATTACHMENT_TOO_LARGE"


class Spool:
    """A file on its way in: on disk under no name, so that nothing is left when it breaks off."""

    def __init__(self, max_bytes: int, room: Room | None) -> None:
        """`room` is what a quota leaves, if there is one."""
        self._max_bytes = max_bytes
        self._room = room
        self._digest = hashlib.sha256()
        self.size = 0
        self.head = b""
        self.file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # no room for what is not written yet, nor need
            self.file.close()

    @property
    def sha256(self) -> str:
        """Of what came, in lower-case hex."""
        return self._digest.hexdigest()

    async def write(self, chunk: bytes) -> None:
        """Takes the next bytes. Raises TooLarge, QuotaExceeded and StorageUnavailable."""
        self.size += len(chunk)
        if self.size > self._max_bytes:
            raise TooLarge({"chunk": f"the file is larger than {self._max_bytes:,} bytes"})
        if self._room is not None and self.size > self._room.bytes:
            raise self._room.refusal
        if len(self.head) < filetypes.HEAD:
            self.head += chunk[: filetypes.HEAD - len(self.head)]
        with needs_room():
            await asyncio.to_thread(self._write, chunk)

    async def complete(self) -> None:
        """All bytes have come. Raises StorageUnavailable."""
        with needs_room():
            await asyncio.to_thread(self.file.flush)

    def _write(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self.file.write(chunk)


class Files:
    """All files, and the background work of removing them."""

    def __init__(
        self, db: Database, storage: Storage, extractor: Extractor, max_bytes: int, limits: Limits
    ) -> None:
        """`max_bytes` is the size of the largest file that is taken; `limits` are those of accounts
        that have none of their own."""
        self._db = db
        self._storage = storage
        self._extractor = extractor
        self.max_bytes = max_bytes
        self._limits = limits
        self._removing: asyncio.Task[None] | None = None
        self._is_due = asyncio.Event()

    def start(self) -> None:
        """Begins to remove what nobody needs."""
        self._removing = asyncio.create_task(self._remove_forever())

    async def stop(self) -> None:
        """Ends that."""
        if self._removing is not None:
            self._removing.cancel()
            await asyncio.gather(self._removing, return_exceptions=True)

    # --- in and out ---------------------------------------------------------------------------

    async def spool(
        self, account_id: str, uploader_id: str, api_key_id: str | None, sha256: str
    ) -> Spool:
        """A place for a user's file on its way in, to be entered. `api_key_id` is the key of who
        sends it, if that has quotas; `sha256` is what they say of it, if anything."""
        charge = Charge(api_key_id, self._limits)
        room = await self._db.read(
            account_id, quotas.room_for_file, account_id, charge, uploader_id, sha256.lower()
        )
        return Spool(self.max_bytes, room)

    async def store(
        self,
        account_id: str,
        uploader_id: str,
        api_key_id: str | None,
        spool: Spool,
        filename: str,
        declared_type: str,
    ) -> Attachment:
        """Keeps a user's file that has come whole; `declared_type` is the media type that its
        sender gave.

        Raises InvalidField when it is empty, Unsupported, QuotaExceeded and StorageUnavailable.
        """
        if spool.size == 0:
            raise InvalidField({"chunk": "the file is empty"})
        await spool.complete()
        file = await self._describe(
            account_id, spool, filetypes.clean_name(filename), declared_type
        )
        file = replace(file, uploader_id=uploader_id)
        charge = Charge(api_key_id, self._limits)
        while True:
            row = await self._keep(account_id, charge, spool, file)
            if row is not None:
                return row
            self.remove_soon()  # what it stored under a key that is not its own any more

    async def _keep(
        self, account_id: str, charge: Charge, spool: Spool, file: NewFile
    ) -> Attachment | None:
        """None when the bytes were removed while they came."""
        key = attachments.new_key(account_id, file)
        try:
            key, is_stored = await self._db.write(
                account_id, attachments.begin, account_id, file, key, charge
            )
            if not is_stored:
                spool.file.seek(0)
                await self._storage.put(key, spool.file)
            return await self._db.write(account_id, attachments.finish, account_id, file, key)
        except QuotaExceeded:  # nothing was begun
            raise
        except BaseException:
            await shielded(self._abandon(account_id, file, key))
            raise

    async def _abandon(self, account_id: str, file: NewFile, key: str) -> None:
        try:
            await self._db.write(account_id, attachments.abandon, account_id, file, key)
        except DatabaseUnavailable:
            return  # then it is swept
        self.remove_soon()

    async def _describe(
        self, account_id: str, spool: Spool, filename: str, declared_type: str
    ) -> NewFile:
        content_type = filetypes.decide(spool.head, filename, declared_type)
        filetypes.check_name(filename, content_type)
        width = height = 0
        if content_type in filetypes.SCALABLE or content_type in filetypes.CONTAINERS:
            try:
                facts = await self._extractor.inspect(account_id, spool.file, content_type)
            except Unreadable as problem:
                raise Unsupported({"chunk": f'"{filename}" cannot be taken: {problem}'}) from None
            content_type = facts.content_type or content_type
            width, height = facts.width, facts.height
        kind: Kind = filetypes.kind_of(content_type)
        return NewFile(spool.sha256, spool.size, filename, content_type, kind, width, height)

    async def get(self, scope: Scope, attachment_id: str) -> Attachment:
        """What is known of a file. Raises NotFound."""
        row, _ = await self._db.read(scope, attachments.get, attachment_id)
        return row

    async def open(
        self, scope: Scope, attachment_id: str, wanted: tuple[int, int] | None = None
    ) -> tuple[Attachment, AsyncIterator[bytes]]:
        """A file and its bytes, piece by piece: all, or those from the first of the places that are
        `wanted` to before the other. Raises NotFound, also while it is read: for who does not see
        it any more, and when it is deleted."""
        row, key = await self._db.read(scope, attachments.get, attachment_id)
        return row, self._pieces(scope, attachment_id, key, wanted)

    async def _pieces(
        self, scope: Scope, attachment_id: str, key: str, wanted: tuple[int, int] | None
    ) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop().time
        checked_at = clock()
        async for piece in self._storage.stream(key, wanted):
            if clock() - checked_at >= _CHECK_INTERVAL:
                with contextlib.suppress(DatabaseUnavailable):  # nobody is removed meanwhile
                    await self.get(scope, attachment_id)
                checked_at = clock()
            yield piece

    # --- removing -----------------------------------------------------------------------------

    def remove_soon(self) -> None:
        """Has what the tables have let go of removed from the store, in the background: whoever
        deletes something need not wait for everybody's files."""
        self._is_due.set()

    async def sweep(self) -> None:
        """Removes files that no message has used for a day."""
        while await self._db.write(EVERY_ACCOUNT, attachments.sweep):
            pass
        await self._remove()

    async def _remove(self) -> None:
        """What cannot be removed now is tried again with the next."""
        while keys := await self._db.read(EVERY_ACCOUNT, attachments.removals, _REMOVED_AT_ONCE):
            for key in keys:
                await self._storage.remove(key)
                await self._storage.remove(picture_key(key))
            await self._db.write(EVERY_ACCOUNT, attachments.removed, keys)

    async def _remove_forever(self) -> None:
        clock = asyncio.get_running_loop().time
        sweep_at = clock()
        while True:
            self._is_due.clear()
            try:
                if clock() >= sweep_at:
                    sweep_at = clock() + _SWEEP_INTERVAL
                    await self.sweep()
                else:
                    await self._remove()
            except (StorageUnavailable, DatabaseUnavailable) as error:
                log.warning("files not removed", error=type(error).__name__)
            except Exception:
                log.exception("upkeep failed", work="files")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(sweep_at, clock() + _LOOK_INTERVAL)):
                    await self._is_due.wait()


def picture_key(key: str) -> str:
    """Where the picture is that was made of a file for models."""
    return f"{key}.picture"

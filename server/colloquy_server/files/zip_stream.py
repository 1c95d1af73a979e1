"""A ZIP archive that is written as it is read, piece by piece.

It is never whole anywhere: what of it is in memory are the bytes that were not taken yet, and
for each file in it what the directory at its end says. Sizes are not known beforehand, and any may
need ZIP64, so each entry has its sizes behind its bytes; readers that begin with the directory,
which are nearly all, do not mind.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from colloquy_server.files.storage import CHUNK

_READABLE_BY_OWNER = 0o600 << 16
"""Where ZIP has the mode of a file, whose other half it leaves to DOS."""


class _Sink:
    """What the archive is written to. As it cannot seek, nothing in it is changed later."""

    def __init__(self) -> None:
        self.written = bytearray()

    def write(self, data: bytes, /) -> int:
        self.written += data
        return len(data)

    def flush(self) -> None:
        """What is written is there."""

    def close(self) -> None:
        """What is written stays there."""


class ZipStream:
    """One archive. Entries are written one after another, and `end` comes last."""

    def __init__(self) -> None:
        self._sink = _Sink()
        self._zip = ZipFile(self._sink, "w")

    async def entry(
        self, name: str, data: AsyncGenerator[bytes], *, is_compressed: bool
    ) -> AsyncGenerator[bytes]:
        """Adds a file of this data, and yields the archive's next pieces, each of at most `CHUNK`
        bytes. Raises what `data` raises."""
        info = ZipInfo(name, time.gmtime()[:6])
        info.compress_type = ZIP_DEFLATED if is_compressed else ZIP_STORED
        info.external_attr = _READABLE_BY_OWNER
        with self._zip.open(info, "w", force_zip64=True) as entry:
            gathered = bytearray()
            async with aclosing(data):
                async for piece in data:
                    gathered += piece
                    if len(gathered) < CHUNK:
                        continue
                    # Checksums and compression of megabytes would hold up everybody else.
                    await asyncio.to_thread(entry.write, bytes(gathered))
                    gathered.clear()
                    for taken in self._take(CHUNK):
                        yield taken
            entry.write(gathered)

    def end(self) -> Iterator[bytes]:
        """Writes the directory, and yields what is left."""
        self._zip.close()
        yield from self._take(1)

    def _take(self, at_least: int) -> Iterator[bytes]:
        """What was written, as soon as it is so much."""
        written = self._sink.written
        while len(written) >= at_least:
            taken = bytes(memoryview(written)[:CHUNK])
            del written[:CHUNK]
            yield taken

"""Where the bytes of files are: a local folder, S3, Google Cloud Storage or Azure, by STORAGE_URL.

Everything is streamed: no file is ever whole in memory because it passes through here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import glob
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import obstore
from colloquy.operations.private_files import close_to_others, make_private_folder
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from colloquy_server.errors import ColloquyError, Unavailable

CHUNK = 256 << 10
"""Bytes of a piece that is passed on."""

_PART = 5 << 20
_LOCAL_PART = 1 << 20
"""Bytes of a part of an upload in parts, of which two or three are in memory: the least that S3
takes, and less for a disk."""

CONFIG = {
    "s3": (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    ),
    "gs": ("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_APPLICATION_CREDENTIALS"),
    "az": (
        "AZURE_STORAGE_ACCOUNT_NAME",
        "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_SAS_KEY",
        "AZURE_STORAGE_CLIENT_ID",
        "AZURE_STORAGE_CLIENT_SECRET",
        "AZURE_STORAGE_TENANT_ID",
    ),
}
"""The variables by which each store is set up, as its vendor's own tools know them; from the
environment obstore takes others too."""


class StorageError(ColloquyError):
    """STORAGE_URL cannot be used."""


class StorageUnavailable(Unavailable):
    """The file store cannot be reached at the moment. Try again."""


class ObjectMissing(ColloquyError):
    """A file's bytes are not in the store."""


_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextlib.contextmanager
def needs_room() -> Iterator[None]:
    """Around what writes files of this machine's: raises StorageUnavailable where there is no room
    for them."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise StorageUnavailable from error


class Storage:
    """One store."""

    def __init__(self, store: ObjectStore, folder: Path | None = None) -> None:
        """`folder` is where a local store is."""
        self._store = store
        self._folder = folder
        self._part = _LOCAL_PART if isinstance(store, LocalStore) else _PART

    @staticmethod
    def open(url: str, environ: Mapping[str, str]) -> Storage:
        """The store of a URL: `file://folder` is relative to the working folder, `file:///folder`
        absolute, and both are made if missing; `environ` holds the keys of the others.

        Raises StorageError.
        """
        try:
            if url.startswith("file://"):
                folder = Path(url.removeprefix("file://"))
                make_private_folder(folder)
                close_to_others(folder)
                folder = folder.resolve()
                return Storage(LocalStore(folder), folder)
            names = CONFIG[url.partition("://")[0]]
            config: Any = {name.lower(): environ[name] for name in names if environ.get(name)}
            allows_http = "http://" in str(config.get("aws_endpoint_url", ""))
            return Storage(from_url(url, config=config, client_options={"allow_http": allows_http}))
        except (OSError, BaseError, ValueError, KeyError) as error:
            what = str(error).partition("\n")[0]
            raise StorageError(f"STORAGE_URL {url} cannot be used: {what}") from None

    async def put(self, key: str, file: IO[bytes]) -> None:
        """Stores what is left in an open file; the object is there whole or not at all."""
        try:
            await obstore.put_async(
                self._store, key, file, chunk_size=self._part, max_concurrency=1
            )
        except BaseError as error:
            raise StorageUnavailable from error

    async def stream(self, key: str, wanted: tuple[int, int] | None = None) -> AsyncIterator[bytes]:
        """An object's bytes, piece by piece: all, or those from the first of the places that are
        `wanted` to before the other. Raises ObjectMissing."""
        try:
            found = await obstore.get_async(
                self._store, key, options={"range": wanted} if wanted else None
            )
            async for piece in found.stream(min_chunk_size=CHUNK):
                data = memoryview(piece)
                for start in range(0, len(data), CHUNK):
                    yield bytes(data[start : start + CHUNK])
        except (FileNotFoundError, obstore.exceptions.NotFoundError):
            raise ObjectMissing from None
        except BaseError as error:
            raise StorageUnavailable from error

    async def save(self, key: str, file: IO[bytes]) -> None:
        """Writes an object into an open file, which is then at its start."""
        async for piece in self.stream(key):
            file.write(piece)
        file.seek(0)

    async def remove(self, key: str) -> None:
        """Removes an object; it does not matter if it is not there. From a local folder also
        removes what a process left that died while it stored it, and the folder around it when that
        is empty."""
        if self._folder is not None:
            await asyncio.to_thread(_remove_broken_off, self._folder / key)
        try:
            await obstore.delete_async(self._store, key)
        except (FileNotFoundError, obstore.exceptions.NotFoundError):
            pass
        except BaseError as error:
            raise StorageUnavailable from error
        if self._folder is not None:
            with contextlib.suppress(OSError):  # there is more in it, or it is gone
                await asyncio.to_thread((self._folder / key).parent.rmdir)


def _remove_broken_off(path: Path) -> None:
    """A local store writes an object under its name with a number, and renames it when it is
    whole."""
    for left in path.parent.glob(f"{glob.escape(path.name)}#*"):
        left.unlink(missing_ok=True)

"""Uploads and downloads, chunk by chunk: memory stays the same whatever the size of the file."""

from __future__ import annotations

import hashlib
import mimetypes
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Self

from colloquy.api.admin_service_pb2 import ExportUserResponse
from colloquy.api.attachment_service_pb2 import (
    DownloadAttachmentResponse,
    UploadAttachmentRequest,
)
from colloquy.api.resources_pb2 import Attachment
from colloquy.errors import ServerError

_CHUNK = 256 * 1024

Progress = Callable[[int, int], None]
"""Is called with the bytes that are through, and those in all: 0 when that is not known."""


class Upload(AbstractContextManager["Upload"]):
    """An upload: the header, then the bytes.

    `source` is a path, or a file open for reading in binary, which is sent from where it stands.
    Without a `content_type` it is guessed from the name. Raises OSError when it cannot be
    read.
    """

    def __init__(
        self,
        source: str | Path | BinaryIO,
        filename: str = "",
        content_type: str = "",
        progress: Progress | None = None,
    ) -> None:
        self._progress = progress
        self._sent = self._total = 0
        self._own = isinstance(source, str | Path)
        self._file = open(source, "rb") if isinstance(source, str | Path) else source  # noqa: SIM115
        self._start = self._file.tell() if self._file.seekable() else None
        self._begun = False
        self.failure: Exception | None = None
        # gRPC's sync API reads ahead in a thread of its own, also of a call that has failed: a
        # thread of an earlier round must not touch the file any more.
        self._lock = threading.Lock()
        self._round = 0
        name = source if isinstance(source, str | Path) else getattr(source, "name", "")
        filename = filename or (Path(name).name if isinstance(name, str | Path) else "")
        self._header = UploadAttachmentRequest.Header(
            filename=filename or "file",
            content_type=content_type or mimetypes.guess_type(filename)[0] or "",
        )

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Send nothing more, and close the file if it was opened here."""
        with self._lock:
            self._round += 1
            if self._own:
                self._file.close()

    def rewind(self) -> bool:
        """Go back to the beginning. Returns whether the file can be sent again."""
        if self._start is None:
            return False
        with self._lock:
            self._round += 1
            self._file.seek(self._start)
            self._begun = False
            self._sent = 0
        return True

    def requests(self) -> Iterator[UploadAttachmentRequest]:
        """Return an iterator of all requests, for gRPC's sync API, which ends at a `rewind`.

        That API does not say why reading the file, or `progress`, failed: `failure` does.
        """
        return self._requests(self._round)

    def _requests(self, current: int) -> Iterator[UploadAttachmentRequest]:
        while True:
            with self._lock:
                if self._round != current:
                    return
                try:
                    request = self._next()
                except Exception as error:
                    self.failure = error
                    raise
            if request is None:
                return
            yield request

    def _next(self) -> UploadAttachmentRequest | None:
        """Return the next request, None after the last."""
        if not self._begun:
            self._begun = True
            return UploadAttachmentRequest(header=self._with_sum())
        chunk = self._file.read(_CHUNK)
        self._sent += len(chunk)
        if self._progress is not None:
            self._progress(self._sent, self._total)
        return UploadAttachmentRequest(chunk=chunk) if chunk else None

    def _with_sum(self) -> UploadAttachmentRequest.Header:
        """Return the header, with the checksum when the file can be read twice."""
        if self._start is not None and not self._header.sha256:
            digest = hashlib.sha256()
            while chunk := self._file.read(_CHUNK):
                digest.update(chunk)
                self._total += len(chunk)
            self._file.seek(self._start)
            self._header.sha256 = digest.hexdigest()
        return self._header


class _Received:
    """What comes piece by piece, and in the end is in its place with all bytes or not at all.

    `target` is a path, or a file open for writing in binary.
    """

    def __init__(self, target: str | Path | BinaryIO) -> None:
        self._path = Path(target) if isinstance(target, str | Path) else None
        self._file: BinaryIO | None = None if isinstance(target, str | Path) else target
        self._part: Path | None = None
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Forget what came, unless it is in its place."""
        self._drop_part()

    def restart(self) -> bool:
        """Forget what came. Returns whether it can be taken from the beginning again."""
        if self._path is None and self._size:
            return False
        self._drop_part()
        self._size = 0
        return True

    def _take(self, chunk: bytes) -> None:
        self._open().write(chunk)
        self._size += len(chunk)

    def _put_in_place(self) -> None:
        file = self._open()
        if self._path is not None and self._part is not None:
            file.close()
            os.replace(self._part, self._path)
            self._part = None

    def _open(self) -> BinaryIO:
        if self._file is None:
            assert self._path is not None
            part = self._path.parent / f".download-{secrets.token_hex(8)}"
            self._file = self._create(part)
            self._part = part
        return self._file

    def _create(self, part: Path) -> BinaryIO:
        # Not by tempfile, whose files only their owner may read, also in their final place.
        return open(part, "xb")

    def _drop_part(self) -> None:
        if self._part is not None and self._file is not None:
            self._file.close()
            self._part.unlink(missing_ok=True)
        if self._path is not None:
            self._part = self._file = None


class Download(_Received):
    """A download.

    `target` is a path, which is there in the end with all bytes or not at all, or a file open for
    writing in binary. Raises OSError when it cannot be written.
    """

    def __init__(self, target: str | Path | BinaryIO, progress: Progress | None = None) -> None:
        super().__init__(target)
        self._progress = progress
        self._begin()

    def restart(self) -> bool:
        """Forget what came. Returns whether the file can be taken from the beginning again."""
        if not super().restart():
            return False
        self._begin()
        return True

    def write(self, response: DownloadAttachmentResponse) -> None:
        """Write the next part."""
        if response.HasField("attachment"):
            self._attachment = response.attachment
        elif response.chunk:
            self._take(response.chunk)
            self._digest.update(response.chunk)
            if self._progress is not None:
                self._progress(self._size, self._attachment.byte_size)

    def finish(self) -> Attachment:
        """Put the file in its place. Raises ServerError when its bytes are not what was said."""
        expected = self._attachment
        if expected.byte_size != self._size or expected.sha256 not in (
            "",
            self._digest.hexdigest(),
        ):
            raise ServerError(f"the file {expected.filename} arrived damaged")
        self._put_in_place()
        return expected

    def _begin(self) -> None:
        self._attachment = Attachment()
        self._digest = hashlib.sha256()


class ArchiveDownload(_Received):
    """The archive of a person, which nobody else can read where it is put: `target` is as in
    Download."""

    def write(self, response: ExportUserResponse) -> None:
        """Write the next part."""
        self._take(response.chunk)

    def finish(self) -> None:
        """Put the archive in its place."""
        self._put_in_place()

    def _create(self, part: Path) -> BinaryIO:
        return open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

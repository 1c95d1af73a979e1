"""Reads files that strangers made, each in a process of its own (`extractors`), which holds nothing
but the file and is ended when it takes too long. What takes long runs at low priority, and is no
stream's problem."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO

import structlog

from colloquy_server import children
from colloquy_server.concurrency import FairSemaphore
from colloquy_server.confinement import ENVIRONMENT
from colloquy_server.files.extractors.pictures import MAX_PICTURES, Pictures
from colloquy_server.files.extractors.results import MAX_TEXT, ExtractedText, Pages

__all__ = ["MAX_PICTURES", "ExtractedText", "Extractor", "Pages", "Pictures", "Unreadable"]

log = structlog.get_logger()

# -I: no folder of ours, no variable of ours
_WORKER = (sys.executable, "-I", "-m", "colloquy_server.files.extractors")

_TIMEOUT = 30.0
"""Seconds for one file, by the clock; the worker itself ends after some seconds of work."""

_INSPECT_TIMEOUT = 10.0
"""Seconds for a look at a file, which takes the time that Python needs to start."""

_SMALL = 1_000_000
"""Bytes of a file that need not wait behind others."""

_SMALL_TIMEOUT = 5.0
"""Seconds for a small file; one that takes longer is read again among those that take long."""

_REFUSED = 3
"""The worker's exit code when it says what is wrong."""

_TOO_LONG = "reading it takes too long"

_MAX_RESULT = max(MAX_TEXT * 6 + (1 << 20), MAX_PICTURES) + 1
"""A character takes six bytes of JSON at most; what is said of a file is beside its text."""


class Unreadable(Exception):
    """A file that cannot be read; the message says why, for the person who sent it."""

    def __init__(self, why: str, *, passes: bool = False) -> None:
        """`passes` when another try may go better: the machine was busy, not the file bad."""
        super().__init__(why)
        self.passes = passes


class TooSlow(Unreadable):
    """A file that took too long by the clock: this machine may have been busy."""

    def __init__(self) -> None:
        super().__init__(_TOO_LONG, passes=True)


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a look at a file's structure tells; what it does not is empty."""

    content_type: str = ""
    width: int = 0
    height: int = 0


class Extractor:
    """Runs the workers, a few at a time: accounts take turns, and small files, and looks at files,
    for which those who upload them wait, are not behind what may take long."""

    def __init__(
        self,
        processes: int | None = None,
        timeout: float = _TIMEOUT,
        small_timeout: float = _SMALL_TIMEOUT,
    ) -> None:
        """`processes` run at a time, half of the machine's if it is not given, as many for small
        files and as many for looks; `timeout` is in seconds for one file, `small_timeout` for a
        small one before it is read as a large one."""
        self._timeout = timeout
        self._small_timeout = small_timeout
        slots = processes or max(1, (os.cpu_count() or 2) // 2)
        self._extractions = FairSemaphore(slots)
        self._small = FairSemaphore(slots)
        self._inspections = FairSemaphore(slots)
        self._threads = ThreadPoolExecutor(3 * slots, "extraction")

    async def inspect(self, account_id: str, file: IO[bytes], content_type: str) -> FileFacts:
        """What a picture or an archive is. Raises Unreadable, also when it is harmful."""
        async with self._inspections.slot(account_id):
            answer = await self._run("inspect", file, content_type, _INSPECT_TIMEOUT)
        return FileFacts(**json.loads(answer))

    async def text(self, account_id: str, file: IO[bytes], content_type: str) -> ExtractedText:
        """The text of a document. Raises Unreadable."""
        return ExtractedText.load(await self._extract(account_id, "text", file, content_type))

    async def pages(self, account_id: str, file: IO[bytes], content_type: str) -> Pages:
        """How many pages a PDF has; all that can be wrong with it was looked at. Raises
        Unreadable."""
        return Pages.load(await self._extract(account_id, "pages", file, content_type))

    async def pictures(self, account_id: str, file: IO[bytes], content_type: str) -> Pictures:
        """A picture as models take it. Raises Unreadable."""
        return Pictures.load(await self._extract(account_id, "pictures", file, content_type))

    async def _extract(
        self, account_id: str, task: str, file: IO[bytes], content_type: str
    ) -> bytes:
        # A shorter time than that of large files is no reason to give a small one up.
        seconds = min(self._small_timeout, self._timeout)
        if file.seek(0, os.SEEK_END) <= _SMALL:
            async with self._small.slot(account_id):
                with contextlib.suppress(TooSlow):
                    return await self._run(task, file, content_type, seconds)
        async with self._extractions.slot(account_id):
            return await self._run(task, file, content_type, self._timeout)

    async def _run(self, task: str, file: IO[bytes], content_type: str, seconds: float) -> bytes:
        file.seek(0)
        try:
            ended = await children.run(
                (*_WORKER, task, content_type),
                environment={**ENVIRONMENT, "OPENBLAS_NUM_THREADS": "1"},
                stdin=file,
                seconds=seconds,
                max_output=_MAX_RESULT,
                threads=self._threads,
            )
        except TimeoutError:
            raise TooSlow from None
        except children.SaidTooMuch:
            raise Unreadable("there is too much in it") from None
        code = ended.code
        if code == 0:
            return ended.output
        if code == _REFUSED:
            raise Unreadable(ended.errors.decode(errors="replace").rpartition("\n")[2])
        if code == -signal.SIGXCPU:
            raise Unreadable(_TOO_LONG)
        if code == -signal.SIGKILL:  # the system kills what is large when its memory ends
            raise TooSlow
        # A file does that, or a defect of a reader: what it said may hold what is in the file.
        log.warning(
            "extraction ended unexpectedly", task=task, content_type=content_type, code=code
        )
        raise Unreadable("it is damaged")

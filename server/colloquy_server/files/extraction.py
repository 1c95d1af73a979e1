"""Reads files that strangers made, each in a process of its own (`extractors`), which is
ended when it takes too long. What takes long runs at low priority, and is no stream's problem."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass
from typing import IO

from colloquy_server.concurrency import FairSemaphore
from colloquy_server.files.extractors.pictures import LONG_SIDE, MAX_PICTURE
from colloquy_server.files.extractors.results import MAX_TEXT, ExtractedText, Pages

__all__ = ["LONG_SIDE", "MAX_PICTURE", "ExtractedText", "Extractor", "Pages", "Unreadable"]

_WORKER = "colloquy_server.files.extractors"

_TIMEOUT = 30.0
"""Seconds for one file, by the clock; the worker itself ends after some seconds of work."""

_INSPECT_TIMEOUT = 10.0
"""Seconds for a look at a file, which takes the time that Python needs to start."""

_REFUSED = 3
"""The worker's exit code when it says what is wrong."""

_TOO_LONG = "reading it takes too long"

_MAX_RESULT = max(MAX_TEXT * 6 + (1 << 20), MAX_PICTURE) + 1
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
    """Runs the workers, a few at a time: accounts take turns, and looks at files, for which those
    who upload them wait, are not behind what may take long."""

    def __init__(self, processes: int | None = None, timeout: float = _TIMEOUT) -> None:
        """`processes` run at a time, half of the machine's if it is not given, and as many for
        looks; `timeout` is in seconds for one file."""
        self._timeout = timeout
        slots = processes or max(1, (os.cpu_count() or 2) // 2)
        self._extractions = FairSemaphore(slots)
        self._inspections = FairSemaphore(slots)

    async def inspect(self, account_id: str, file: IO[bytes], content_type: str) -> FileFacts:
        """What a picture or an archive is. Raises Unreadable, also when it is harmful."""
        async with self._inspections.slot(account_id):
            answer = await self._run("inspect", file, content_type, _INSPECT_TIMEOUT)
        return FileFacts(**json.loads(answer))

    async def text(self, account_id: str, file: IO[bytes], content_type: str) -> ExtractedText:
        """The text of a document. Raises Unreadable."""
        async with self._extractions.slot(account_id):
            return ExtractedText.load(await self._run("text", file, content_type, self._timeout))

    async def pages(self, account_id: str, file: IO[bytes], content_type: str) -> Pages:
        """How many pages a PDF has, or how many pictures are in a picture; all that can be wrong
        with it was looked at. Raises Unreadable."""
        async with self._extractions.slot(account_id):
            return Pages.load(await self._run("pages", file, content_type, self._timeout))

    async def picture(self, account_id: str, file: IO[bytes], content_type: str) -> bytes:
        """A picture as models take it: JPEG or PNG. Raises Unreadable."""
        async with self._extractions.slot(account_id):
            return await self._run("picture", file, content_type, self._timeout)

    async def _run(self, task: str, file: IO[bytes], content_type: str, seconds: float) -> bytes:
        file.seek(0)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",  # no folder of ours, no variable of ours
            "-m",
            _WORKER,
            task,
            content_type,
            stdin=file,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"LC_ALL": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(seconds):
                assert process.stdout
                assert process.stderr
                result, answer = await asyncio.gather(
                    _read(process.stdout, _MAX_RESULT), _read(process.stderr, 64 << 10)
                )
                code = await process.wait()
        except TimeoutError:
            raise TooSlow from None
        finally:
            if process.returncode is None:
                process.kill()
                await asyncio.shield(process.wait())
        if code == 0:
            return result
        if code == _REFUSED:
            raise Unreadable(answer.decode(errors="replace").rpartition("\n")[2])
        if code == -signal.SIGXCPU:
            raise Unreadable(_TOO_LONG)
        if code == -signal.SIGKILL:  # the system kills what is large when its memory ends
            raise TooSlow
        raise Unreadable("it is damaged")


async def _read(stream: asyncio.StreamReader, limit: int) -> bytes:
    """What a worker says, up to a limit; one that says more is damaged, and ended."""
    data = bytearray()
    while piece := await stream.read(64 << 10):
        data += piece
        if len(data) > limit:
            raise Unreadable("there is too much in it")
    return bytes(data)

"""The local model: a child process that serves it, started when it is first needed."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import hashlib
import secrets
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from colloquy_server.confinement import ENVIRONMENT
from colloquy_server.providers.models import Weights

_CONTEXT_TOKENS = 4096
_SLOTS = 4  # replies at a time; on two cores a fifth one would only slow the others down
_START_SECONDS = 60.0  # 2 s on an idle machine
_END_SECONDS = 5.0
_LOG_LINES = 20
_HEALTH_SECONDS = 0.05  # between two looks
# -I: no folder of ours, no variable of ours
_WORKER = (sys.executable, "-I", str(Path(__file__).with_name("local_model_worker.py")))


class LocalModelError(Exception):
    """The local model cannot be started; the message is for end users, `detail` for the log."""

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


@dataclass(frozen=True, slots=True)
class LocalServer:
    """Where the child listens, and the key that it asks for: other users of this machine reach its
    port too."""

    base_url: str
    key: str = field(repr=False)


class LocalModel:
    """Runs at most one child process, starts it again if it died, and ends it with `close`.

    The child also ends by itself when this process does, however that ends.
    """

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_SLOTS)
        self._start: asyncio.Task[LocalServer] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._log_reader: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The child's process id, None when none runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @contextlib.asynccontextmanager
    async def slot(self, weights: Weights) -> AsyncIterator[LocalServer]:
        """Wait for a free place, and for the child if it must be started; gives where it listens.

        Raises LocalModelError.
        """
        async with self._slots:
            yield await self._server(weights)

    async def close(self) -> None:
        """End the child."""
        self._closed = True
        if self._start is not None:
            self._start.cancel()
            await asyncio.wait([self._start])
        await self._end_child()

    async def _server(self, weights: Weights) -> LocalServer:
        if self._closed:
            raise LocalModelError("The local model is shutting down.")
        task = self._start
        if task is None or (task.done() and (task.cancelled() or self.pid is None)):
            # A task of its own: one caller's cancellation must not take the start from the others.
            task = self._start = asyncio.create_task(self._run_child(weights))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():  # by `close`; nobody cancelled the caller
                raise LocalModelError("The local model is shutting down.") from None
            raise

    async def _run_child(self, weights: Weights) -> LocalServer:
        await self._end_child()
        path = weights.path()
        if path is None:
            raise LocalModelError(
                f"The local model is not installed: {weights.file} was not found.",
                f"package {weights.package}",
            )
        if await asyncio.to_thread(_sha256, path) != weights.sha256:
            raise LocalModelError(
                f"The local model's file {weights.file} is not the one that it should be.",
                f"SHA-256 of {path} differs",
            )
        log: collections.deque[bytes] = collections.deque(maxlen=_LOG_LINES)
        process = self._process = await asyncio.create_subprocess_exec(
            *_WORKER,
            *(str(path), str(_CONTEXT_TOKENS), str(_SLOTS)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=ENVIRONMENT,
            start_new_session=True,  # Ctrl-C in the terminal is the server's to handle
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        key = secrets.token_urlsafe(32)
        process.stdin.write(f"{key}\n".encode())  # arguments and variables are for others to see
        log_reader = self._log_reader = asyncio.create_task(_read_log(process.stderr, log))
        try:
            async with asyncio.timeout(_START_SECONDS):
                address = (await process.stdout.readline()).decode().strip()
                if address:
                    await _until_healthy(address)
        except TimeoutError:
            await self._end_child()
            raise LocalModelError("The local model took too long to start.", _tail(log)) from None
        except OSError:
            address = ""
        except asyncio.CancelledError:
            await self._end_child()
            raise
        if not address:
            await asyncio.wait([log_reader])
            await self._end_child()
            raise LocalModelError("The local model could not be started.", _tail(log))
        return LocalServer(f"{address}/v1", key)

    async def _end_child(self) -> None:
        process, log_reader = self._process, self._log_reader
        self._process = self._log_reader = None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()  # which it takes as its end
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_END_SECONDS):
                    await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            if log_reader is not None:
                log_reader.cancel()


async def _until_healthy(address: str) -> None:
    """Waits until the child has loaded its model. Raises OSError when it no more listens."""
    while not await _is_healthy(address):  # noqa: ASYNC110 - it announces nothing
        await asyncio.sleep(_HEALTH_SECONDS)


async def _is_healthy(address: str) -> bool:
    target = urlsplit(address)
    reader, writer = await asyncio.open_connection(target.hostname, target.port)
    try:
        writer.write(b"GET /health HTTP/1.0\r\n\r\n")
        return b" 200 " in await reader.readline()
    finally:
        writer.close()


async def _read_log(stream: asyncio.StreamReader, log: collections.deque[bytes]) -> None:
    """Keep the pipe empty and the last lines."""
    while True:
        try:
            line = await stream.readline()
        except ValueError:  # a line longer than the reader's buffer; it drops it
            continue
        if not line:
            return
        log.append(line.rstrip())


def _tail(log: collections.deque[bytes]) -> str:
    return b" | ".join(list(log)[-5:]).decode(errors="replace")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""The server as it was released last, as a process, to run beside the present one.

tests/released.txt names its commit; its code is taken from this repository's history. Its
dependencies are those that are installed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from tests.harness import Child, Colloquy, ServerProcess

ROOT = Path(__file__).resolve().parents[1]
COMMIT = Path(__file__).with_suffix(".txt").read_text("utf-8").strip()

_NEEDED = ("server", "clients/python", "migrations")


def unpack(folder: Path) -> None:
    """Puts the code there. Skips the test where the history has no such commit."""
    got = subprocess.run(
        ["git", "archive", COMMIT, *_NEEDED], cwd=ROOT, capture_output=True, check=False
    )
    if got.returncode:
        pytest.skip(f"the last release, {COMMIT[:12]}, is not in this copy of the history")
    with tarfile.open(fileobj=BytesIO(got.stdout)) as archive:
        archive.extractall(folder, filter="data")


class _Child:
    """A process, which may have ended when a signal is sent to it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    def send_signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def wait(self) -> int:
        return await self._process.wait()


class ReleasedServer(ServerProcess):
    """The server whose code `unpack` put into a folder."""

    def __init__(self, colloquy: Colloquy, folder: Path, *, lease_ttl: float) -> None:
        paths = os.pathsep.join(str(folder / name) for name in ("server", "clients/python"))
        super().__init__(colloquy, LEASE_TTL=str(lease_ttl), PYTHONPATH=paths)

    async def launch(self, environment: dict[str, str], output: int) -> Child:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "colloquy_server", "serve", "--migrate"),
            cwd=self._colloquy.folder,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        return _Child(process)

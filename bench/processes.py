"""The processes of a run, each metered: the server, and whatever stands beside it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_MODULES = os.pathsep.join(str(_ROOT / folder) for folder in (".", "server", "clients/python"))
"""What is measured is the code beside this, whatever is installed."""

_START_TIMEOUT = 30.0
_STOP_TIMEOUT = 10.0
"""Seconds for a process to start and to end."""


class ProcessFailed(Exception):
    """A process did not start, or ended too soon; the message is the end of what it said."""


@dataclass(frozen=True)
class Reading:
    """What a process used up to a moment; `time` is monotonic."""

    time: int
    cpu: int
    database: int | None
    """Of `cpu`, what the threads of the database used."""
    children: int | None
    """CPU of the processes that it started and that still run. All four are nanoseconds."""
    memory: int | None
    """Bytes. None, here as above, where the system does not say."""


class Metered:
    """A module that runs in a process of its own."""

    _numbers = count()

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.address = ""
        self.http_address = ""
        """Where a server listens for HTTP."""
        self._process = process
        self._log = log

    @classmethod
    async def start(cls, folder: Path, name: str, *arguments: str, **environment: str) -> Metered:
        """Runs `python -m name` with nothing of this machine's settings; returns when it serves."""
        log = folder / f"{name}-{next(cls._numbers)}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bench.metered", name, *arguments),
                cwd=folder,
                env={
                    **{key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
                    "PYTHONPATH": _MODULES,
                    **environment,
                },
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
            )
        metered = cls(process, log)
        try:
            async with asyncio.timeout(_START_TIMEOUT):
                await metered._wait_until_serving()
        except TimeoutError:
            await metered.stop()
            raise metered.failure("did not start") from None
        return metered

    async def _wait_until_serving(self) -> None:
        while not self.address:
            if self._process.returncode is not None:
                raise self.failure("ended")
            await asyncio.sleep(0.05)
            for line in self._log.read_text().splitlines():
                if '"serving"' in line:
                    said = json.loads(line)
                    self.address = said["address"]
                    self.http_address = said.get("http_address", "")

    async def read(self) -> Reading:
        """What it used so far."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"?\n")
        line = await self._process.stdout.readline()
        if not line:
            raise self.failure("ended")
        return Reading(**json.loads(line))

    def send_signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self._process.send_signal(number)

    def failure(self, what: str) -> ProcessFailed:
        """An error with the end of what the process said."""
        return ProcessFailed(f"{self._log.stem} {what}:\n{self._log.read_text()[-2_000:]}")

    async def stop(self) -> None:
        """Ends it, in good order if it can."""
        assert self._process.stdin is not None
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        self._process.stdin.close()

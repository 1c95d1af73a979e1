"""The processes of a run: the provider, the floor and the server, each metered."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_ROOT = Path(__file__).resolve().parents[1]
_PATIENCE = 30.0  # seconds for a process to start

ADMIN_KEY = "the-platform-key-of-the-bench"

_MODELS = """
providers:
  paced: {{base_url: "{base_url}"}}
models:
  bench:
    {{provider: paced, input_kinds: [], context_window: 128000, max_output_tokens: 16000,
     input_price: 0, output_price: 0}}
default_model: [bench]
title_model: bench
"""


class ProcessFailed(Exception):
    """A process did not start, or ended too soon; the message is the end of what it said."""


@dataclass(frozen=True)
class Reading:
    """What a process used up to a moment; everything in nanoseconds, `time` monotonic."""

    time: int
    cpu: int
    database: int | None
    """Of `cpu`, what the threads of the database used; None where the system does not say."""


class Metered:
    """A module that runs in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.address = ""
        self._process = process
        self._log = log

    @classmethod
    async def start(cls, folder: Path, name: str, *arguments: str, **environment: str) -> Metered:
        """Runs `python -m name` with nothing of this machine's settings; returns when it serves."""
        log = folder / f"{name}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bench.metered", name, *arguments),
                cwd=folder,
                env={
                    **{key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
                    "PYTHONPATH": str(_ROOT),
                    **environment,
                },
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
            )
        metered = cls(process, log)
        try:
            async with asyncio.timeout(_PATIENCE):
                await metered._wait_until_serving()
        except TimeoutError:
            raise metered.failure("did not start") from None
        return metered

    async def _wait_until_serving(self) -> None:
        while not self.address:
            if self._process.returncode is not None:
                raise self.failure("ended")
            await asyncio.sleep(0.05)
            for line in self._log.read_text().splitlines():
                if '"serving"' in line:
                    self.address = json.loads(line)["address"]

    async def read(self) -> Reading:
        """What it used so far."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"?\n")
        line = await self._process.stdout.readline()
        if not line:
            raise self.failure("ended")
        return Reading(**json.loads(line))

    def failure(self, what: str) -> ProcessFailed:
        """An error with the end of what the process said."""
        return ProcessFailed(f"{self._log.stem} {what}:\n{self._log.read_text()[-2_000:]}")

    async def stop(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


class Stage:
    """All processes: `provider`, and `floor` and `server` that ask it."""

    provider: Metered
    floor: Metered
    server: Metered

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            self.provider = await self._start("bench.provider")
            base_url = f"http://{self.provider.address}/v1"
            self.floor = await self._start("bench.floor", base_url)
            models = self._folder / "ai_models.yml"
            models.write_text(_MODELS.format(base_url=base_url))
            self.server = await self._start(
                "colloquy_server",
                AI_MODELS_FILE=str(models),
                DATABASE_URL=f"sqlite:///{self._folder}/conversations.db",
                GRPC_ADDRESS="127.0.0.1:0",
                ADMIN_API_KEY=ADMIN_KEY,
                LOG_FORMAT="json",
            )
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self, name: str, *arguments: str, **environment: str) -> Metered:
        process = await Metered.start(self._folder, name, *arguments, **environment)
        self._stack.push_async_callback(process.stop)
        return process

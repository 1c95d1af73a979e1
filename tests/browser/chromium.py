"""The Chromium that is installed, or the one of Node's packages."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from playwright.async_api import Browser, async_playwright

ROOT = Path(__file__).resolve().parents[2]


def browser_path() -> str:
    """The browser's program, which is unpacked when it is not yet."""
    node = Path(sys.executable).parent / "node"
    said = subprocess.run(
        [node, ROOT / "clients/tools/chromium.ts"], stdout=subprocess.PIPE, check=True
    )
    return said.stdout.decode().strip()


@contextlib.asynccontextmanager
async def launched(path: str) -> AsyncIterator[Browser]:
    """A new browser: it starts in a tenth of a second, and belongs to this event loop."""
    arguments = ["--font-render-hinting=none"]
    if os.name == "posix" and os.geteuid() == 0:
        arguments.append("--no-sandbox")  # which root cannot have
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=path, args=arguments)
        yield running
        await running.close()

"""The browser that all tests of a process share: starting one costs as much as what most of them do
with it. A browser belongs to an event loop, so these tests run on one, and what they use is made on
it too (`pytest_asyncio.fixture`)."""

from __future__ import annotations

import contextlib

import pytest
from playwright.async_api import Browser

from tests.browser.chromium import launched

SHARED_LOOP = pytest.mark.asyncio(loop_scope="session")
"""Marks them."""


class SharedBrowser:
    """Starts the browser when it is first asked for, and again when it died."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._running: Browser | None = None
        self._stack = contextlib.AsyncExitStack()

    async def get(self) -> Browser:
        if self._running is None or not self._running.is_connected():
            await self.close()
            self._running = await self._stack.enter_async_context(launched(self._path))
        return self._running

    async def close(self) -> None:
        await self._stack.aclose()
        self._running = None

"""People with a browser, and all that their pages complain about.

Each visitor has a context of their own: cookies, storage, network. What a page writes to the
console as an error, throws, asks of another host, or does against its content security policy
(which Chromium says on the console too) fails the test, unless the test said that it is meant.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    Page,
    Request,
    expect,
)

PATIENCE = 60_000
"""Milliseconds for what a page has to do or to show: a machine that is busy may be slow, and is
not wrong."""

expect.set_options(timeout=PATIENCE)

_HERE = {"127.0.0.1", "localhost"}


class Visitors:
    """Opens contexts and pages of one browser, and keeps what went wrong in them."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._complaints: list[str] = []
        self._meant: list[re.Pattern[str]] = []

    async def context(self, **options: Any) -> BrowserContext:
        """A new visitor; `options` are those of playwright's new_context."""
        context = await self._browser.new_context(**options)
        context.set_default_timeout(PATIENCE)
        context.on("console", self._note_console)
        context.on("weberror", lambda found: self._note_error(found.error))
        context.on("request", self._note_request)
        return context

    async def page(self, **options: Any) -> Page:
        """The first page of a new visitor."""
        return await (await self.context(**options)).new_page()

    async def leave(self) -> None:
        """Closes everybody's pages, so that none misses a server that ends with its test."""
        await asyncio.gather(*(context.close() for context in self._browser.contexts))

    def expect(self, pattern: str) -> None:
        """Says that complaints in which this regular expression is found are meant."""
        self._meant.append(re.compile(pattern))

    def complaints(self) -> list[str]:
        """What went wrong and was not meant."""
        return [
            said for said in self._complaints if not any(one.search(said) for one in self._meant)
        ]

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._complaints.append(f"console: {message.text} ({message.location['url']})")

    def _note_error(self, error: Error) -> None:
        self._complaints.append(f"thrown: {error.message}")

    def _note_request(self, request: Request) -> None:
        url = urlsplit(request.url)
        if url.scheme not in ("data", "blob", "about") and url.hostname not in _HERE:
            self._complaints.append(f"request of another host: {request.url}")

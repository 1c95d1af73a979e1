"""A real browser, and people with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.browser.chromium import browser_path as path_of_browser
from tests.browser.shared_browser import SharedBrowser
from tests.browser.talking import PROCESS, Site
from tests.browser.visitors import Visitors
from tests.fleets import FLEETS, fleet
from tests.harness import Caller, Colloquy

HERE = Path(__file__).resolve().parent
LIMIT = 720
"""Seconds for a test, more than for others: a browser is five processes, and on a machine that is
busy they wait for each other."""


@pytest.hookimpl(trylast=True)  # they are not among those that begin, as their limits would say
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives the tests with a browser their time."""
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LIMIT))


@pytest.fixture(scope="session")
def browser_path() -> str:
    """The browser's program."""
    return path_of_browser()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_browser(browser_path: str) -> AsyncIterator[SharedBrowser]:
    """The browser of all tests of this process."""
    shared = SharedBrowser(browser_path)
    yield shared
    await shared.close()


@pytest_asyncio.fixture(loop_scope="session")
async def browser(shared_browser: SharedBrowser) -> AsyncIterator[Browser]:
    """A browser in which nobody has been yet."""
    running = await shared_browser.get()
    yield running
    await asyncio.gather(*(context.close() for context in running.contexts))


@pytest_asyncio.fixture(loop_scope="session")
async def visitors(browser: Browser) -> AsyncIterator[Visitors]:
    """People with this browser; what their pages complain about fails the test."""
    people = Visitors(browser)
    yield people
    assert people.complaints() == []


@pytest_asyncio.fixture(params=FLEETS, loop_scope="session")
async def colloquy(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Colloquy]:
    """A fleet with its provider's double."""
    async with fleet(request, tmp_path) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def alice(colloquy: Colloquy) -> Caller:
    """A service's key of an account."""
    return await colloquy.account("alice")


@pytest_asyncio.fixture(loop_scope="session")
async def site(
    request: pytest.FixtureRequest, tmp_path: Path, visitors: Visitors
) -> AsyncIterator[Site]:
    """A server with its page, in this process, or `PROCESS`, in one of its own."""
    replicas = 0 if getattr(request, "param", None) == PROCESS else 1
    async with Colloquy(tmp_path, replicas=replicas) as colloquy, Site(colloquy, visitors) as site:
        yield site

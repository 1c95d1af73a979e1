"""A real browser for each test, and people with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.browser.chromium import browser_path as path_of_browser
from tests.browser.chromium import launched
from tests.browser.talking import Site
from tests.browser.visitors import Visitors
from tests.harness import Colloquy

HERE = Path(__file__).resolve().parent
LIMIT = 720
"""Seconds for a test, more than for others: a browser is five processes, and on a machine that is
busy they wait for each other."""


@pytest.hookimpl(tryfirst=True)  # before they are put in an order, by their limits
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives the tests with a browser their time."""
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LIMIT))


@pytest.fixture(scope="session")
def browser_path() -> str:
    """The browser's program."""
    return path_of_browser()


@pytest.fixture
async def browser(browser_path: str) -> AsyncIterator[Browser]:
    """A new browser."""
    async with launched(browser_path) as running:
        yield running


@pytest.fixture
async def visitors(browser: Browser) -> AsyncIterator[Visitors]:
    """People with this browser; what their pages complain about fails the test."""
    people = Visitors(browser)
    yield people
    assert people.complaints() == []


@pytest.fixture
async def site(tmp_path: Path, visitors: Visitors) -> AsyncIterator[Site]:
    """A server with its page."""
    async with Colloquy(tmp_path) as colloquy, Site(colloquy, visitors) as site:
        yield site

"""Conversations of thousands of messages: opened at their end, read upwards, gone to by a link."""

from __future__ import annotations

import re

import pytest_asyncio
from playwright.async_api import Page, expect

from bench.filling import fill_server
from tests.browser.shared_browser import SHARED_LOOP
from tests.browser.talking import Site, messages, open_conversation, scroll_up, text_input
from tests.harness import Caller

pytestmark = SHARED_LOOP

EXCHANGES = 2_500
SCREENS = 25
"""How often one scrolls up."""
MOST = 4_000
"""Elements that messages are made of, however many there are."""
LISTING = "/ListMessages"


@pytest_asyncio.fixture(loop_scope="session")
async def alice(site: Site) -> Caller:
    """A service's key."""
    return await site.colloquy.account("alice")


@pytest_asyncio.fixture(loop_scope="session")
async def conversation_id(site: Site, alice: Caller) -> str:
    """A conversation of 5,000 messages."""
    [made] = fill_server(site.colloquy.database_url, 1, EXCHANGES)
    return made


async def elements(page: Page) -> int:
    """How many elements the messages are made of."""
    count: int = await page.get_by_role("region", name="Messages").evaluate(
        "box => box.querySelectorAll('*').length"
    )
    return count


async def test_only_the_end_is_loaded_and_more_when_one_scrolls_up(
    site: Site, alice: Caller, conversation_id: str
) -> None:
    page = await open_conversation(await site.visitor(alice), conversation_id)
    await expect(messages(page).last).to_be_in_viewport()
    listings = []
    page.on("request", lambda one: listings.append(one.url) if LISTING in one.url else None)
    seen: set[str] = set()
    most = 0
    while len(seen) < SCREENS:
        message_id, moved = await scroll_up(page)
        seen.add(message_id)
        assert abs(moved) <= 2, "what was read stays where it was"
        most = max(most, await elements(page))
    assert 1 <= len(listings) <= SCREENS
    assert most < MOST
    # What was scrolled past is there again when one goes back.
    await page.get_by_role("button", name="To the end").click()
    await expect(messages(page).last).to_be_in_viewport()


async def test_a_link_leads_to_a_message_that_is_far_away(
    site: Site, alice: Caller, conversation_id: str
) -> None:
    at_server = alice.at(site.colloquy)
    target = (await at_server.history(conversation_id))[-1_500].id
    page = await (await site.visitor(alice)).new_page()
    await page.goto(f"/c/{conversation_id}#{target}")
    message = page.locator(f'[data-message-id="{target}"]')
    await expect(message).to_be_in_viewport()
    await expect(message).to_have_class(re.compile("highlighted"))
    # Those that are far from what is seen are not drawn.
    assert await elements(page) < MOST
    await expect(text_input(page)).to_be_visible()

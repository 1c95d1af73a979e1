"""Whatever happens between a browser and the server: what is said is stored once, and the same text
is in the page, in the API and in the provider's record."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio
from colloquy.api import resources_pb2 as resources
from playwright.async_api import BrowserContext, Page, expect

from tests.browser.shared_browser import SHARED_LOOP
from tests.browser.talking import (
    PROCESS,
    Site,
    messages,
    open_conversation,
    send,
    send_button,
    shown,
    text_input,
)
from tests.browser.visitors import Visitors
from tests.fakes.provider import Answer
from tests.harness import Caller

pytestmark = SHARED_LOOP

# Of one to four bytes, the last one of two UTF-16 units; nothing that Markdown changes.
WORDS = tuple(f"word{number} é€🙂 " for number in range(40))
HALF = 20
WHOLE = "".join(WORDS).strip()

KILLED = pytest.mark.parametrize("site", [PROCESS], indirect=True)
"""A test that ends the server."""

# A browser says on the console what it cannot load.
NO_NETWORK = "Failed to load resource"


@pytest_asyncio.fixture(loop_scope="session")
async def alice(site: Site) -> Caller:
    """A service's key."""
    return await site.colloquy.account("alice")


@pytest_asyncio.fixture(loop_scope="session")
async def context(site: Site, alice: Caller) -> BrowserContext:
    """Her browser, in which she is signed in."""
    return await site.visitor(alice)


def halfway(site: Site) -> asyncio.Event:
    """Has the provider say half of its answer, until the event is set."""
    gate = asyncio.Event()
    site.colloquy.provider.script(Answer(pieces=WORDS, gate_after=HALF, gate=gate))
    return gate


async def until_half(page: Page) -> None:
    """Waits until half of the reply is shown."""
    await expect(messages(page).last).to_contain_text(f"word{HALF - 1}")


async def until_whole(page: Page) -> None:
    """Waits until the reply is shown to its end."""
    await expect(messages(page).last).to_contain_text(f"word{len(WORDS) - 1} é€🙂")


def asked(site: Site) -> list[str]:
    """What the provider was asked, without titles."""
    return [one.last_user_text for one in site.colloquy.provider.requests if not one.is_title]


async def require_same(site: Site, alice: Caller, page: Page, said: list[str]) -> None:
    """Requires that so much was said, each once and with one reply, the same everywhere."""
    at_server = alice.at(site.colloquy)
    conversation_id = page.url.rpartition("/")[2]
    stored = await at_server.history(conversation_id)
    prompts = [one for one in stored if one.role == resources.Message.ROLE_USER]
    replies = [one for one in stored if one.role == resources.Message.ROLE_ASSISTANT]
    assert sorted(one.content for one in prompts) == sorted(said)
    assert sorted(one.reply_to for one in replies) == sorted(one.id for one in prompts)
    assert {one.state for one in replies} == {resources.Message.STATE_COMPLETED}
    in_order = [
        each
        for prompt in prompts
        for each in (prompt, *(r for r in replies if r.reply_to == prompt.id))
    ]
    assert await shown(page) == [(one.id, one.content.strip()) for one in in_order]


async def test_a_double_click_says_it_once(
    site: Site, alice: Caller, context: BrowserContext
) -> None:
    page = await open_conversation(context, (await alice.create()).id)
    await text_input(page).fill("Hello")
    await send_button(page).dblclick()
    await expect(messages(page)).to_have_count(2)
    await expect(messages(page).last).to_have_attribute("data-state", "3")
    await require_same(site, alice, page, ["Hello"])
    assert asked(site) == ["Hello"]


async def test_a_reload_in_mid_reply_loses_nothing(
    site: Site, alice: Caller, context: BrowserContext
) -> None:
    gate = halfway(site)
    page = await open_conversation(context, (await alice.create()).id)
    await send(page, "Tell me")
    await until_half(page)
    await page.reload()
    await until_half(page)
    gate.set()
    await until_whole(page)
    assert (await shown(page))[-1][1] == WHOLE
    await require_same(site, alice, page, ["Tell me"])
    assert asked(site) == ["Tell me"]


async def test_a_reload_before_the_server_answered_says_it_once(
    site: Site, alice: Caller, context: BrowserContext
) -> None:
    page = await open_conversation(context, (await alice.create()).id)
    arrived = asyncio.Event()
    passed = asyncio.Event()

    async def hold(route: object) -> None:
        """Lets the request reach the server, and the answer not reach the page."""
        response = await route.fetch()  # type: ignore[attr-defined]
        assert response.ok
        arrived.set()
        await passed.wait()

    await page.route("**/SendMessage", hold)
    await send(page, "Hello")
    await arrived.wait()
    await page.unroute("**/SendMessage")
    passed.set()
    await page.reload()
    await expect(messages(page)).to_have_count(2)
    await page.wait_for_function(
        "() => !Object.keys(localStorage).some((k) => k.includes('outbox'))"
    )
    await require_same(site, alice, page, ["Hello"])
    assert asked(site) == ["Hello"]


async def test_no_network_in_mid_reply_and_what_is_sent_meanwhile(
    site: Site, alice: Caller, context: BrowserContext, visitors: Visitors
) -> None:
    visitors.expect(NO_NETWORK)
    gate = halfway(site)
    page = await open_conversation(context, (await alice.create()).id)
    await send(page, "Tell me")
    await until_half(page)
    await context.set_offline(True)
    await send(page, "And this")
    await expect(messages(page)).to_have_count(3)
    gate.set()
    await context.set_offline(False)
    await expect(messages(page)).to_have_count(4)
    await expect(messages(page).last).to_have_attribute("data-state", "3")
    await require_same(site, alice, page, ["Tell me", "And this"])
    assert asked(site) == ["Tell me", "And this"]


@KILLED
async def test_a_server_that_is_killed_in_mid_reply_goes_on(
    site: Site, alice: Caller, context: BrowserContext, visitors: Visitors
) -> None:
    visitors.expect(NO_NETWORK)
    halfway(site)
    page = await open_conversation(context, (await alice.create()).id)
    await send(page, "Tell me")
    await until_half(page)
    await site.server.end()
    site.colloquy.provider.script(Answer(pieces=WORDS))
    await site.start()
    await until_whole(page)
    assert (await shown(page))[-1][1] == WHOLE
    await require_same(site, alice, page, ["Tell me"])


@KILLED
async def test_what_is_sent_while_the_server_is_away_is_said_once(
    site: Site, alice: Caller, context: BrowserContext, visitors: Visitors
) -> None:
    visitors.expect(NO_NETWORK)
    page = await open_conversation(context, (await alice.create()).id)
    await site.server.end()
    await send(page, "One")
    await send(page, "Two")
    await expect(messages(page)).to_have_count(2)
    await site.start()
    await expect(messages(page)).to_have_count(4)
    for place in (1, 3):
        await expect(messages(page).nth(place)).to_have_attribute("data-state", "3")
    await require_same(site, alice, page, ["One", "Two"])
    assert asked(site) == ["One", "Two"]


async def test_two_tabs_that_send_at_once_say_two_things(
    site: Site, alice: Caller, context: BrowserContext
) -> None:
    conversation_id = (await alice.create()).id
    pages = [await open_conversation(context, conversation_id) for _ in range(2)]
    for number, page in enumerate(pages):
        await text_input(page).fill(f"From tab {number}")
    await asyncio.gather(*(text_input(page).press("Enter") for page in pages))
    for page in pages:
        await expect(messages(page)).to_have_count(4)
        for place in (1, 3):
            await expect(messages(page).nth(place)).to_have_attribute("data-state", "3")
        await require_same(site, alice, page, ["From tab 0", "From tab 1"])
    assert sorted(asked(site)) == ["From tab 0", "From tab 1"]


async def test_two_tabs_that_send_the_same_words_say_them_twice(
    site: Site, alice: Caller, context: BrowserContext
) -> None:
    conversation_id = (await alice.create()).id
    pages = [await open_conversation(context, conversation_id) for _ in range(2)]
    for page in pages:
        await text_input(page).fill("Yes")
    await asyncio.gather(*(text_input(page).press("Enter") for page in pages))
    for page in pages:
        await expect(messages(page)).to_have_count(4)
        for place in (1, 3):
            await expect(messages(page).nth(place)).to_have_attribute("data-state", "3")
        await require_same(site, alice, page, ["Yes", "Yes"])


async def test_ten_tabs_share_their_connections(
    site: Site, alice: Caller, context: BrowserContext
) -> None:
    conversation_id = (await alice.create()).id
    pages = [await open_conversation(context, conversation_id) for _ in range(10)]
    gate = halfway(site)
    await send(pages[0], "Tell me")
    for page in pages:
        await until_half(page)
    await pages[9].close()
    gate.set()
    for page in pages[:9]:
        await until_whole(page)
    await require_same(site, alice, pages[8], ["Tell me"])


async def test_ten_tabs_with_ten_conversations_all_hear(
    site: Site, alice: Caller, context: BrowserContext
) -> None:
    ids = [(await alice.create()).id for _ in range(10)]
    pages = [await open_conversation(context, each) for each in ids]
    for page in pages:
        await send(page, "Hello")
    for page in pages:
        await expect(messages(page)).to_have_count(2)
        await expect(messages(page).last).to_have_attribute("data-state", "3", timeout=60_000)
        await require_same(site, alice, page, ["Hello"])

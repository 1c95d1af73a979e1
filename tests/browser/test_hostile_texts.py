"""Hostile text, whoever wrote it: nothing of it runs, and nothing is fetched from elsewhere.

A page that throws, breaks its policy or asks another host fails each test by itself (see visitors).
"""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio
from colloquy.api import resources_pb2 as resources
from playwright.async_api import expect

from tests.browser.harmless import ALLOWED, require_harmless
from tests.browser.shared_browser import SHARED_LOOP
from tests.browser.talking import Site, messages, open_conversation, scroll_up
from tests.fakes.provider import Answer
from tests.harness import Caller

pytestmark = SHARED_LOOP


@pytest_asyncio.fixture(loop_scope="session")
async def alice(site: Site) -> Caller:
    """A service's key."""
    return await site.colloquy.account("alice")


async def test_hostile_replies_and_prompts_are_text(site: Site, alice: Caller) -> None:
    at_server = alice.at(site.colloquy)
    conversation_id = (await at_server.create(title=ALLOWED[0])).id
    for text in ALLOWED:
        site.colloquy.provider.script(Answer(pieces=[text]))
        await at_server.send(conversation_id, text).rest()
    page = await open_conversation(await site.visitor(alice), conversation_id)
    await expect(messages(page).last).to_be_visible()
    # Each is drawn when it is near.
    [first, *_] = await at_server.history(conversation_id)
    while await messages(page).first.get_attribute("data-message-id") != first.id:
        await require_harmless(page)
        await scroll_up(page)
    await require_harmless(page)


async def test_hostile_text_is_text_while_it_is_written(site: Site, alice: Caller) -> None:
    gate = asyncio.Event()
    pieces = [piece for text in ALLOWED for piece in (text[:7], text[7:], "\n\n")]
    site.colloquy.provider.script(Answer(pieces=pieces, gate_after=len(pieces) // 2, gate=gate))
    at_server = alice.at(site.colloquy)
    conversation_id = (await at_server.create()).id
    page = await open_conversation(await site.visitor(alice), conversation_id)
    stream = at_server.send(conversation_id, "All at once")
    await expect(messages(page).last).to_have_attribute("aria-busy", "true")
    await expect(messages(page).last.locator("[data-part=text]")).to_contain_text("window.__pwned")
    await require_harmless(page)
    gate.set()
    await stream.rest()
    await expect(messages(page).last).to_have_attribute("data-state", "3")
    await require_harmless(page)


NAMES = [
    "<script>window.__pwned=1</script>",
    '"><img src=x onerror=window.__pwned=1>',
    "\u202egnp.exe<svg onload=window.__pwned=1>",
    "{{constructor.constructor('window.__pwned=1')()}}",
    "javascript:window.__pwned=1",
]


@pytest.mark.parametrize("name", NAMES)
async def test_hostile_names_and_titles_are_text(site: Site, alice: Caller, name: str) -> None:
    at_server = alice.at(site.colloquy)
    conversation_id = (await at_server.create(title=name)).id
    author = resources.User(external_id=name, display_name=name)
    await at_server.send(conversation_id, "Hello", author=author).rest()
    page = await open_conversation(await site.visitor(alice), conversation_id)
    await expect(messages(page).first.get_by_role("heading")).to_have_text(
        name.replace("\u202e", "")
    )
    await require_harmless(page)

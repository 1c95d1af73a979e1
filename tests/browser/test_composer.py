"""The input: what is written is kept, sent as the keys say, and never lost to a refusal."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from playwright.async_api import BrowserContext, FilePayload, Page, expect

from tests.browser.shared_browser import SHARED_LOOP
from tests.browser.talking import (
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
from tests.harness import Caller, Colloquy

pytestmark = SHARED_LOOP

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c636060f80f0001040100f2d5a3330000000049454e44ae426082"
)


@pytest_asyncio.fixture(loop_scope="session")
async def site(tmp_path: Path, visitors: Visitors) -> AsyncIterator[Site]:
    """A server with its page, which takes files of 1,000 bytes."""
    async with (
        Colloquy(tmp_path, max_attachment_bytes=1_000) as colloquy,
        Site(colloquy, visitors) as site,
    ):
        yield site


@pytest_asyncio.fixture(loop_scope="session")
async def alice(site: Site) -> Caller:
    """A service's key."""
    return await site.colloquy.account("alice")


@pytest_asyncio.fixture(loop_scope="session")
async def context(site: Site, alice: Caller) -> BrowserContext:
    """Her browser, in which she is signed in."""
    return await site.visitor(alice)


async def pick(page: Page, *files: FilePayload) -> None:
    """Picks files with the browser's dialog."""
    await page.locator("input[type=file]").set_input_files(list(files))


def text_file(name: str, content: bytes = b"some text") -> FilePayload:
    return {"name": name, "mimeType": "text/plain", "buffer": content}


async def test_enter_sends_and_shift_enter_is_a_new_line(
    alice: Caller, context: BrowserContext
) -> None:
    page = await open_conversation(context, (await alice.create()).id)
    await expect(send_button(page)).to_be_disabled()
    await text_input(page).press_sequentially("One")
    before = await text_input(page).bounding_box()
    await text_input(page).press("Shift+Enter")
    await text_input(page).press_sequentially("Two")
    await expect(text_input(page)).to_have_value("One\nTwo")
    after = await text_input(page).bounding_box()
    assert before is not None
    assert after is not None
    assert after["height"] > before["height"]
    await text_input(page).press("Enter")
    await expect(text_input(page)).to_have_value("")
    await expect(messages(page)).to_have_count(2)
    assert (await shown(page))[0][1] == "One\nTwo"


async def test_enter_that_takes_a_suggestion_sends_nothing(
    alice: Caller, context: BrowserContext
) -> None:
    page = await open_conversation(context, (await alice.create()).id)
    await text_input(page).fill("にほん")
    await text_input(page).dispatch_event(
        "keydown", {"key": "Enter", "isComposing": True, "bubbles": True, "cancelable": True}
    )
    await expect(text_input(page)).to_have_value("にほん")
    await expect(messages(page)).to_have_count(0)


async def test_on_a_phone_enter_is_a_new_line(site: Site, alice: Caller) -> None:
    context = await site.visitor(
        alice, has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844}
    )
    page = await open_conversation(context, (await alice.create()).id)
    await text_input(page).press_sequentially("One")
    await text_input(page).press("Enter")
    await text_input(page).press_sequentially("Two")
    await expect(text_input(page)).to_have_value("One\nTwo")
    await send_button(page).tap()
    await expect(messages(page)).to_have_count(2)


async def test_drafts_are_kept_by_conversation_and_forgotten_at_sign_out(
    alice: Caller, context: BrowserContext
) -> None:
    one, two = [(await alice.create()).id for _ in range(2)]
    page = await open_conversation(context, one)
    await text_input(page).fill("Half a thought")
    await pick(page, text_file("notes.txt"))
    await expect(page.get_by_role("listitem").filter(has_text="notes.txt")).to_have_attribute(
        "data-state", "done"
    )
    await page.reload()
    await expect(text_input(page)).to_have_value("Half a thought")
    await expect(page.get_by_text("notes.txt")).to_be_visible()
    await page.goto(f"/c/{two}")
    await expect(text_input(page)).to_have_value("")
    await page.goto(f"/c/{one}")
    await expect(text_input(page)).to_have_value("Half a thought")
    await page.get_by_role("button", name="Your account").click()
    await page.get_by_role("menuitem", name="Sign out").click()
    await expect(text_input(page)).to_have_count(0)
    assert (
        await page.evaluate("Object.keys(localStorage).filter((k) => /draft|outbox/.test(k))") == []
    )


async def test_a_session_that_is_ended_elsewhere_keeps_what_was_written(
    site: Site, alice: Caller, context: BrowserContext, visitors: Visitors
) -> None:
    visitors.expect("401")
    conversation = await alice.create()
    page = await open_conversation(context, conversation.id)
    await text_input(page).fill("Half a thought")
    await context.request.delete("/session", headers={"origin": site.url})
    await expect(text_input(page)).to_have_count(0)  # the streams say so
    await site.sign_in(context, alice)
    await page.goto(f"/c/{conversation.id}")
    await expect(text_input(page)).to_have_value("Half a thought")


async def test_files_go_with_the_message(
    site: Site, alice: Caller, context: BrowserContext
) -> None:
    conversation = await alice.create()
    page = await open_conversation(context, conversation.id)
    picture: FilePayload = {"name": "dot.png", "mimeType": "image/png", "buffer": PNG}
    await pick(page, picture, text_file("notes.txt"))
    await expect(page.locator("li[data-state] img")).to_have_attribute("src", re.compile("^blob:"))
    await text_input(page).fill("Look at these")
    await text_input(page).press("Enter")
    await expect(messages(page)).to_have_count(2)
    history = await alice.at(site.colloquy).history(conversation.id)
    assert [each.filename for each in history[0].attachments] == ["dot.png", "notes.txt"]
    await expect(page.locator("li[data-state]")).to_have_count(0)


async def test_one_button_adds_files(site: Site, alice: Caller, context: BrowserContext) -> None:
    page = await open_conversation(context, (await alice.create()).id)
    # What opens the system's dialog is itself a button to browsers, and would be said twice.
    await expect(page.locator("input[type=file]")).to_have_count(1)
    buttons = page.get_by_role("form").filter(has=text_input(page)).get_by_role("button")
    labels = await buttons.evaluate_all("(all) => all.map((one) => one.ariaLabel)")
    assert labels == ["Add files", "Send"]


async def test_what_the_server_would_not_take_is_refused_in_words(
    site: Site, alice: Caller, context: BrowserContext, visitors: Visitors
) -> None:
    uploads: list[str] = []
    page = await open_conversation(context, (await alice.create()).id)
    page.on("request", lambda one: uploads.append(one.url) if "/files?" in one.url else None)
    await pick(page, text_file("empty.txt", b""), text_file("large.txt", b"x" * 1001))
    await expect(page.get_by_text("This file is empty.")).to_be_visible()
    await expect(page.get_by_text("This file is too large: the most is 1 kB.")).to_be_visible()
    assert uploads == []
    await text_input(page).fill("Look")
    await send_button(page).click()
    await expect(page.get_by_role("alert")).to_contain_text("Remove them")
    await page.get_by_role("button", name="Remove empty.txt").click()
    await page.get_by_role("button", name="Remove large.txt").click()
    await pick(page, *(text_file(f"{number}.txt") for number in range(12)))
    await expect(page.get_by_role("alert")).to_contain_text("at most 10 files")
    await expect(page.locator("li[data-state=done]")).to_have_count(10)


async def test_while_a_reply_is_written_messages_wait_or_take_its_place(
    site: Site, alice: Caller, context: BrowserContext
) -> None:
    provider = site.colloquy.provider
    gate = asyncio.Event()
    provider.script(Answer(pieces=("never ", "ends"), gate_after=1, gate=gate))
    page = await open_conversation(context, (await alice.create()).id)
    await send(page, "One")
    await expect(messages(page).nth(1)).to_contain_text("never")  # so this is the answer to One
    await expect(page.get_by_role("button", name="Stop the reply")).to_be_visible()
    await text_input(page).fill("Two")
    await expect(page.get_by_text("Sent after the reply that is being written")).to_be_visible()
    await text_input(page).press("Enter")
    await expect(messages(page)).to_have_count(4)
    await expect(messages(page).nth(3)).to_have_attribute("data-state", "1")
    await text_input(page).fill("Three")
    await page.get_by_role("button", name="More ways to send").click()
    await page.get_by_role("menuitem", name="Send now").click()
    await expect(messages(page)).to_have_count(6)
    await expect(messages(page).nth(1)).to_have_attribute("data-state", "5")
    await expect(messages(page).nth(5)).to_have_attribute("data-state", "3")
    gate.set()


async def test_a_refusal_puts_the_text_back(
    site: Site, alice: Caller, context: BrowserContext, visitors: Visitors
) -> None:
    visitors.expect("Failed to load resource|404")
    conversation = await alice.create(model="small-model")
    page = await open_conversation(context, conversation.id)
    text = "far too long for this model " * 400
    await send(page, text)
    await expect(page.get_by_role("alert")).to_contain_text("This was not sent.")
    await expect(text_input(page)).to_have_value(text)
    await expect(messages(page)).to_have_count(0)
    await text_input(page).fill("Short")
    await expect(page.get_by_role("alert")).to_have_count(0)
    await text_input(page).press("Enter")
    await expect(messages(page)).to_have_count(2)

"""The whole page by the keyboard alone: signing in, talking, putting in order, signing out."""

from __future__ import annotations

import asyncio
from pathlib import Path

from colloquy.api import resources_pb2 as resources
from playwright.async_api import Locator, Page, expect

from tests.browser.indexing import index_of, people
from tests.browser.shared_browser import SHARED_LOOP
from tests.browser.talking import messages, text_input
from tests.browser.visitors import Visitors
from tests.fakes.provider import Answer
from tests.fleets import ANY
from tests.harness import Colloquy

pytestmark = [ANY, SHARED_LOOP]

# Stops of the Tab key from one end of the page to the other, and some more.
FAR = 60


async def tab_to(page: Page, aim: Locator, key: str = "Tab") -> None:
    """Presses Tab until something has the focus."""
    await expect(aim).to_be_visible()
    for _ in range(FAR):
        if await aim.evaluate("(one) => one === document.activeElement"):
            return
        await page.keyboard.press(key)
    raise AssertionError(f"{aim} cannot be reached by {key}")


async def choose(page: Page, label: str) -> None:
    """Goes down in the menu that is open, and takes what is called so."""
    item = page.get_by_role("menuitem", name=label)
    await expect(page.get_by_role("menu")).to_be_visible()
    for _ in range(FAR):
        if await item.evaluate("(one) => one === document.activeElement"):
            break
        await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")


async def test_signing_in_and_talking_without_a_mouse(
    colloquy: Colloquy, visitors: Visitors
) -> None:
    visitors.expect("Failed to load resource")  # what one is told before one signs in
    [ann] = await people(colloquy, "Ann")
    gate = asyncio.Event()
    colloquy.provider.script(
        Answer(pieces=["Not ", "so fast"], gate_after=1, gate=gate),
        Answer(pieces=["Zebras sleep while they stand."]),
    )
    page = await visitors.page(base_url=colloquy.app.web_url)
    keys = page.keyboard

    await page.goto("/")
    await tab_to(page, page.get_by_label("API key"))
    await keys.type(ann.key)
    await keys.press("Enter")

    # A conversation: Enter in its dialog is enough, and the input is where one goes on.
    await tab_to(page, page.get_by_role("button", name="New conversation").first)
    await keys.press("Enter")
    await expect(page.get_by_role("textbox", name="Title")).to_be_focused()
    await expect(page.get_by_label("Model", exact=True)).to_have_value("test-model")
    await keys.press("Enter")
    await expect(text_input(page)).to_be_focused()
    conversation_id = page.url.rpartition("/")[2]

    await keys.type("Where do zebras sleep?")
    await keys.press("Enter")
    reply = messages(page).last
    await expect(reply.locator("[data-part=text]")).to_have_text("Not")
    await tab_to(page, page.get_by_role("button", name="Stop the reply"))
    await keys.press("Enter")
    await expect(reply).to_contain_text("Stopped")
    await expect(text_input(page)).to_be_focused()  # and not nothing, with the button gone
    gate.set()

    await tab_to(page, reply.get_by_role("button", name="Answer again"), "Shift+Tab")
    await keys.press("Enter")
    await choose(page, "Again with test-model")
    await expect(reply).to_contain_text("2 / 2")
    await expect(reply).to_have_attribute("data-state", "3")
    # The row of buttons went while the reply was written: its message kept the place.
    await expect(reply).to_be_focused()
    await tab_to(page, reply.get_by_role("button", name="Older version"))
    await keys.press("Enter")
    await expect(reply).to_contain_text("Not")
    await tab_to(page, reply.get_by_role("button", name="Newer version"))
    await keys.press("Enter")

    good = reply.get_by_role("button", name="Good reply")
    await tab_to(page, good)
    await keys.press("Enter")
    await expect(page.get_by_label("Comment")).to_be_focused()
    await keys.type("Short")
    await tab_to(page, page.get_by_role("button", name="Save"))
    await keys.press("Enter")
    await expect(good).to_be_focused()
    await expect(good).to_have_attribute("aria-pressed", "true")
    await tab_to(page, reply.get_by_role("button", name="More", exact=True))
    await keys.press("Enter")
    await choose(page, "Details")
    await expect(page.get_by_role("dialog", name="About this reply")).to_be_visible()
    await keys.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)

    history = await ann.history(conversation_id)
    assert history[-1].rating == resources.RATING_GOOD
    assert history[-1].rating_comment == "Short"


async def test_files_people_and_the_index_without_a_mouse(
    colloquy: Colloquy, visitors: Visitors, tmp_path: Path
) -> None:
    ann, _bo = await people(colloquy, "Ann", "Bo")
    colloquy.provider.script(Answer(pieces=["Zebras sleep while they stand."]))
    conversation = await ann.create(title="Zebras")
    page = await index_of(visitors, colloquy, ann, f"/c/{conversation.id}")
    keys = page.keyboard
    await expect(text_input(page)).to_be_focused()

    # A file, by the button and the system's own dialog.
    attached = tmp_path / "notes.txt"
    attached.write_text("some text")
    async with page.expect_file_chooser() as chooser:
        # The browser is told by now to leave the dialog to the test: Enter at once may be faster.
        await tab_to(page, page.get_by_role("button", name="Add files"))
        await keys.press("Enter")
    await (await chooser.value).set_files(attached)
    await expect(text_input(page)).to_be_focused()
    await expect(page.locator("li[data-state=done]")).to_have_count(1)
    await keys.type("Where do zebras sleep?")
    await keys.press("Enter")
    reply = messages(page).last
    await expect(reply).to_have_attribute("data-state", "3")
    await expect(reply).to_contain_text("they stand")
    [asked, _] = await ann.history(conversation.id)
    assert [each.filename for each in asked.attachments] == ["notes.txt"]

    # Its title, and who takes part.
    await tab_to(page, page.get_by_role("heading", level=1).get_by_role("button"), "Shift+Tab")
    await keys.press("Enter")
    await keys.press("Control+a")
    await keys.type("Sleep")
    await keys.press("Enter")
    await expect(page).to_have_title("Sleep · Colloquy")
    await tab_to(page, page.get_by_role("button", name="More about this conversation"))
    await keys.press("Enter")
    await choose(page, "Participants")
    await tab_to(page, page.get_by_role("combobox"))
    await keys.type("bo")
    await expect(page.get_by_role("option", name="Bo")).to_be_visible()
    await keys.press("Enter")
    await expect(page.get_by_role("dialog")).to_contain_text("2 participants")
    await keys.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)

    # What is found leads to the message.
    await keys.press("Control+k")
    await keys.type("stand")
    await expect(page.locator("[data-hit]")).to_have_count(1)
    await keys.press("ArrowDown")
    await keys.press("Enter")
    await expect(reply).to_be_focused()
    await keys.press("Escape")
    await expect(text_input(page)).to_be_focused()

    # What is archived leaves the keyboard where it was. One comes to the list at what is open.
    await ann.create(title="Another")
    await keys.press("Control+k")
    await keys.press("Control+a")
    await keys.press("Delete")
    await expect(page.get_by_role("link", name="Another")).to_be_visible()
    await keys.press("ArrowDown")
    await expect(page.get_by_role("link", name="Sleep")).to_be_focused()
    await keys.press("ArrowUp")
    await expect(page.get_by_role("link", name="Another")).to_be_focused()
    await keys.press("Tab")
    await keys.press("Enter")
    await choose(page, "Archive")
    await expect(page.get_by_role("link", name="Sleep")).to_be_focused()
    await expect(page.get_by_role("link", name="Another")).to_have_count(0)


async def test_settings_and_signing_out_without_a_mouse(
    colloquy: Colloquy, visitors: Visitors
) -> None:
    visitors.expect("Failed to load resource")  # what one is told once one is signed out
    [ann] = await people(colloquy, "Ann")
    page = await index_of(visitors, colloquy, ann)
    keys = page.keyboard
    await tab_to(page, page.get_by_role("button", name="Your account"))
    await keys.press("Enter")
    await choose(page, "Settings")
    await tab_to(page, page.get_by_role("radio", name="Same as the system"))
    await keys.press("ArrowRight")
    await expect(page.get_by_role("radio", name="Light")).to_be_checked()
    await tab_to(page, page.get_by_role("button", name="Sign out", exact=True))
    await keys.press("Enter")
    await expect(page.get_by_label("API key")).to_be_visible()

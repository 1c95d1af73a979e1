"""The dialogs of a conversation: who sees it, how it is answered, and all of it as a file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from colloquy.api import resources_pb2 as resources
from playwright.async_api import Locator, Page, expect

from tests.browser.indexing import index_of, people, row
from tests.browser.shared_browser import SHARED_LOOP
from tests.browser.talking import text_input
from tests.browser.test_accessible import THEMES, found_by_axe
from tests.browser.visitors import Visitors
from tests.fleets import ANY
from tests.harness import Caller, Colloquy

pytestmark = [ANY, SHARED_LOOP]

PARTICIPANTS = resources.Conversation.VISIBILITY_PARTICIPANTS


async def opened(
    visitors: Visitors,
    colloquy: Colloquy,
    caller: Caller,
    made: resources.Conversation,
    **options: object,
) -> Page:
    page = await index_of(visitors, colloquy, caller, f"/c/{made.id}", **options)
    await expect(text_input(page)).to_be_visible()
    return page


async def of_participants(page: Page) -> Locator:
    await page.get_by_role("button", name=re.compile("participant")).click()
    return page.get_by_role("dialog", name="Participants")


async def of_menu(page: Page, item: str, name: str) -> Locator:
    await page.get_by_role("button", name="More about this conversation").click()
    await page.get_by_role("menuitem", name=item).click()
    return page.get_by_role("dialog", name=name)


async def test_people_are_invited_and_taken_out(colloquy: Colloquy, visitors: Visitors) -> None:
    ann, bo = await people(colloquy, "Ann", "Bo")
    made = await ann.create(title="A secret", visibility=PARTICIPANTS)
    hers = await opened(visitors, colloquy, ann, made)
    his = await index_of(visitors, colloquy, bo)
    await expect(row(his, "A secret")).to_have_count(0)

    dialog = await of_participants(hers)
    await expect(dialog.get_by_label("Only participants")).to_be_checked()
    name = dialog.get_by_role("combobox", name="Invite somebody")
    await name.fill("nobody at all")
    await expect(dialog.get_by_text("Nobody here is called “nobody at all”.")).to_be_visible()
    await name.fill("b")
    await expect(dialog.get_by_role("option", name="Bo")).to_be_visible()
    await name.press("Enter")
    await expect(dialog.get_by_role("button", name="Remove Bo")).to_be_visible()
    await expect(row(his, "A secret")).to_be_visible()

    await dialog.get_by_role("button", name="Remove Bo").click()
    await expect(dialog.get_by_role("button", name="Remove Bo")).to_have_count(0)
    await expect(row(his, "A secret")).to_have_count(0)

    await dialog.get_by_label("Everybody at Acme").check()
    await expect(row(his, "A secret")).to_be_visible()


async def test_who_may_not_change_it_is_told_so(colloquy: Colloquy, visitors: Visitors) -> None:
    ann, bo = await people(colloquy, "Ann", "Bo")
    made = await ann.create(title="Hers")
    await bo.send(made.id, "Hello").reply()
    page = await opened(visitors, colloquy, bo, made)
    dialog = await of_participants(page)
    await expect(dialog.get_by_label("Only participants")).to_be_disabled()
    await expect(dialog.get_by_text("Only who made it or an admin")).to_be_visible()
    await expect(dialog.get_by_role("button", name=re.compile("^Remove"))).to_have_count(0)


async def test_who_leaves_a_secret_sees_it_no_more(colloquy: Colloquy, visitors: Visitors) -> None:
    ann, bo = await people(colloquy, "Ann", "Bo")
    made = await ann.create(title="A secret")
    await bo.send(made.id, "Hello").reply()
    hers = await opened(visitors, colloquy, ann, made)
    await (await of_participants(hers)).get_by_label("Only participants").check()
    his = await opened(visitors, colloquy, bo, made)
    await (await of_participants(his)).get_by_role("button", name="Leave").click()
    await expect(row(his, "A secret")).to_have_count(0)
    await expect(his).to_have_url(f"{colloquy.app.web_url}/")


async def test_how_it_is_answered_is_changed(colloquy: Colloquy, visitors: Visitors) -> None:
    [ann] = await people(colloquy, "Ann")
    made = await ann.create(title="Before", system_prompt="Be long.")
    page = await opened(visitors, colloquy, ann, made)
    dialog = await of_menu(page, "settings", "Conversation settings")
    await dialog.get_by_role("textbox", name="Title").fill("After")
    await dialog.get_by_label("Model", exact=True).select_option("small-model")
    prompt = dialog.get_by_role("textbox", name="Instructions")
    await expect(prompt).to_have_value("Be long.")
    await prompt.fill("Be brief.")
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog).to_have_count(0)
    await expect(row(page, "After")).to_be_visible()
    now = await ann.conversation(made.id)
    assert (now.title, now.model, now.system_prompt) == ("After", "small-model", "Be brief.")


@pytest.mark.parametrize("form", ["Markdown", "JSON"])
async def test_export(colloquy: Colloquy, visitors: Visitors, tmp_path: Path, form: str) -> None:
    [ann] = await people(colloquy, "Ann")
    made = await ann.create(title='Zebras: "all"')
    reply = await ann.send(made.id, "Where do zebras sleep?").reply()
    page = await opened(visitors, colloquy, ann, made)
    dialog = await of_menu(page, "Export", "Export")
    async with page.expect_download() as coming:
        await dialog.get_by_role("button", name=form).click()
    download = await coming.value
    await download.save_as(tmp_path / "export")
    text = (tmp_path / "export").read_text()
    assert "Where do zebras sleep?" in text
    assert reply.content in text
    if form == "JSON":
        json.loads(text)
    assert download.suggested_filename == f"Zebras all.{'md' if form == 'Markdown' else 'json'}"


@THEMES
async def test_axe_finds_nothing_in_dialogs_of_a_conversation(
    colloquy: Colloquy, visitors: Visitors, theme: str
) -> None:
    ann, bo = await people(colloquy, "Ann", "Bo")
    made = await ann.create(title="Numbers")
    await bo.send(made.id, "Hello").reply()
    page = await opened(visitors, colloquy, ann, made, color_scheme=theme, bypass_csp=True)
    dialog = await of_participants(page)
    await dialog.get_by_role("combobox", name="Invite somebody").fill("a")
    await expect(dialog.get_by_role("option", name="Ann")).to_be_visible()
    assert await found_by_axe(page) == []
    for item, name in (("settings", "Conversation settings"), ("Export", "Export")):
        await dialog.get_by_role("button", name="Close").click()
        await expect(dialog).to_have_count(0)
        dialog = await of_menu(page, item, name)
        await expect(dialog).to_be_visible()
        assert await found_by_axe(page) == []


@pytest.mark.parametrize("width", [390, 1440])
async def test_a_page_that_is_offline_says_so(
    colloquy: Colloquy, visitors: Visitors, width: int
) -> None:
    [ann] = await people(colloquy, "Ann")
    page = await index_of(visitors, colloquy, ann, viewport={"width": width, "height": 844})
    visitors.expect("Failed to load resource|ERR_INTERNET_DISCONNECTED")
    notice = page.get_by_role("main").get_by_text("You are offline.")
    await page.context.set_offline(True)
    await expect(notice).to_be_visible()
    await page.context.set_offline(False)
    await expect(notice).to_have_count(0)

"""The page for everybody: what axe finds, and the whole index without a mouse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.indexing import index_of, people, row, section
from tests.browser.shared_browser import SHARED_LOOP
from tests.browser.visitors import Visitors
from tests.fleets import ANY
from tests.harness import Colloquy

pytestmark = [ANY, SHARED_LOOP]

AXE = Path(__file__).resolve().parents[2] / "clients/node_modules/axe-core/axe.min.js"

THEMES = pytest.mark.parametrize("theme", ["light", "dark"])


async def found_by_axe(page: Page) -> list[str]:
    """What axe has against the page as it stands."""
    await page.add_script_tag(path=AXE)
    found: dict[str, Any] = await page.evaluate("axe.run({resultTypes: ['violations']})")
    return [
        f"{rule['id']}: {node['html']} {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


async def furnished(colloquy: Colloquy, visitors: Visitors, theme: str, path: str = "/") -> Page:
    """A page whose policy lets axe in, with all that rows can show."""
    ann, bo = await people(colloquy, "Ann Baker", "Bo")
    for title in ("Pinned", "Recent", "Secret"):
        await ann.create(title=title, visibility=2 if title == "Secret" else 1)
    unread = await bo.create(title="Unread")
    await bo.send(unread.id, "Where do zebras sleep?").reply()
    page = await index_of(visitors, colloquy, ann, path, color_scheme=theme, bypass_csp=True)
    if path == "/":
        await row(page, "Pinned").hover()
        await row(page, "Pinned").get_by_role("button", name="Actions for").click()
        await page.get_by_role("menuitem", name="Pin").click()
        await expect(section(page, "Pinned")).to_have_count(1)
        await expect(row(page, "Unread").get_by_text("2 unread")).to_be_attached()
    return page


@THEMES
async def test_axe_finds_nothing_in_the_index(
    colloquy: Colloquy, visitors: Visitors, theme: str
) -> None:
    page = await furnished(colloquy, visitors, theme)
    assert await found_by_axe(page) == []

    await row(page, "Unread").hover()
    await row(page, "Unread").get_by_role("button", name="Actions for").click()
    await expect(page.get_by_role("menu")).to_be_visible()
    assert await found_by_axe(page) == []
    await page.keyboard.press("Escape")

    await page.get_by_role("searchbox").fill("zebras")
    await expect(page.locator("mark").first).to_be_visible()
    assert await found_by_axe(page) == []

    await page.get_by_role("searchbox").fill("")
    await page.get_by_role("button", name="Archived conversations").click()
    await expect(page.get_by_role("heading", name="Nothing is archived")).to_be_visible()
    assert await found_by_axe(page) == []


@THEMES
async def test_axe_finds_nothing_on_a_phone(
    colloquy: Colloquy, visitors: Visitors, theme: str
) -> None:
    [ann] = await people(colloquy, "Ann")
    await ann.create(title="Recent")
    page = await index_of(
        visitors,
        colloquy,
        ann,
        color_scheme=theme,
        bypass_csp=True,
        viewport={"width": 390, "height": 844},
        is_mobile=True,
        has_touch=True,
    )
    await expect(row(page, "Recent")).to_be_visible()
    assert await found_by_axe(page) == []
    await row(page, "Recent").get_by_role("button", name="Actions for").click()
    await expect(page.get_by_role("menu")).to_be_visible()
    assert await found_by_axe(page) == []


@THEMES
async def test_axe_finds_nothing_in_dialogs(
    colloquy: Colloquy, visitors: Visitors, theme: str
) -> None:
    page = await furnished(colloquy, visitors, theme)
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    assert await found_by_axe(page) == []
    await page.keyboard.press("Escape")

    await page.keyboard.press("Control+Shift+O")
    await expect(page.get_by_label("Model", exact=True)).to_have_value("test-model")
    await page.get_by_role("textbox", name="Title").fill("x" * 256)
    await expect(page.get_by_role("alert")).to_be_visible()
    assert await found_by_axe(page) == []
    await page.keyboard.press("Escape")

    for action, heading in (("Rename …", "Rename"), ("Delete …", "Delete this")):
        await row(page, "Recent").hover()
        await row(page, "Recent").get_by_role("button", name="Actions for").click()
        await page.get_by_role("menuitem", name=action).click()
        await expect(page.get_by_role("dialog", name=heading)).to_be_visible()
        assert await found_by_axe(page) == []
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)


@THEMES
@pytest.mark.parametrize("path", ["/settings", "/c/nothing"])
async def test_axe_finds_nothing_elsewhere(
    colloquy: Colloquy, visitors: Visitors, theme: str, path: str
) -> None:
    page = await furnished(colloquy, visitors, theme, path)
    await expect(page.get_by_role("main").get_by_role("heading").first).to_be_visible()
    assert await found_by_axe(page) == []


@THEMES
async def test_axe_finds_nothing_at_the_door(
    colloquy: Colloquy, visitors: Visitors, theme: str
) -> None:
    visitors.expect("Failed to load resource")
    page = await visitors.page(base_url=colloquy.app.web_url, color_scheme=theme, bypass_csp=True)
    await page.goto("/")
    await page.get_by_label("API key").press("Enter")
    await expect(page.get_by_role("alert")).to_be_visible()
    assert await found_by_axe(page) == []


async def test_the_whole_index_without_a_mouse(colloquy: Colloquy, visitors: Visitors) -> None:
    [ann] = await people(colloquy, "Ann")
    for title in ("One", "Two", "Three"):
        await ann.create(title=title)
    page = await index_of(visitors, colloquy, ann)
    keys = page.keyboard
    await expect(section(page, "Recent")).to_have_count(3)

    # From the beginning of the page to the list, which is one stop.
    stops = [
        page.get_by_role("link", name="Skip to the conversation"),
        page.get_by_role("button", name="Archived conversations"),
        page.get_by_role("button", name="New conversation").first,
        page.get_by_role("searchbox"),
        page.get_by_role("link", name="Three"),
        page.get_by_role("button", name="Actions for “Three”"),
        page.get_by_role("button", name="Ann Acme Your account"),
    ]
    for stop in stops:
        await keys.press("Tab")
        await expect(stop).to_be_focused()

    # Back into the list: arrows move in it, and its menu is beside each row.
    for _ in range(2):
        await keys.press("Shift+Tab")
    await keys.press("ArrowDown")
    await expect(page.get_by_role("link", name="Two")).to_be_focused()
    await keys.press("End")
    await expect(page.get_by_role("link", name="One")).to_be_focused()
    await keys.press("Home")
    await expect(page.get_by_role("link", name="Three")).to_be_focused()
    await keys.press("Tab")
    await keys.press("Enter")
    await expect(page.get_by_role("menuitem", name="Rename …")).to_be_focused()
    await keys.press("ArrowUp")
    await expect(page.get_by_role("menuitem", name="Delete …")).to_be_focused()
    await keys.press("p")
    await expect(page.get_by_role("menuitem", name="Pin")).to_be_focused()
    await keys.press("Escape")
    await expect(page.get_by_role("button", name="Actions for “Three”")).to_be_focused()

    # A dialog keeps the keyboard, and gives it back.
    await keys.press("Enter")
    await keys.press("Enter")
    await expect(page.get_by_role("textbox", name="Title")).to_be_focused()
    await keys.type("Renamed")
    await keys.press("Enter")
    await expect(page.get_by_role("button", name="Actions for “Renamed”")).to_be_focused()

    await keys.press("?")
    await expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    await keys.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await keys.press("Control+k")
    await expect(page.get_by_role("searchbox")).to_be_focused()
    await keys.type("tw")
    await expect(page.locator("[data-hit]")).to_have_count(1)
    await keys.press("ArrowDown")
    await expect(page.get_by_role("link", name="Two")).to_be_focused()
    await keys.press("Enter")
    await expect(page).to_have_title("Two · Colloquy")
    await keys.press("Alt+ArrowDown")
    await expect(page).to_have_title("One · Colloquy")

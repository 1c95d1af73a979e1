"""Signing in and out at the page: by a key, by a link, elsewhere, and what is left of it."""

from __future__ import annotations

import pytest
from colloquy.api import resources_pb2 as resources
from colloquy.api import session_service_pb2 as sessions_api
from colloquy.api.session_service_pb2_grpc import SessionServiceStub
from playwright.async_api import Page, expect

from tests.browser.indexing import index_of, people
from tests.browser.shared_browser import SHARED_LOOP
from tests.browser.talking import signed_in, text_input
from tests.browser.visitors import Visitors
from tests.fleets import ANY
from tests.harness import Caller, Colloquy

pytestmark = [ANY, SHARED_LOOP]

REFUSED = "Failed to load resource"


async def stranger(colloquy: Colloquy, visitors: Visitors, path: str = "/") -> Page:
    """The page to somebody who is not signed in."""
    visitors.expect(REFUSED)  # the browser says of itself that GetSession was refused
    page = await visitors.page(base_url=colloquy.app.web_url)
    await page.goto(path)
    await expect(page.get_by_role("main")).to_be_visible()
    return page


async def link_of(caller: Caller, name: str) -> str:
    """A link that signs somebody in."""
    stub = SessionServiceStub(caller.channel)
    user = resources.User(external_id=name.lower(), display_name=name)
    request = sessions_api.CreateSignInLinkRequest(user=user)
    made = await stub.CreateSignInLink(request, metadata=caller.metadata)
    return str(made.url)


async def kept(page: Page) -> str:
    """All that the page keeps in this browser."""
    found: str = await page.evaluate(
        "JSON.stringify([Object.entries(localStorage), Object.entries(sessionStorage),"
        " document.cookie])"
    )
    return found


async def test_by_a_key_which_is_not_kept(colloquy: Colloquy, visitors: Visitors) -> None:
    [ann] = await people(colloquy, "Ann")
    page = await stranger(colloquy, visitors)
    await expect(page).to_have_title("Sign in · Colloquy")
    key = page.get_by_label("API key")
    await key.press("Enter")
    await expect(page.get_by_role("alert")).to_have_text("Enter a key.")
    await expect(key).to_have_attribute("aria-invalid", "true")

    await key.fill("colloquy_nonsense")
    await key.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("key")
    await expect(page.get_by_role("searchbox")).to_have_count(0)

    await key.fill(ann.key)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("button", name="Ann Acme Your account")).to_be_visible()
    assert ann.key not in await kept(page)
    assert await page.evaluate("document.cookie") == ""


async def test_one_comes_to_what_one_wanted(colloquy: Colloquy, visitors: Visitors) -> None:
    [ann] = await people(colloquy, "Ann")
    made = await ann.create(title="Wanted")
    page = await stranger(colloquy, visitors, f"/c/{made.id}")
    await page.get_by_label("API key").fill(ann.key)
    await page.get_by_label("API key").press("Enter")
    await expect(text_input(page)).to_be_visible()
    await expect(page).to_have_url(f"{colloquy.app.web_url}/c/{made.id}")


async def test_by_a_link_that_leaves_no_trace(colloquy: Colloquy, visitors: Visitors) -> None:
    service = await colloquy.account("Acme")
    url = await link_of(service, "Mia")
    code = url.partition("#code=")[2]
    page = await stranger(colloquy, visitors, url)
    await expect(page.get_by_role("button", name="Mia Acme Your account")).to_be_visible()
    await expect(page).to_have_url(f"{colloquy.app.web_url}/")
    assert code not in await kept(page)
    await page.go_back()
    assert code not in page.url

    other = await stranger(colloquy, visitors, url)
    await expect(other.get_by_role("alert")).to_be_visible()
    await expect(other.get_by_role("searchbox")).to_have_count(0)
    assert code not in other.url


async def test_signing_out_ends_all_tabs(colloquy: Colloquy, visitors: Visitors) -> None:
    [ann] = await people(colloquy, "Ann")
    visitors.expect(REFUSED)
    page = await index_of(visitors, colloquy, ann)
    second = await page.context.new_page()
    await second.goto("/")
    await expect(second.get_by_role("button", name="Ann Acme Your account")).to_be_visible()
    await page.get_by_role("button", name="Ann Acme Your account").click()
    await page.get_by_role("menuitem", name="Sign out").click()
    for each in (page, second):
        await expect(each.get_by_label("API key")).to_be_visible()
    await page.reload()
    await expect(page.get_by_label("API key")).to_be_visible()


async def test_who_is_signed_out_in_the_midst_keeps_what_was_written(
    colloquy: Colloquy, visitors: Visitors
) -> None:
    [ann] = await people(colloquy, "Ann")
    visitors.expect(REFUSED)
    made = await ann.create(title="Unfinished")
    here = await index_of(visitors, colloquy, ann, f"/c/{made.id}")
    await text_input(here).fill("Half of a thou")
    there = await index_of(visitors, colloquy, ann, "/settings")
    ends = there.get_by_role("button", name="End the session in")
    await expect(ends).to_have_count(1)
    await ends.click()
    await expect(ends).to_have_count(0)

    await expect(here.get_by_label("API key")).to_be_visible()
    await expect(here.get_by_role("log", name="Notices")).to_contain_text("You were signed out.")
    await here.get_by_label("API key").fill(ann.key)
    await here.get_by_label("API key").press("Enter")
    await expect(text_input(here)).to_have_value("Half of a thou")


async def test_sessions_are_listed_by_what_people_call_them(
    colloquy: Colloquy, visitors: Visitors
) -> None:
    [ann] = await people(colloquy, "Ann")
    page = await index_of(visitors, colloquy, ann, "/settings")
    agent = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:130.0) Gecko/20100101 Firefox/130.0"
    other = await signed_in(visitors, colloquy.app.web_url, ann, user_agent=agent)
    await page.reload()
    await expect(page.get_by_role("listitem").filter(has_text="This browser")).to_have_count(1)
    await expect(page.get_by_text("Firefox on Windows")).to_be_visible()
    visitors.expect(REFUSED)
    theirs = await other.new_page()
    await theirs.goto("/")
    await expect(theirs.get_by_role("searchbox")).to_be_visible()

    await page.get_by_role("button", name="Sign out everywhere").click()
    dialog = page.get_by_role("dialog", name="Sign out everywhere?")
    await dialog.get_by_role("button", name="Sign out everywhere").click()
    for each in (page, theirs):
        await expect(each.get_by_label("API key")).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_a_theme_is_kept(colloquy: Colloquy, visitors: Visitors, theme: str) -> None:
    [ann] = await people(colloquy, "Ann")
    opposite = "light" if theme == "dark" else "dark"
    page = await index_of(visitors, colloquy, ann, "/settings", color_scheme=opposite)
    seen = "getComputedStyle(document.documentElement).backgroundColor"
    before = await page.evaluate(seen)
    await page.get_by_label(theme.title(), exact=True).check()
    assert await page.evaluate(seen) != before
    await page.reload()
    await expect(page.get_by_label(theme.title(), exact=True)).to_be_checked()
    assert await page.evaluate(seen) != before

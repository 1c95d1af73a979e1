"""The list of conversations, as somebody uses it."""

from __future__ import annotations

import re

from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import resources_pb2 as resources
from colloquy_server.database.engine import sync_engine
from colloquy_server.database.models import Conversation, Visibility, new_id
from playwright.async_api import Locator, Page, expect
from sqlalchemy import insert

from tests.browser.talking import signed_in
from tests.browser.visitors import Visitors
from tests.harness import Caller, Colloquy


async def people(colloquy: Colloquy, *names: str) -> list[Caller]:
    """Members of one account, of which the first one is an admin."""
    service = await colloquy.account("Acme")
    roles = admin_api.ApiKey
    return [
        await colloquy.key(
            service.account_id,
            roles.ROLE_ADMIN if place == 0 else roles.ROLE_MEMBER,
            user=resources.User(external_id=name.lower(), display_name=name),
        )
        for place, name in enumerate(names)
    ]


async def index_of(
    visitors: Visitors, colloquy: Colloquy, caller: Caller, path: str = "/", **options: object
) -> Page:
    """A caller's tab at a path, with the index loaded."""
    context = await signed_in(visitors, colloquy.app.web_url, caller, **options)
    page = await context.new_page()
    await page.goto(path)
    await expect(page.get_by_role("searchbox")).to_be_attached()
    await expect(page.get_by_role("status").filter(has_text=re.compile("^Loading$"))).to_have_count(
        0
    )
    return page


def section(page: Page, heading: str) -> Locator:
    """The conversations below a heading of the index."""
    return page.get_by_role("region", name=heading, exact=True).get_by_role("listitem")


def row(page: Page, title: str) -> Locator:
    """A conversation of the index."""
    return page.locator("nav").get_by_role("listitem").filter(has_text=title)


async def choose(page: Page, title: str, action: str) -> None:
    """Does something by the menu of a conversation."""
    await row(page, title).hover()
    await row(page, title).get_by_role("button", name="Actions for").click()
    await page.get_by_role("menuitem", name=action, exact=True).click()


async def titles(page: Page, heading: str) -> list[str]:
    """The titles below a heading, in their order."""
    return await section(page, heading).locator(".title").all_inner_texts()


async def many(colloquy: Colloquy, caller: Caller, count: int) -> None:
    """Adds conversations "Number 0" to the newest, without the calls that would make them."""
    made = await caller.create(title="Number 0")
    now = made.create_time.ToMicroseconds()
    rows = [
        {
            "id": new_id(),
            "account_id": caller.account_id,
            "creator_id": made.creator.id,
            "title": f"Number {number}",
            "model": made.model,
            "system_prompt": "",
            "visibility": Visibility.ACCOUNT,
            **dict.fromkeys(("create_time", "update_time", "activity_time"), now + number),
        }
        for number in range(1, count)
    ]
    with sync_engine(colloquy.database_url).begin() as connection:
        connection.execute(insert(Conversation), rows)

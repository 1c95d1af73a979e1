"""People at the page of a real server: they sign in, open a conversation, write and read."""

from __future__ import annotations

from typing import Self

from playwright.async_api import BrowserContext, Locator, Page, expect

from tests.browser.visitors import Visitors
from tests.harness import Caller, Colloquy, ServerProcess

PROCESS = "a process"
"""What the fixture `site` is asked for where its server is killed."""


class Site:
    """A server's page, which everybody leaves before it ends: the server of `colloquy`, or, where
    that has none, one as a process of its own, which can be killed and started again."""

    def __init__(self, colloquy: Colloquy, visitors: Visitors) -> None:
        self.colloquy = colloquy
        self.server = ServerProcess(colloquy)
        self._visitors = visitors

    async def __aenter__(self) -> Self:
        if not self.colloquy.apps:
            await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._visitors.leave()

    async def start(self) -> None:
        """Starts the server, at the same address as before."""
        self.colloquy.channel = self.colloquy.far = await self.server.start()

    @property
    def url(self) -> str:
        """Where the page is."""
        if self.colloquy.apps:
            return self.colloquy.app.web_url
        return f"http://{self.server.http_address}"

    async def visitor(self, caller: Caller, **options: object) -> BrowserContext:
        """Somebody with a browser who is signed in with a caller's key."""
        return await signed_in(self._visitors, self.url, caller, **options)

    async def sign_in(self, context: BrowserContext, caller: Caller) -> None:
        """Signs a browser in with a caller's key."""
        await sign_in(context, self.url, caller)


async def signed_in(
    visitors: Visitors, url: str, caller: Caller, **options: object
) -> BrowserContext:
    """Somebody with a browser who is signed in with a caller's key at the page of a server."""
    context = await visitors.context(base_url=url, **options)
    await sign_in(context, url, caller)
    return context


async def sign_in(context: BrowserContext, url: str, caller: Caller) -> None:
    """Signs a browser in with a caller's key at the page of a server."""
    answer = await context.request.post(
        "/session", data={"api_key": caller.key}, headers={"origin": url}
    )
    assert answer.ok, await answer.text()


async def open_conversation(context: BrowserContext, conversation_id: str) -> Page:
    """A tab with a conversation that can be written in."""
    page = await context.new_page()
    await page.goto(f"/c/{conversation_id}")
    await expect(text_input(page)).to_be_visible()
    return page


def text_input(page: Page) -> Locator:
    """Where one writes."""
    return page.get_by_label("Message", exact=True)


def send_button(page: Page) -> Locator:
    """What sends."""
    return page.get_by_role("button", name="Send", exact=True)


async def send(page: Page, text: str) -> None:
    """Writes and sends."""
    await text_input(page).fill(text)
    await text_input(page).press("Enter")


def messages(page: Page) -> Locator:
    """All messages that are shown."""
    return page.locator("article[data-message-id]")


async def scroll_up(page: Page) -> tuple[str, float]:
    """Scrolls to the first message that is drawn, and waits until another one is drawn before it;
    returns its id, and by how many pixels it moved meanwhile."""
    first = messages(page).first
    message_id = await first.get_attribute("data-message-id")
    assert message_id is not None
    held = page.locator(f'[data-message-id="{message_id}"]')
    top = "one => { one.scrollIntoView(); return one.getBoundingClientRect().top }"
    before = await held.evaluate(top)
    await expect(first).not_to_have_attribute("data-message-id", message_id)
    after = await held.evaluate("one => one.getBoundingClientRect().top")
    return message_id, after - before


async def shown(page: Page) -> list[tuple[str, str]]:
    """The messages that are shown: their ids and texts."""
    found = await page.evaluate(
        """() => [...document.querySelectorAll("article[data-message-id]")].map((one) => [
            one.dataset.messageId, one.querySelector("[data-part=text]")?.textContent.trim() ?? ""
        ])"""
    )
    return [(message_id, text) for message_id, text in found]

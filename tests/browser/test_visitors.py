"""The browser that tests have, and that nothing which goes wrong in a page is overlooked."""

from __future__ import annotations

from playwright.async_api import Browser, Page

from tests.browser.shared_browser import SHARED_LOOP
from tests.browser.visitors import Visitors

pytestmark = SHARED_LOOP

BLOCKED = """<meta http-equiv="Content-Security-Policy" content="default-src 'none'">
<script>window.ran = true</script>"""


async def test_a_page_is_shown(visitors: Visitors) -> None:
    page = await visitors.page()
    await page.set_content("<h1>Colloquy</h1>")
    assert await page.get_by_role("heading").inner_text() == "Colloquy"
    assert await page.evaluate("[...'😀a'].length") == 2


async def test_visitors_are_strangers_to_each_other(visitors: Visitors) -> None:
    contexts = [await visitors.context() for _ in range(2)]
    await contexts[0].add_cookies([{"name": "a", "value": "1", "url": "http://127.0.0.1"}])
    assert await contexts[1].cookies() == []


async def complaints(browser: Browser, script: str) -> list[str]:
    visitors = Visitors(browser)
    page: Page = await visitors.page()
    async with page.expect_console_message(lambda message: message.text == "done"):
        await page.evaluate(f"{{ {script}; setTimeout(() => console.log('done')) }}")
    return visitors.complaints()


async def test_what_goes_wrong_in_a_page_is_noticed(browser: Browser) -> None:
    assert await complaints(browser, "console.log('fine')") == []
    [said] = await complaints(browser, "console.error('a complaint')")
    assert "a complaint" in said
    [said] = await complaints(browser, "setTimeout(() => { throw new Error('a bug') })")
    assert "a bug" in said
    said = "".join(await complaints(browser, "new Image().src = 'http://elsewhere.invalid/a.png'"))
    assert "another host: http://elsewhere.invalid/a.png" in said


async def test_what_a_policy_forbids_is_noticed_and_can_be_meant(browser: Browser) -> None:
    visitors = Visitors(browser)
    page = await visitors.page()
    await page.set_content(BLOCKED)
    assert await page.evaluate("window.ran") is None
    [said] = visitors.complaints()
    assert "Content Security Policy" in said
    visitors.expect("Content Security Policy")
    assert visitors.complaints() == []

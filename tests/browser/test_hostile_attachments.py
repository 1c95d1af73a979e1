"""Hostile files: whatever they are called and whatever is in them, nothing of it runs, in the page
or at an address of their own, and nothing is fetched from elsewhere.

A page that throws, breaks its policy or asks another host fails each test by itself (see visitors).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import uuid
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from colloquy.api import resources_pb2 as resources
from playwright.async_api import BrowserContext, Download, Error, Page, expect

from tests.browser.harmless import ALLOWED, require_harmless
from tests.browser.shared_browser import SHARED_LOOP
from tests.browser.talking import Site, messages, open_conversation
from tests.browser.visitors import Visitors
from tests.fakes import samples
from tests.harness import Caller
from tests.uploads import upload

pytestmark = SHARED_LOOP

PNG = samples.png(16, 16)
GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
UNREAD = re.compile(r"^\(1\) ")
MOST = 10
"""Files that a message takes."""

# It marks whatever origin it runs in, and tells another host.
SCRIPT = (
    "try { (window.top || self).__pwned = 1 } catch (e) {} self.__pwned = 1;"
    "try { localStorage.pwned = 1 } catch (e) {}"
    "fetch('https://elsewhere.invalid/ran'); fetch('/session', {method: 'DELETE'});"
)
TAG = f"<script>{SCRIPT}</script>"
OUTSIDE = (
    '<img src="https://elsewhere.invalid/i.png" onerror="__pwned=1">'
    '<iframe src="https://elsewhere.invalid/f"></iframe>'
    '<link rel="stylesheet" href="https://elsewhere.invalid/a.css">'
    '<form id="f" action="https://elsewhere.invalid/form"></form><script>f.submit()</script>'
    '<meta http-equiv="refresh" content="0;url=https://elsewhere.invalid/refresh">'
)
PAGE = f"<!doctype html><html><body onload='__pwned=1'>{TAG}{OUTSIDE}</body></html>"
DRAWING = f"""<?xml-stylesheet href="https://elsewhere.invalid/a.css"?>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="99"
 height="99" onload="__pwned=1">
<script>{SCRIPT.replace("&", "&amp;")}</script>
<script href="https://elsewhere.invalid/s.js"/>
<style>@import "https://elsewhere.invalid/b.css";
rect {{ fill: url(https://elsewhere.invalid/p#x) }}</style>
<foreignObject width="99" height="99"><body xmlns="http://www.w3.org/1999/xhtml">
<img src="https://elsewhere.invalid/i.png" onerror="__pwned=1"/>
<iframe src="javascript:top.__pwned=1"></iframe></body></foreignObject>
<image href="https://elsewhere.invalid/j.png" width="9" height="9" onerror="__pwned=1"/>
<use xlink:href="https://elsewhere.invalid/u.svg#x"/>
<a href="javascript:__pwned=1"><rect width="99" height="99"/></a>
<animate attributeName="x" dur="1s" onbegin="__pwned=1"/>
</svg>"""

FILES = {
    "drawing.svg": (DRAWING.encode(), "attachment"),
    "page.html": (PAGE.encode(), "attachment"),
    # The same under names that say something else, and behind the first bytes of a picture.
    "page.txt": (PAGE.encode(), "attachment"),
    "part.txt": ((TAG + OUTSIDE).encode(), "inline"),
    "drawing.txt": (DRAWING.encode(), "inline"),
    "page.xml": (DRAWING.encode(), "attachment"),
    "page.xhtml": (PAGE.replace("<html", '<html xmlns="http://www.w3.org/1999/xhtml"').encode(),
                   "attachment"),
    "picture.png": (PNG + PAGE.encode(), "inline"),
    "picture.gif": (GIF + f"{SCRIPT}{TAG}".encode(), "inline"),
    "script.js": (SCRIPT.encode(), "attachment"),
    "style.css": (b"* { background: url(https://elsewhere.invalid/p) }", "attachment"),
}  # fmt: skip
"""What is uploaded, and what a browser does with it that is led to it."""

LOAD = """address => {
    const made = (name, fields) => {
        const element = Object.assign(document.createElement(name), fields);
        return new Promise((resolve) => {
            element.onload = element.onerror = () => resolve(name);
            element.onsecuritypolicyviolation = () => resolve(name);
            // A frame that its policy forbids says nothing to the page around it.
            document.addEventListener("securitypolicyviolation", () => resolve(name));
            document.body.append(element);
        });
    };
    return Promise.all([
        made("img", { src: address }),
        made("script", { src: address }),
        made("script", { src: address, type: "module" }),
        made("link", { rel: "stylesheet", href: address }),
        made("iframe", { src: address }),
        made("object", { data: address }),
        made("embed", { src: address }),
        import(address).catch(() => "import"),
        new Promise((resolve) => { new Worker(address).onerror = resolve; }),
        navigator.serviceWorker?.register(address).catch(() => "service worker"),
    ]).then((all) => all.length);
}"""
"""A page that was led to load a file, in all ways that a page has."""


@pytest_asyncio.fixture(loop_scope="session")
async def alice(site: Site) -> Caller:
    """A service's key."""
    return (await site.colloquy.account("alice")).at(site.colloquy)


async def said(alice: Caller, files: list[resources.Attachment], conversation_id: str = "") -> str:
    """A conversation in which these files were sent."""
    conversation_id = conversation_id or (await alice.create()).id
    for first in range(0, len(files), MOST):
        ids = [file.id for file in files[first : first + MOST]]
        await alice.send(conversation_id, "Look", attachment_ids=ids).rest()
    return conversation_id


async def content(saved: Download) -> bytes:
    """What was saved."""
    return await asyncio.to_thread(Path(await saved.path()).read_bytes)


async def require_unmarked(context: BrowserContext, page: Page) -> None:
    """Requires that no script of a file ran in the page's origin, and that its session is there."""
    marks = await page.evaluate("[window.__pwned ?? null, localStorage.pwned ?? null]")
    assert marks == [None, None]
    asked = await context.request.post(
        "/conversation.v1.SessionService/GetSession",
        data={},
        headers={"origin": await page.evaluate("location.origin")},
    )
    assert asked.ok


async def test_hostile_file_names_are_text(site: Site, alice: Caller) -> None:
    files: list[resources.Attachment] = []
    for number, name in enumerate(ALLOWED[::2]):  # all are in test_hostile_texts.py
        # Some are not taken: as a text whose name is a picture's.
        with contextlib.suppress(grpc.aio.AioRpcError):
            files.append(await upload(alice, PNG if number % 2 else b"words", name))
    # The same bytes under a name that is cleaned to the same are one file.
    files = list({file.id: file for file in files}.values())
    assert len(files) >= 30
    pictures = [file for file in files if file.kind == resources.Attachment.KIND_IMAGE]
    conversation_id = await said(alice, files)
    page = await open_conversation(await site.visitor(alice), conversation_id)
    rows = messages(page).filter(has=page.locator("ul.pictures, ul.files"))
    await expect(messages(page).last).to_be_visible()
    shown: set[str] = set()
    for number in range(-(-len(files) // MOST)):
        row = rows.nth(number)
        await row.scroll_into_view_if_needed()
        await expect(row.locator("li")).not_to_have_count(0)
        shown |= set(await row.locator(".chip bdi").all_text_contents())
        shown |= set(await row.locator("img").evaluate_all("all => all.map(one => one.alt)"))
    assert shown == {file.filename for file in files}
    await require_harmless(page)
    # As many as the dialogs of one message.
    row = rows.first
    for number in range(await row.locator("ul.pictures button").count()):
        await row.locator("ul.pictures button").nth(number).click()
        dialog = page.get_by_role("dialog")
        await expect(dialog.get_by_role("heading")).to_have_text(pictures[number].filename)
        await require_harmless(page, "dialog")
        await dialog.get_by_role("button", name="Close").click()
        await expect(dialog).to_have_count(0)
    chips = row.locator(".chip")
    for number in range(await chips.count()):
        async with page.expect_download() as coming:
            await chips.nth(number).click()
        saved = await coming.value
        assert not set(saved.suggested_filename) & set('/\\\0<>:"|?*')
        assert await content(saved) == b"words"
    await require_harmless(page)


async def test_hostile_files_are_shown_and_saved_and_never_run(site: Site, alice: Caller) -> None:
    files = [await upload(alice, data, name) for name, (data, _) in FILES.items()]
    context = await site.visitor(alice)
    page = await open_conversation(context, await said(alice, files))
    await expect(page.locator(".chip")).to_have_count(len(FILES) - 2)
    await expect(page.locator("ul.pictures img")).to_have_count(2)
    await require_harmless(page)
    for name in ("drawing.svg", "page.html", "part.txt", "script.js"):
        async with page.expect_download() as coming:
            await page.locator(".chip", has_text=name).click()
        saved = await coming.value
        assert saved.suggested_filename == name
        assert await content(saved) == FILES[name][0]
    for number in range(2):
        await page.locator("ul.pictures button").nth(number).click()
        await expect(page.get_by_role("dialog").locator("img.whole")).to_be_visible()
        await require_harmless(page, "dialog")
        await page.keyboard.press("Escape")
    await require_unmarked(context, page)


async def test_a_file_that_is_opened_by_its_address_is_saved_or_sandboxed(
    site: Site, visitors: Visitors, alice: Caller
) -> None:
    # With its own style the browser shows a text or a picture.
    visitors.expect(r"^console: Applying inline style .*/files/")
    context = await site.visitor(alice)
    page = await context.new_page()
    await page.goto("/")
    for name, (data, way) in FILES.items():
        file = await upload(alice, data, name)
        opened = await context.new_page()
        if way == "attachment":
            async with opened.expect_download() as coming:
                with pytest.raises(Error, match=r"Download is starting|ERR_ABORTED"):
                    await opened.goto(f"/files/{file.id}")
            assert await content(await coming.value) == data, name
            assert opened.url == "about:blank"
        else:
            await opened.goto(f"/files/{file.id}")
            found = await opened.evaluate(
                "[self.origin, window.__pwned ?? null, document.scripts.length]"
            )
            assert found == ["null", None, 0], name
        await opened.close()
    await require_unmarked(context, page)


async def test_a_page_that_is_led_to_load_a_file_runs_nothing_of_it(
    site: Site, visitors: Visitors, alice: Caller
) -> None:
    # The browser says of each that it was refused; of another host it would say something else.
    visitors.expect(r"^console: (?!.*elsewhere\.invalid)")
    context = await site.visitor(alice)
    page = await context.new_page()
    await page.goto("/settings")
    await expect(page.get_by_role("heading").first).to_be_visible()
    for name, (data, _) in FILES.items():
        file = await upload(alice, data, name)
        assert await page.evaluate(LOAD, f"/files/{file.id}") == 10, name
        await require_unmarked(context, page)
        assert len(page.frames) == 1 or all(
            frame.url.startswith(("chrome-error:", "about:")) for frame in page.frames[1:]
        ), name


async def test_what_is_of_another_account_is_as_if_it_were_not(
    site: Site, visitors: Visitors, alice: Caller
) -> None:
    visitors.expect(r"^console: .* 404 .*/(files|conversation\.v1)")
    other = (await site.colloquy.account("other")).at(site.colloquy)
    file = await upload(other, PNG, "theirs.png")
    theirs = await said(other, [file])
    message = (await other.history(theirs))[0]
    mine = await said(alice, [])
    await alice.send(mine, "Mine").rest()
    context = await site.visitor(alice)
    page = await context.new_page()
    nothing = str(uuid.UUID(int=uuid.UUID(theirs).int ^ 1))

    seen: list[list[str]] = []
    for conversation_id, hash_ in (
        (theirs, ""),
        (theirs, f"#{message.id}"),
        (nothing, ""),
        (nothing, f"#{nothing}"),
    ):
        await page.goto("about:blank")
        await page.goto(f"/c/{conversation_id}{hash_}")
        pane = page.get_by_role("region", name="Conversation")
        await expect(page.get_by_role("heading", name="No such conversation")).to_be_visible()
        await expect(messages(page)).to_have_count(0)
        await expect(page).to_have_title(UNREAD)  # which the index brings in its own time
        seen.append([await page.title(), await pane.inner_text()])
    assert all(one == seen[0] for one in seen)

    for message_id in (message.id, nothing):
        await page.goto("about:blank")
        await page.goto(f"/c/{mine}#{message_id}")
        await expect(page.get_by_text("That message is not here any more.")).to_be_visible()
        await expect(messages(page)).to_have_count(2)

    told: list[tuple[int, str]] = []
    for file_id in (file.id, nothing):
        for query in ("", "?download"):
            answer = await page.goto(f"/files/{file_id}{query}")
            assert answer is not None
            told.append((answer.status, await answer.text()))
    assert told == [(404, told[0][1])] * 4
    assert "theirs" not in told[0][1]


async def test_a_name_that_turns_its_letters_is_shown_straight_before_it_is_sent(
    site: Site, alice: Caller
) -> None:
    page = await open_conversation(await site.visitor(alice), (await alice.create()).id)
    await page.locator("input[type=file]").set_input_files(
        {"name": "invoice\u202etxt.exe", "mimeType": "text/plain", "buffer": b"words"}
    )
    files = page.get_by_role("list", name="Files of this message").get_by_role("listitem")
    await expect(files.locator(".name")).to_have_text("invoicetxt.exe")
    await require_harmless(page, "progress")

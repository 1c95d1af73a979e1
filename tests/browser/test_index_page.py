"""The list of conversations: it is always true, and one finds, keeps and puts away in it."""

from __future__ import annotations

import asyncio

import pytest
from colloquy.api import resources_pb2 as resources
from playwright.async_api import Page, expect

from tests.browser.indexing import choose, index_of, many, people, row, section, titles
from tests.browser.shared_browser import SHARED_LOOP
from tests.browser.talking import signed_in
from tests.browser.visitors import Visitors
from tests.fakes.provider import Answer
from tests.fleets import ANY
from tests.harness import Caller, Colloquy, eventually

pytestmark = [ANY, SHARED_LOOP]


async def conversation(caller: Caller, title: str) -> resources.Conversation:
    return await caller.create(title=title)


async def test_what_one_does_another_sees_at_once(colloquy: Colloquy, visitors: Visitors) -> None:
    ann, bo = await people(colloquy, "Ann", "Bo")
    first = await conversation(ann, "The first")
    hers = await index_of(visitors, colloquy, ann)
    his = await index_of(visitors, colloquy, bo)
    await expect(row(his, "The first")).to_be_visible()

    await conversation(ann, "The second")
    await expect(row(his, "The second")).to_be_visible()
    assert await titles(his, "Recent") == ["The second", "The first"]

    await choose(hers, "The first", "Rename …")
    await hers.get_by_role("textbox", name="Title").fill("Another name")
    await hers.keyboard.press("Enter")
    await expect(row(his, "Another name")).to_be_visible()
    await expect(row(his, "The first")).to_have_count(0)

    await ann.send(first.id, "Hello").reply()
    await expect(section(his, "Recent").first).to_contain_text("Another name")

    await choose(hers, "The second", "Delete …")
    dialog = hers.get_by_role("dialog", name="Delete this conversation?")
    await expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    await dialog.get_by_role("button", name="Delete").click()
    await expect(row(his, "The second")).to_have_count(0)
    await expect(row(hers, "The second")).to_have_count(0)


async def test_what_is_new_is_counted_until_it_is_read(
    colloquy: Colloquy, visitors: Visitors
) -> None:
    ann, bo = await people(colloquy, "Ann", "Bo")
    made = await conversation(ann, "Numbers")
    his = await index_of(visitors, colloquy, bo)
    await expect(row(his, "Numbers")).to_be_visible()
    await expect(his).to_have_title("Colloquy")

    await ann.send(made.id, "One").reply()
    await expect(row(his, "Numbers").get_by_text("2 unread")).to_be_attached()
    await expect(row(his, "Numbers").get_by_text("2", exact=True)).to_be_visible()
    weight = (
        await row(his, "Numbers")
        .locator(".title")
        .evaluate("one => getComputedStyle(one).fontWeight")
    )
    assert int(weight) >= 600
    await expect(his).to_have_title("(1) Colloquy")

    await row(his, "Numbers").get_by_role("link").click()
    await expect(his).to_have_title("Numbers · Colloquy")
    await expect(row(his, "Numbers").get_by_text("unread")).to_have_count(0)


async def test_that_a_reply_is_being_written_is_shown(
    colloquy: Colloquy, visitors: Visitors
) -> None:
    ann, bo = await people(colloquy, "Ann", "Bo")
    made = await conversation(ann, "A long answer")
    his = await index_of(visitors, colloquy, bo)
    gate = asyncio.Event()
    colloquy.provider.script(Answer(gate_after=1, gate=gate))
    stream = ann.send(made.id, "Go on")
    await expect(row(his, "A long answer").get_by_text("Writing …")).to_be_visible()
    gate.set()
    await stream.reply()
    await expect(row(his, "A long answer").get_by_text("Writing …")).to_have_count(0)


async def test_pinned_ones_stay_above_for_who_pinned_them(
    colloquy: Colloquy, visitors: Visitors
) -> None:
    ann, bo = await people(colloquy, "Ann", "Bo")
    for title in ("Old", "New"):
        await conversation(ann, title)
    hers = await index_of(visitors, colloquy, ann)
    second = await hers.context.new_page()
    await second.goto("/")
    his = await index_of(visitors, colloquy, bo)
    await choose(hers, "Old", "Pin")
    for page in (hers, second):
        await expect(section(page, "Pinned")).to_have_count(1)
        assert await titles(page, "Pinned") == ["Old"]
        assert await titles(page, "Recent") == ["New"]
    assert await titles(his, "Recent") == ["New", "Old"]

    await choose(hers, "Old", "Unpin")
    await expect(section(hers, "Pinned")).to_have_count(0)
    await hers.reload()
    await expect(section(hers, "Recent")).to_have_count(2)


async def test_what_is_archived_is_put_away_until_somebody_writes(
    colloquy: Colloquy, visitors: Visitors
) -> None:
    ann, bo = await people(colloquy, "Ann", "Bo")
    made = await conversation(ann, "Done")
    await conversation(ann, "To do")
    hers = await index_of(visitors, colloquy, ann)
    his = await index_of(visitors, colloquy, bo)
    await choose(hers, "Done", "Archive")
    for page in (hers, his):
        await expect(section(page, "Recent")).to_have_count(1)

    await hers.get_by_role("button", name="Archived conversations").click()
    await expect(section(hers, "Archived")).to_have_count(1)
    await expect(row(hers, "Done")).to_be_visible()
    await hers.get_by_role("button", name="Back to all conversations").click()

    await bo.send(made.id, "One more thing").reply()
    for page in (hers, his):
        await expect(section(page, "Recent")).to_have_count(2)


async def test_search_finds_titles_and_messages(colloquy: Colloquy, visitors: Visitors) -> None:
    [ann] = await people(colloquy, "Ann")
    await conversation(ann, "Recipes for Émincé")
    made = await conversation(ann, "Something else")
    stream = ann.send(made.id, "Where do <b>zebras</b> sleep?")
    await stream.reply()
    page = await index_of(visitors, colloquy, ann)
    search = page.get_by_role("searchbox")

    await search.fill("emin")
    await expect(page.get_by_role("link", name="Recipes for Émincé")).to_be_visible()
    await expect(page).to_have_url(f"{colloquy.app.web_url}/search?q=emin")

    hit = page.get_by_role("link").filter(has_text="Ann:")
    await search.fill("zebras")
    await expect(hit).to_be_visible()
    assert "Where do <b>zebras</b> sleep?" in await hit.inner_text()
    assert await hit.locator("mark").all_inner_texts() == ["zebras"]
    await hit.click()
    message_id = stream.events[0].accepted.message.id
    await expect(page).to_have_url(f"{colloquy.app.web_url}/c/{made.id}#{message_id}")
    await expect(search).to_have_value("zebras")

    await search.press("Escape")
    await expect(section(page, "Recent")).to_have_count(2)

    await search.fill("nowhere")
    await expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()


async def test_a_search_has_an_address(colloquy: Colloquy, visitors: Visitors) -> None:
    [ann] = await people(colloquy, "Ann")
    await conversation(ann, "Found again")
    page = await index_of(visitors, colloquy, ann, "/search?q=again")
    await expect(page.get_by_role("searchbox")).to_have_value("again")
    await expect(page.get_by_role("link", name="Found again")).to_be_visible()


async def test_a_new_conversation(colloquy: Colloquy, visitors: Visitors) -> None:
    [ann] = await people(colloquy, "Ann")
    page = await index_of(visitors, colloquy, ann)
    await expect(page.get_by_role("heading", name="No conversations yet")).to_be_visible()
    await page.keyboard.press("Control+Shift+O")
    dialog = page.get_by_role("dialog", name="New conversation")
    await expect(dialog.get_by_role("textbox", name="Title")).to_be_focused()
    await dialog.get_by_role("textbox", name="Title").fill("x" * 256)
    await expect(dialog.get_by_text("at most 255 characters")).to_be_visible()
    await dialog.get_by_role("button", name="Start").click()
    await expect(dialog).to_be_visible()

    await dialog.get_by_role("textbox", name="Title").fill("Made here")
    model = dialog.get_by_label("Model", exact=True)
    await expect(model).to_have_value("test-model")
    await expect(model.get_by_role("option", name="keyless-model")).to_be_disabled()
    await model.select_option("small-model")
    await expect(dialog.get_by_text("free of charge")).to_be_visible()
    await dialog.get_by_label("Instructions").fill("Be brief.")
    await dialog.get_by_label("Only participants").check()
    await dialog.get_by_role("textbox", name="Title").press("Enter")
    await expect(dialog).to_have_count(0)
    await expect(row(page, "Made here")).to_be_visible()
    made = await ann.conversation(page.url.rpartition("/")[2])
    assert (made.title, made.model, made.system_prompt) == ("Made here", "small-model", "Be brief.")
    assert made.visibility == resources.Conversation.VISIBILITY_PARTICIPANTS


async def test_a_refused_change_goes_back_and_says_why(
    colloquy: Colloquy, visitors: Visitors
) -> None:
    [ann] = await people(colloquy, "Ann")
    await conversation(ann, "As it was")
    page = await index_of(visitors, colloquy, ann)
    await page.route("**/UpdateConversation", lambda route: route.abort())
    visitors.expect("Failed to load resource")
    await choose(page, "As it was", "Rename …")
    await page.get_by_role("textbox", name="Title").fill("As it is not")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("log", name="Notices")).to_contain_text("cannot be reached")
    await expect(row(page, "As it was")).to_be_visible()


MANY = 10_000


@pytest.mark.timeout(900)  # ten thousand conversations are made first
async def test_ten_thousand_conversations_are_never_all_drawn(
    colloquy: Colloquy, visitors: Visitors
) -> None:
    [ann] = await people(colloquy, "Ann")
    await many(colloquy, ann, MANY)
    page = await index_of(visitors, colloquy, ann)
    await expect(row(page, f"Number {MANY - 1}")).to_be_visible()

    await page.get_by_role("link", name=f"Number {MANY - 1}").focus()
    focused = page.locator("nav [data-row]:focus .title")
    rows = page.locator("nav [data-row]")
    most = 0

    async def at_the_end() -> bool:
        """Goes to the end of what is loaded, which has more loaded."""
        nonlocal most
        await page.keyboard.press("End")
        most = max(most, await rows.count())
        return await focused.inner_text() == "Number 0"

    assert await eventually(at_the_end, True, patience=240)
    assert most < 100
    assert await page.evaluate("document.querySelectorAll('nav *').length") < 2_000
    item = page.get_by_role("listitem").filter(has=page.locator("[data-row]:focus"))
    await expect(item).to_have_attribute("aria-posinset", str(MANY))
    await expect(item).to_have_attribute("aria-setsize", str(MANY))

    await page.keyboard.press("Home")
    await expect(focused).to_have_text(f"Number {MANY - 1}")


async def test_what_one_looks_at_stays_where_it_is(colloquy: Colloquy, visitors: Visitors) -> None:
    [ann] = await people(colloquy, "Ann")
    await many(colloquy, ann, 80)
    page = await index_of(visitors, colloquy, ann)
    await expect(row(page, "Number 79")).to_be_visible()
    scroller = page.locator("nav .scroller")
    await scroller.evaluate("one => one.scrollTop = 1000")
    looked_at = page.get_by_role("link", name="Number 58")
    await expect(looked_at).to_be_visible()
    before = await looked_at.bounding_box()
    await conversation(ann, "Above all")
    await expect(section(page, "Recent").first).to_have_attribute("aria-setsize", "81")
    assert await eventually(looked_at.bounding_box, before) == before


async def height(page: Page) -> int:
    value: int = await page.locator("nav .scroller").evaluate("one => one.scrollHeight")
    return value


async def test_a_phone_shows_one_of_the_two(colloquy: Colloquy, visitors: Visitors) -> None:
    [ann] = await people(colloquy, "Ann")
    await conversation(ann, "In a pocket")
    page = await index_of(
        visitors, colloquy, ann, viewport={"width": 390, "height": 844}, has_touch=True
    )
    # The index is the main part of the page, and there is nothing to skip it for.
    await expect(page.get_by_role("main").get_by_role("searchbox")).to_be_visible()
    await expect(page.get_by_role("link", name="Skip to the conversation")).to_have_count(0)
    await row(page, "In a pocket").get_by_role("link").click()
    await expect(page.get_by_role("main").get_by_label("Message", exact=True)).to_be_visible()
    await expect(page.get_by_role("searchbox")).to_be_hidden()
    await page.go_back()
    await expect(row(page, "In a pocket")).to_be_visible()
    width = await page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390


async def test_another_accounts_are_not_there(colloquy: Colloquy, visitors: Visitors) -> None:
    [ann] = await people(colloquy, "Ann")
    other = await colloquy.account("Elsewhere")
    theirs = await conversation(other, "Not hers")
    await conversation(ann, "Hers")
    context = await signed_in(visitors, colloquy.app.web_url, ann)
    page = await context.new_page()
    visitors.expect("Failed to load resource")
    await page.goto(f"/c/{theirs.id}")
    await expect(row(page, "Hers")).to_be_visible()
    await expect(page.get_by_text("Not hers")).to_have_count(0)
    await expect(page.get_by_role("main").get_by_role("heading")).to_be_visible()

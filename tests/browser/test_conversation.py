"""A conversation in the page: what is said appears as it is written; what one can do with it."""

from __future__ import annotations

import asyncio
import re

import pytest_asyncio
from colloquy.api import resources_pb2 as resources
from playwright.async_api import BrowserContext, Locator, Page, expect

from tests.browser.shared_browser import SHARED_LOOP
from tests.browser.talking import Site, messages, open_conversation, send, text_input
from tests.fakes.provider import Answer
from tests.harness import Caller

pytestmark = SHARED_LOOP

LONG = "\n\n".join(
    f"Paragraph {number} of a reply that is longer than a screen." for number in range(60)
)


@pytest_asyncio.fixture(loop_scope="session")
async def alice(site: Site) -> Caller:
    """A service's key."""
    return await site.colloquy.account("alice")


@pytest_asyncio.fixture(loop_scope="session")
async def context(site: Site, alice: Caller) -> BrowserContext:
    """Her browser, in which she is signed in."""
    return await site.visitor(alice)


def answers(site: Site, *texts: str) -> None:
    """Has the provider say these, one after the other."""
    site.colloquy.provider.script(*(Answer(pieces=[text]) for text in texts))


def gated(site: Site, *pieces: str, after: int = 1) -> asyncio.Event:
    """Has the provider stop after so many pieces, until the event is set."""
    gate = asyncio.Event()
    site.colloquy.provider.script(Answer(pieces=pieces, gate_after=after, gate=gate))
    return gate


def text_of(message: Locator) -> Locator:
    """What a message says."""
    return message.locator("[data-part=text]")


def scroll_box(page: Page) -> Locator:
    """What scrolls."""
    return page.get_by_role("region", name="Messages")


async def at_end(page: Page) -> None:
    """Waits until the end is in view."""
    await page.wait_for_function(
        """() => {
            const box = document.querySelector("[aria-label=Messages]");
            return box.scrollHeight - box.clientHeight - box.scrollTop < 5;
        }"""
    )


async def say(page: Page, *texts: str) -> None:
    """Says these, one after the other, and waits for the replies."""
    for text in texts:
        count = await messages(page).count()
        await send(page, text)
        await expect(messages(page)).to_have_count(count + 2)
        await expect(messages(page).last).to_have_attribute("data-state", "3")


async def do(message: Locator, menu: str, item: str) -> None:
    """Chooses from a menu of a message."""
    await message.hover()
    await message.get_by_role("button", name=menu, exact=True).click()
    await message.page.get_by_role("menuitem", name=item).click()


async def test_a_reply_grows_for_all_who_watch(
    site: Site, alice: Caller, context: BrowserContext
) -> None:
    gate = gated(site, "The **first** half, ", "and the second.")
    conversation_id = (await alice.create()).id
    page = await open_conversation(context, conversation_id)
    other = await open_conversation(await site.visitor(alice), conversation_id)
    await send(page, "Hello")
    for each in (page, other):
        await expect(text_of(messages(each).last)).to_have_text("The first half,")
        await expect(messages(each).last.locator("strong")).to_have_text("first")
        await expect(messages(each).last).to_have_attribute("aria-busy", "true")
    gate.set()
    for each in (page, other):
        await expect(text_of(messages(each).last)).to_have_text("The first half, and the second.")
        await expect(messages(each).first).to_contain_text("Hello")
        # It is said to screen readers when it is whole, and not before.
        await expect(each.locator("[data-part=announcement]")).to_contain_text("and the second.")


async def test_the_end_stays_in_view_only_for_those_who_are_there(
    site: Site, alice: Caller, context: BrowserContext
) -> None:
    gate = gated(site, LONG, "\n\n" + LONG, "\n\nThe end.")
    page = await open_conversation(context, (await alice.create()).id)
    await send(page, "A long one")
    await expect(messages(page).last).to_contain_text("Paragraph 59")
    await at_end(page)
    # Who reads further above is not moved.
    await scroll_box(page).evaluate("box => { box.scrollTop -= 800 }")
    await expect(page.get_by_role("button", name="To the end")).to_be_visible()
    before = await scroll_box(page).evaluate("box => box.scrollTop")
    gate.set()
    await expect(messages(page).last).to_contain_text("The end.")
    assert await scroll_box(page).evaluate("box => box.scrollTop") == before
    await page.get_by_role("button", name="New messages").click()
    await at_end(page)
    await expect(
        page.get_by_role("button", name=re.compile("To the end|New messages"))
    ).to_have_count(0)


async def test_finished_blocks_stay_selected_while_the_reply_grows(
    site: Site, alice: Caller, context: BrowserContext
) -> None:
    gate = gated(site, "First paragraph.\n\nSecond one.\n\nThird", " goes on.")
    page = await open_conversation(context, (await alice.create()).id)
    await send(page, "Hello")
    await expect(text_of(messages(page).last)).to_contain_text("Third")
    await page.evaluate(
        "getSelection().selectAllChildren(document.querySelector('article.reply .markdown p'))"
    )
    gate.set()
    await expect(text_of(messages(page).last)).to_contain_text("Third goes on.")
    assert await page.evaluate("getSelection().toString()") == "First paragraph."


async def test_a_menu_stays_open_while_the_reply_grows(
    site: Site, alice: Caller, context: BrowserContext
) -> None:
    gate = gated(site, "So far, ", "and further.\n\n" * 100)
    page = await open_conversation(context, (await alice.create()).id)
    await send(page, "Hello")
    await expect(text_of(messages(page).last)).to_have_text("So far,")
    await page.get_by_role("button", name="More about this conversation").click()
    await expect(page.get_by_role("menu")).to_be_visible()
    async with page.expect_event("console", lambda said: said.text == "scrolled"):
        await scroll_box(page).evaluate(
            "(box) => box.addEventListener('scrollend', () => console.log('scrolled'))"
        )
        gate.set()
    await expect(messages(page).last).to_have_attribute("data-state", "3")
    await at_end(page)
    await expect(page.get_by_role("menuitem").first).to_be_focused()


async def test_answering_again_keeps_the_older_replies(
    site: Site, alice: Caller, context: BrowserContext
) -> None:
    answers(site, "One", "Two", "Three")
    page = await open_conversation(context, (await alice.create()).id)
    await send(page, "Count")
    reply = messages(page).last
    for text in ("One", "Two"):
        await expect(text_of(reply)).to_have_text(text)
        await do(reply, "Answer again", "Again with")
    await expect(text_of(reply)).to_have_text("Three")
    await expect(messages(page)).to_have_count(2)
    await expect(reply).to_contain_text("3 / 3")
    for text in ("Two", "One"):
        await reply.get_by_role("button", name="Older version").click()
        await expect(text_of(reply)).to_have_text(text)
    await expect(reply.get_by_role("button", name="Older version")).to_be_disabled()
    await reply.get_by_role("button", name="Newer version").click()
    await expect(text_of(reply)).to_have_text("Two")


async def test_a_reply_can_be_stopped(site: Site, alice: Caller, context: BrowserContext) -> None:
    gated(site, "So far, ", "and further.")
    page = await open_conversation(context, (await alice.create()).id)
    await send(page, "Hello")
    reply = messages(page).last
    await expect(text_of(reply)).to_have_text("So far,")
    async with page.expect_response("**/CancelReply"):
        await page.get_by_role("button", name="Stop the reply").click()
    await expect(text_input(page)).to_be_focused()
    await expect(reply).to_contain_text("Stopped")
    await expect(text_of(reply)).to_have_text("So far,")


async def test_a_message_waits_for_its_turn_and_can_be_cancelled(
    site: Site, alice: Caller, context: BrowserContext
) -> None:
    gate = gated(site, "The first ", "reply.")
    page = await open_conversation(context, (await alice.create()).id)
    await send(page, "One")
    await expect(text_of(messages(page).last)).to_have_text("The first")
    await send(page, "Two")
    await expect(messages(page)).to_have_count(4)
    queued = messages(page).last
    await expect(queued).to_contain_text("Waits for its turn.")
    async with page.expect_response("**/CancelReply"):
        await queued.get_by_role("button", name="Cancel").click()
    await expect(queued).to_contain_text("Stopped")
    gate.set()
    await expect(messages(page).nth(1)).to_contain_text("The first reply.")


async def test_a_failure_is_told_and_tried_again(
    site: Site, alice: Caller, context: BrowserContext
) -> None:
    site.colloquy.provider.script(Answer(status=401), Answer(pieces=["Now it works."]))
    page = await open_conversation(context, (await alice.create()).id)
    await send(page, "Hello")
    reply = messages(page).last
    await expect(reply).to_contain_text("did not accept this server's API key")
    await reply.get_by_role("button", name="Try again").click()
    await expect(text_of(messages(page).last)).to_have_text("Now it works.")
    await expect(messages(page)).to_have_count(2)


async def test_what_was_cut_off_says_so(site: Site, alice: Caller, context: BrowserContext) -> None:
    site.colloquy.provider.script(Answer(pieces=["Cut"], finish="length"))
    page = await open_conversation(context, (await alice.create()).id)
    await send(page, "Hello")
    await expect(messages(page).last).to_contain_text("Cut off at the model")


async def test_a_message_is_edited_and_sent_again(
    site: Site, alice: Caller, context: BrowserContext
) -> None:
    answers(site, "One", "Two")
    page = await open_conversation(context, (await alice.create()).id)
    await send(page, "First words")
    await expect(text_of(messages(page).last)).to_have_text("One")
    await messages(page).first.hover()
    await messages(page).first.get_by_role("button", name="Edit and send again").click()
    await expect(text_input(page)).to_have_value("First words")
    await expect(text_input(page)).to_be_focused()
    await send(page, "Other words")
    await expect(messages(page)).to_have_count(4)
    await expect(text_of(messages(page).nth(2))).to_have_text("Other words")


async def test_a_reply_is_rated_with_a_comment(
    site: Site, alice: Caller, context: BrowserContext
) -> None:
    answers(site, "A reply")
    conversation_id = (await alice.create()).id
    page = await open_conversation(context, conversation_id)
    await send(page, "Hello")
    reply = messages(page).last
    bad = reply.get_by_role("button", name="Bad reply")
    await bad.click()
    await expect(bad).to_have_attribute("aria-pressed", "true")
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Comment").fill("Too short")
    async with page.expect_response("**/RateReply"):
        await dialog.get_by_role("button", name="Save").click()
    await expect(dialog).to_have_count(0)
    # The server has it: another page shows it.
    other = await open_conversation(await site.visitor(alice), conversation_id)
    await expect(messages(other).last.get_by_role("button", name="Bad reply")).to_have_attribute(
        "aria-pressed", "true"
    )
    [_, stored] = await alice.at(site.colloquy).history(conversation_id)
    assert (stored.rating, stored.rating_comment) == (resources.RATING_BAD, "Too short")
    await bad.click()
    await expect(bad).to_have_attribute("aria-pressed", "false")


async def test_a_message_is_deleted_after_a_question(
    site: Site, alice: Caller, context: BrowserContext
) -> None:
    answers(site, "One", "Two")
    page = await open_conversation(context, (await alice.create()).id)
    await say(page, "First", "Second")
    await expect(messages(page)).to_have_count(4)
    await do(messages(page).first, "More", "Delete")
    await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    await expect(messages(page)).to_have_count(4)
    await do(messages(page).first, "More", "Delete")
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(messages(page)).to_have_count(2)
    await expect(text_of(messages(page).first)).to_have_text("Second")


async def test_what_a_model_was_given_can_be_looked_up(
    site: Site, alice: Caller, context: BrowserContext
) -> None:
    answers(site, "A reply")
    page = await open_conversation(context, (await alice.create()).id)
    await say(page, "Hello")
    await do(messages(page).last, "More", "Details")
    dialog = page.get_by_role("dialog")
    for words in ("test-model", "The model was done", "1 message,", "Nothing was left out."):
        await expect(dialog).to_contain_text(words)
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)


async def test_the_title_is_changed_in_its_place(
    site: Site, alice: Caller, context: BrowserContext
) -> None:
    conversation_id = (await alice.create(title="Old")).id
    page = await open_conversation(context, conversation_id)
    heading = page.get_by_role("main").get_by_role("heading", level=1)
    await heading.get_by_role("button", name="Old").click()
    await page.get_by_label("Title", exact=True).fill("New")
    async with page.expect_response("**/UpdateConversation"):
        await page.keyboard.press("Enter")
    await expect(heading).to_have_text("New")
    other = await open_conversation(await site.visitor(alice), conversation_id)
    await expect(other.get_by_role("main").get_by_role("heading", level=1)).to_have_text("New")
    await heading.get_by_role("button").click()
    await page.get_by_label("Title", exact=True).fill("Not this")
    await page.keyboard.press("Escape")
    await expect(heading).to_have_text("New")


async def test_messages_are_walked_through_by_keyboard(
    site: Site, alice: Caller, context: BrowserContext
) -> None:
    answers(site, "One", "Two")
    page = await open_conversation(context, (await alice.create()).id)
    await say(page, "First", "Second")
    await messages(page).last.focus()
    await page.keyboard.press("ArrowUp")
    await expect(messages(page).nth(2)).to_be_focused()
    await page.keyboard.press("Home")
    await expect(messages(page).first).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(text_input(page)).to_be_focused()


async def test_code_is_coloured_and_formulas_are_drawn(
    site: Site, alice: Caller, context: BrowserContext
) -> None:
    answers(site, "```python\nx = 1  # one\n```\n\n$$\n\\frac{a}{b}\n$$\n")
    page = await open_conversation(context, (await alice.create()).id)
    await send(page, "Show me")
    reply = messages(page).last
    await expect(reply.locator(".code-comment")).to_have_text("# one")
    await expect(reply.locator("math mfrac")).to_be_visible()

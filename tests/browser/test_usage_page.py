"""What the page tells of budgets and usage, of who answered instead, and of when it is deleted.

What the server would say of it is put into its answers here: how it comes about is the server's.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from datetime import UTC, datetime
from typing import TypeVar

from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from google.protobuf.message import Message
from playwright.async_api import BrowserContext, Page, Request, Route, expect

from tests.browser.indexing import index_of, people
from tests.browser.shared_browser import SHARED_LOOP
from tests.browser.talking import messages, open_conversation, send, shown, signed_in, text_input
from tests.browser.test_accessible import found_by_axe
from tests.browser.visitors import Visitors
from tests.fakes.door import budget_exceeded
from tests.fleets import ANY
from tests.harness import Colloquy

pytestmark = [ANY, SHARED_LOOP]

Answer = TypeVar("Answer", bound=Message)

MONTH, DAY = resources.Budget.PERIOD_MONTH, resources.Budget.PERIOD_DAY
USD, TOKENS = resources.Budget.UNIT_USD, resources.Budget.UNIT_TOKENS
USED = [
    resources.UsageRow(
        model="large-model",
        replies=1_204,
        input_tokens=3_456_789,
        output_tokens=98_765,
        cost_usd=41.2,
        estimated_tokens=310,
    ),
    resources.UsageRow(model="small-model", replies=3, input_tokens=900, cost_usd=0.004),
]


def budgets_for(user_id: str) -> list[resources.Budget]:
    """Budgets of the account, of this user and of another one."""
    budgets = [
        resources.Budget(id="1", limit=50, used=41.2, reserved=0.05, unit=USD, period=MONTH),
        resources.Budget(id="2", limit=9, used=9, unit=USD, period=DAY, user_id=user_id),
        resources.Budget(id="3", limit=70, unit=USD, period=MONTH, user_id="somebody else"),
        resources.Budget(
            id="4", limit=5e6, used=4.2e6, unit=TOKENS, period=MONTH, model="large-model"
        ),
    ]
    for budget in budgets:
        budget.renew_time.FromDatetime(datetime(2026, 12, 1, tzinfo=UTC))
    return budgets


async def show_usage(page: Page) -> list[api.GetUsageRequest]:
    """Has the server tell what was used; returns what it is asked."""
    asked: list[api.GetUsageRequest] = []

    async def tell(route: Route) -> None:
        body = route.request.post_data_buffer or b""
        asked.append(api.GetUsageRequest.FromString(body))
        told = api.GetUsageResponse(rows=USED, budgets=budgets_for(asked[-1].user_id))
        await route.fulfill(content_type="application/proto", body=told.SerializeToString())

    await page.route("**/GetUsage", tell)
    return asked


async def test_people_see_what_they_used_and_the_budgets_that_hold_for_them(
    colloquy: Colloquy, visitors: Visitors
) -> None:
    [ann] = await people(colloquy, "Ann")
    me = (await ann.create(title="Hers")).creator
    page = await index_of(visitors, colloquy, ann, bypass_csp=True)
    asked = await show_usage(page)
    await page.get_by_role("button", name="Your account").click()
    await page.get_by_role("menuitem", name="Usage").click()
    dialog = page.get_by_role("dialog", name="Your usage this month")
    rows = dialog.get_by_role("row")
    await expect(rows).to_have_text(
        [
            re.compile(r"Model\s*Replies\s*Read\s*Wrote\s*Cost"),
            re.compile(r"large-model\s*1,204\s*3.5M\s*99K\s*\$41.20"),
            re.compile(r"small-model\s*3\s*900\s*0\s*\$0.004"),
            re.compile(r"In all\s*1,207\s*3.5M\s*99K\s*\$41.20"),
        ]
    )
    await expect(dialog.get_by_text("310 of the tokens are estimated")).to_be_visible()
    assert [request.user_id for request in asked] == [me.id]
    await expect(dialog.get_by_role("meter")).to_have_count(3)
    meter = dialog.get_by_role("meter", name="$9.00 a day for you")
    await expect(meter).to_have_attribute("aria-valuetext", "$9.00 used, 100%")
    for theme in ("light", "dark"):
        await page.emulate_media(color_scheme=theme)
        assert await found_by_axe(page) == []


async def test_a_prompt_that_a_budget_refuses_is_kept_and_can_be_sent_again(
    colloquy: Colloquy, visitors: Visitors
) -> None:
    caller = await colloquy.account("Acme")
    context = await signed_in(visitors, colloquy.app.web_url, caller)
    page = await open_conversation(context, (await caller.create()).id)
    tried: list[Request] = []

    async def refuse(route: Route) -> None:
        tried.append(route.request)
        await route.fulfill(content_type="application/connect+proto", body=_refused())

    await page.route("**/SendMessage", refuse)
    await send(page, "Hello")
    alert = page.get_by_role("alert")
    await expect(alert).to_contain_text("This was not sent. This account may use $50.00 a month")
    await expect(alert).to_contain_text(re.compile(r"In your time: \w+day, .*20\d\d"))
    await expect(text_input(page)).to_have_value("Hello")
    await page.reload()
    await expect(text_input(page)).to_have_value("Hello")
    await page.unroute("**/SendMessage")
    await text_input(page).press("Enter")
    await expect(messages(page)).to_have_count(2)
    assert ((await shown(page))[0][1], len(tried)) == ("Hello", 1)


async def test_who_answered_instead_and_when_it_is_deleted_is_told(
    colloquy: Colloquy, visitors: Visitors
) -> None:
    caller = await colloquy.account("Acme")
    made = await caller.create()
    await caller.send(made.id, "Hello").reply()
    context = await signed_in(visitors, colloquy.app.web_url, caller)
    await _change_answers(context)
    page = await open_conversation(context, made.id)
    await expect(messages(page).last).to_contain_text(
        "Answered by test-model, because large-model could not."
    )
    await page.get_by_role("button", name="More about this conversation").click()
    await page.get_by_role("menuitem", name="settings").click()
    await expect(page.get_by_role("dialog")).to_contain_text(
        re.compile(r"is deleted, with all that is in it, on \w+day, .*2027")
    )


async def _change_answers(context: BrowserContext) -> None:
    """Has replies say that another model was asked, and the conversation that it expires."""

    async def reply(route: Route) -> None:
        answer = await _fetched(route, api.ListMessagesResponse())
        for message in answer.messages:
            message.requested_model = "large-model" if message.model else ""
        await route.fulfill(content_type="application/proto", body=answer.SerializeToString())

    async def expiry(route: Route) -> None:
        answer = await _fetched(route, api.GetConversationResponse())
        answer.conversation.expire_time.FromDatetime(datetime(2027, 3, 1, tzinfo=UTC))
        await route.fulfill(content_type="application/proto", body=answer.SerializeToString())

    await context.route("**/ListMessages", reply)
    await context.route("**/GetConversation", expiry)


async def _fetched(route: Route, answer: Answer) -> Answer:
    answer.ParseFromString(await (await route.fetch()).body())
    return answer


def _refused() -> bytes:
    """The end of a stream, as Connect has it, that says that a budget is used up."""
    status = budget_exceeded()
    details = [
        {"type": one.type_url.rpartition("/")[2], "value": _base64(one.value)}
        for one in status.details
    ]
    error = {"code": "resource_exhausted", "message": status.message, "details": details}
    end = json.dumps({"error": error}).encode()
    return struct.pack(">BI", 2, len(end)) + end


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode().rstrip("=")

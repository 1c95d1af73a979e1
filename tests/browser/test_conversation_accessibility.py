"""axe finds nothing to complain about in a conversation, its menus and dialogs, light and dark,
wide and on a phone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.browser.shared_browser import SHARED_LOOP
from tests.browser.talking import (
    Site,
    messages,
    open_conversation,
    send,
    send_button,
    text_input,
)
from tests.fakes.provider import Answer
from tests.harness import Caller

pytestmark = SHARED_LOOP

ROOT = Path(__file__).resolve().parents[2]
AXE = (ROOT / "clients/node_modules/axe-core/axe.min.js").read_text

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}

RICH = """# A heading

Some **text** with a [link](https://example.org/), `code` and $x^2$.

- [x] done
- [ ] to do

| a | b |
|---|--:|
| 1 | 2 |

```python
def f(x: int) -> str:  # a comment
    return "text"
```

> A quote
"""


@pytest_asyncio.fixture(loop_scope="session")
async def alice(site: Site) -> Caller:
    """A service's key."""
    return await site.colloquy.account("alice")


async def complaints(page: Page) -> list[tuple[str, list[str]]]:
    """What axe finds: each rule, and where it is broken."""
    found: dict[str, Any] = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        (one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found["violations"]
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_a_conversation_is_accessible(site: Site, alice: Caller, theme: str) -> None:
    site.colloquy.provider.script(Answer(pieces=[RICH]), Answer(status=401))
    context = await site.visitor(alice, color_scheme=theme, reduced_motion="reduce")
    page = await open_conversation(context, (await alice.create(title="A title")).id)
    await page.evaluate(AXE())
    await send(page, "Hello with `code`")
    await expect(messages(page).nth(1).locator(".code-comment")).to_be_visible()
    await send(page, "This one fails")
    await expect(messages(page).last).to_have_attribute("data-state", "4")
    assert await complaints(page) == []
    await messages(page).nth(1).hover()
    await messages(page).nth(1).get_by_role("button", name="More", exact=True).click()
    assert await complaints(page) == []
    await page.get_by_role("menuitem", name="Details").click()
    await expect(page.get_by_role("dialog")).to_contain_text("Nothing was left out.")
    assert await complaints(page) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("device", [{}, PHONE], ids=["wide", "phone"])
async def test_a_reply_that_is_written_and_what_waits_are_accessible(
    site: Site, alice: Caller, device: dict[str, Any], theme: str
) -> None:
    gate = asyncio.Event()
    site.colloquy.provider.script(Answer(pieces=[RICH, "The end"], gate_after=1, gate=gate))
    context = await site.visitor(alice, color_scheme=theme, reduced_motion="reduce", **device)
    page = await open_conversation(context, (await alice.create(title="A title")).id)
    await page.evaluate(AXE())
    for text in ("The one that is answered", "The one that waits"):
        await text_input(page).fill(text)
        await send_button(page).click()
        await expect(messages(page).filter(has_text=text)).to_be_visible()
    await expect(messages(page).nth(1).locator(".code-comment")).to_be_visible()
    await expect(messages(page).nth(3)).to_contain_text("Waits for its turn.")
    await text_input(page).fill("The next one")
    await expect(page.get_by_role("button", name="More ways to send")).to_be_visible()
    assert await complaints(page) == []
    gate.set()

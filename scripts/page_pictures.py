"""Pictures of the page: a team's conversations at a real server, in a real browser."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy_server.database.engine import sync_engine
from colloquy_server.database.models import Conversation
from google.protobuf import field_mask_pb2
from PIL import Image, ImageDraw
from playwright.async_api import Browser, Page, expect
from sqlalchemy import select, update

from tests.browser.indexing import people
from tests.browser.talking import messages, open_conversation, signed_in
from tests.browser.visitors import Visitors
from tests.fakes.provider import Answer
from tests.harness import Caller, Colloquy
from tests.uploads import upload

WIDE = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 780}
GAP = 8
"""Pixels between two phones."""

TITLE = "Why is checkout slow on Fridays?"
ANSWER = """The latency follows the weekly newsletter: it goes out at **10:00**, and four minutes
later every checkout waits for the same query.

| | Thursday | Friday |
| --- | ---: | ---: |
| orders per minute | 240 | 910 |
| p95 of checkout | 180 ms | 2.4 s |
| rows read per order | 12 | 41,000 |

So it is not the load alone: each order reads the whole table of vouchers."""
INDEX = """An index on what the query asks for, built without stopping writes:

```sql
CREATE INDEX CONCURRENTLY vouchers_by_code
    ON vouchers (shop_id, lower(code))
    WHERE redeemed_at IS NULL;
```

With it each order reads **one row**. Nothing else has to change."""

OTHERS = (
    ("Onboarding guide for new colleagues", 2),
    ("Interview questions for the data team", 1),
    ("Translate the pricing page", 2),
    ("Minutes of Monday's planning", 0),
    ("Postmortem: mails sent twice", 1),
    ("Names for the new warehouse tool", 0),
    ("Release notes for 2.4", 1),
    ("Which test is flaky?", 1),
)
"""Titles, and by whom: places in the team. The last ones are the newest."""
PINNED = {"Onboarding guide for new colleagues", "Release notes for 2.4"}
UNREAD = {"Which test is flaky?", "Postmortem: mails sent twice"}


async def take_pictures(colloquy: Colloquy, browser: Browser, folder: Path) -> None:
    """Writes page.png, page-dark.png and page-phone.png into a folder."""
    visitors = Visitors(browser)
    team = await people(colloquy, "Mia", "Noah", "Lena")
    conversation_id = await talk(colloquy, team)
    mia = team[0]
    for name, scheme, which in (("page", "light", "first"), ("page-dark", "dark", "last")):
        context = await signed_in(
            visitors, colloquy.app.web_url, mia,
            viewport=WIDE, device_scale_factor=1.5, color_scheme=scheme, reduced_motion="reduce",
            timezone_id=morning(),
        )  # fmt: skip
        tab = await open_conversation(context, conversation_id)
        await getattr(messages(tab), which).scroll_into_view_if_needed()
        save(opened(await taken(tab)), folder / f"{name}.png")
    context = await signed_in(
        visitors, colloquy.app.web_url, mia,
        viewport=PHONE, device_scale_factor=2, is_mobile=True, has_touch=True,
        reduced_motion="reduce", timezone_id=morning(),
    )  # fmt: skip
    tab = await open_conversation(context, conversation_id)
    conversation = opened(await taken(tab))
    await tab.goto("/")
    await expect(tab.locator("nav").get_by_text(TITLE)).to_be_visible()
    index = opened(await tab.screenshot())
    save(side_by_side(index, conversation), folder / "page-phone.png")


async def talk(colloquy: Colloquy, team: list[Caller]) -> str:
    """Has a team talk for a while; returns the conversation to look at."""
    mia, noah, _ = team
    for title, by in OTHERS:
        conversation = await team[by].create(title=title)
        colloquy.provider.script(Answer(pieces=["Here is a first draft."]))
        reply = await team[by].send(conversation.id, title).reply()
        if title in PINNED:
            pinned = resources.Conversation(id=conversation.id, pinned=True)
            mask = field_mask_pb2.FieldMask(paths=["pinned"])
            pin = api.UpdateConversationRequest(conversation=pinned, update_mask=mask)
            await mia.call("UpdateConversation", pin)
        if title not in UNREAD:
            read = api.MarkReadRequest(conversation_id=conversation.id, message_id=reply.id)
            await mia.call("MarkRead", read)
    grow_old(colloquy)
    conversation = await mia.create(title=TITLE)
    picture = await upload(mia, chart(), "latency.png")
    for caller, text, files, answer in (
        (mia, "Since the spring checkout is slow on Fridays. What do you see?", [picture], ANSWER),
        (noah, "Which index would help, without downtime?", [], INDEX),
    ):
        colloquy.provider.script(Answer(pieces=re.findall(r"\S+\s*", answer)))
        ids = [file.id for file in files]
        reply = await caller.send(conversation.id, text, attachment_ids=ids).reply()
        assert reply.state == resources.Message.STATE_COMPLETED
    return conversation.id


def grow_old(colloquy: Colloquy) -> None:
    """Makes the conversations so far hours and days older, in their order."""
    with sync_engine(colloquy.database_url).begin() as connection:
        newest_first = select(Conversation.id).order_by(Conversation.id.desc())
        for place, conversation_id in enumerate(connection.scalars(newest_first).all()):
            age = 19 * 60_000_000 * 3**place
            times = {
                column: column - age
                for column in (Conversation.last_message_time, Conversation.activity_time)
            }
            connection.execute(
                update(Conversation).where(Conversation.id == conversation_id).values(times)
            )


async def taken(tab: Page) -> bytes:
    """The tab, when all of a conversation is drawn: also what colours code."""
    await expect(messages(tab).last.locator("pre span").first).to_be_visible()
    await tab.wait_for_function(
        "() => [...document.images].every((image) => image.complete && image.naturalWidth > 0)"
    )
    return await tab.screenshot()


def morning() -> str:
    """Where it is ten o'clock now."""
    ahead = 10 - datetime.now(UTC).hour
    return f"Etc/GMT{-(ahead if ahead >= -12 else ahead + 24):+d}"


def chart() -> bytes:
    """A line that goes up once a week."""
    image = Image.new("RGB", (1200, 500), "#ffffff")
    draw = ImageDraw.Draw(image)
    for level in range(1, 5):
        draw.line([(60, 90 * level), (1160, 90 * level)], "#e4e4ea", 2)
    points = []
    for hour in range(21 * 24):
        day, of_day = divmod(hour, 24)
        high = 300 if day % 7 == 4 and 9 < of_day < 19 else 0
        points.append((60 + hour * 1100 / (21 * 24), 430 - high - (hour * 7919 % 37)))
    draw.line(points, "#4f5bd5", 4, joint="curve")
    written = io.BytesIO()
    image.save(written, "PNG")
    return written.getvalue()


def side_by_side(*images: Image.Image) -> Image.Image:
    """Several pictures of one height as one, with a line between them."""
    width = sum(image.width for image in images) + GAP * (len(images) - 1)
    whole = Image.new("RGB", (width, images[0].height), "#9a9aa5")
    left = 0
    for image in images:
        whole.paste(image, (left, 0))
        left += image.width + GAP
    return whole


def opened(data: bytes) -> Image.Image:
    """A screenshot."""
    return Image.open(io.BytesIO(data)).convert("RGB")


def save(image: Image.Image, path: Path) -> None:
    """Writes a PNG of its 256 most frequent colours: all of its areas, and most of its edges."""
    counted: Any = image.getcolors(image.width * image.height)
    most = sorted(counted, reverse=True)[:256]
    palette = Image.new("P", (1, 1))
    palette.putpalette([value for _, color in most for value in color])
    image.quantize(palette=palette, dither=Image.Dither.NONE).save(path, optimize=True)

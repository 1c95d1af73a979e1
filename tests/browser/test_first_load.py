"""How much the browser loads until a conversation's page is shown, and what it loads later."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web
from playwright.async_api import expect

from tests.browser.shared_browser import SHARED_LOOP
from tests.browser.talking import messages, open_conversation, signed_in
from tests.browser.visitors import Visitors
from tests.fakes.provider import Answer
from tests.fleets import ALONE
from tests.harness import Colloquy

pytestmark = SHARED_LOOP

MOST = 150_000
"""Bytes of files until a conversation can be read and written in."""

OF_THE_CONNECTION = {"connection", "keep-alive", "transfer-encoding"}

CODE_AND_MATH = "A sum: $a^2$\n\n```python\nprint(1)\n```\n"

NAMES = "&rarr; &CounterClockwiseContourIntegral; &nbsp;&lt; &notit; &nosuchname; `&amp;`"


class Between:
    """Stands between browser and server, and counts the bytes of each file's body as it is sent.

    What a browser says of its own requests leaves out those of workers.
    """

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self._session = session
        self._server = server
        self.files: Counter[str] = Counter()
        """Bytes by path, of all that is no call."""
        self.url = ""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Passes a request on, and its answer back."""
        asked = self._session.request(
            request.method,
            self._server + request.path_qs,
            headers=request.headers,
            data=await request.read() or None,
            allow_redirects=False,
        )
        async with asked as given:
            kept = [(n, v) for n, v in given.headers.items() if n.lower() not in OF_THE_CONNECTION]
            answer = web.StreamResponse(status=given.status, headers=kept)
            await answer.prepare(request)
            with contextlib.suppress(ConnectionError):  # the page was closed
                async for piece in given.content.iter_any():
                    if request.method == "GET" and request.path != "/session/methods":
                        self.files[request.path] += len(piece)
                    await answer.write(piece)
        return answer


@contextlib.asynccontextmanager
async def between(server: str) -> AsyncIterator[Between]:
    """Somebody between, as long as this lasts."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        middle = Between(session, server)
        runner = web.ServerRunner(
            web.Server(middle.answer, handler_cancellation=True), shutdown_timeout=0
        )
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        [(host, port)] = runner.addresses
        middle.url = f"http://{host}:{port}"
        try:
            yield middle
        finally:
            await runner.cleanup()


@ALONE
async def test_a_conversation_is_shown_after_150_kb(colloquy: Colloquy, visitors: Visitors) -> None:
    alice = await colloquy.account("alice")
    conversation = await alice.create()
    short = Answer(pieces=["A *short* answer"])
    colloquy.provider.script(short, short, Answer(pieces=[CODE_AND_MATH]))
    await alice.send(conversation.id, "Hello").reply()
    async with between(colloquy.app.web_url) as middle:
        context = await signed_in(visitors, middle.url, alice)
        page = await open_conversation(context, conversation.id)
        await expect(messages(page).last.locator("em")).to_have_text("short")
        # The worker runs: it is what hears that something is said by somebody else.
        await alice.send(conversation.id, "And now?").reply()
        await expect(messages(page)).to_have_count(4)
        await expect(messages(page).last.locator("em")).to_have_text("short")
        first = dict(middle.files)
        # What colours code and sets formulas comes when there are any.
        await alice.send(conversation.id, "Code and a formula, please").reply()
        await expect(messages(page).last.locator("math")).to_be_visible()
        await expect(messages(page).last.locator("pre")).to_contain_text("print(1)")
        later = middle.files.keys() - first.keys()
        await context.close()
    assert any("/worker-" in path for path in first), first
    assert any("/katex-" in path for path in later), later
    assert sum(first.values()) < MOST, first


@ALONE
async def test_characters_have_all_of_htmls_names(colloquy: Colloquy, visitors: Visitors) -> None:
    alice = await colloquy.account("alice")
    conversation = await alice.create()
    colloquy.provider.script(Answer(pieces=[NAMES]))
    await alice.send(conversation.id, "Hello").reply()
    context = await signed_in(visitors, colloquy.app.web_url, alice)
    page = await open_conversation(context, conversation.id)
    text = messages(page).last.locator("[data-part=text]")
    await expect(text).to_contain_text("→ ∳")
    assert await text.text_content() == "→ ∳ \N{NO-BREAK SPACE}< &notit; &nosuchname; &amp;"

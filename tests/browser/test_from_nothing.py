"""From nothing: `colloquy serve --dev` prints a link, and whoever opens it can talk."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from colloquy.api import resources_pb2 as resources
from playwright.async_api import Page, expect

from tests.browser.shared_browser import SHARED_LOOP
from tests.browser.talking import messages, send, shown, text_input
from tests.browser.visitors import Visitors
from tests.fakes import samples
from tests.fakes.provider import Answer
from tests.harness import Caller, Colloquy

pytestmark = [pytest.mark.timeout(540), SHARED_LOOP]

WORDS = tuple(f"word{number} " for number in range(40))

# A picture in the clipboard, as a press of Ctrl-V brings it.
PASTE = """(area, bytes) => {
    const clipboard = new DataTransfer();
    clipboard.items.add(new File([new Uint8Array(bytes)], "image.png", { type: "image/png" }));
    area.dispatchEvent(new ClipboardEvent("paste", {
        clipboardData: clipboard, bubbles: true, cancelable: true
    }));
}"""


class Started:
    """A server that was started from a folder, by its command."""

    def __init__(self, folder: Path, link: str, address: str) -> None:
        self.folder = folder
        self.link = link
        self.address = address

    @property
    def key(self) -> str:
        """The key that the server wrote."""
        return (self.folder / "data" / "dev.key").read_text().strip()

    async def link_for(self, name: str) -> str:
        """What `colloquy link --as` prints."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "colloquy", "link", "--as", name),
            cwd=self.folder,
            env=surroundings(CONVERSATION_ADDRESS=self.address),
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0
        return output.decode().split()[-1]


def surroundings(**more: str) -> dict[str, str]:
    """What a program knows: nothing of this machine's keys and settings."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        **more,
    }


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty folder to start a server in."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@contextlib.asynccontextmanager
async def started(folder: Path, **settings: str) -> AsyncIterator[Started]:
    """`colloquy serve --dev` in a folder, until the end of this."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "colloquy", "serve", "--dev"),
        cwd=folder,
        env=surroundings(
            GRPC_ADDRESS="127.0.0.1:0",
            HTTP_ADDRESS="127.0.0.1:0",
            LOG_FORMAT="json",
            **settings,
        ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        address = link = ""
        while not link:
            line = await process.stdout.readline()
            assert line, "the server ended"
            entry = json.loads(line)
            address = entry.get("address", address)
            link = entry.get("url", "")
        yield Started(folder, link, address)
    finally:
        process.terminate()
        await process.communicate()
    assert process.returncode == 0


async def new_conversation(page: Page) -> str:
    """Begins one as people do, and returns its address."""
    await page.get_by_role("button", name="New conversation").first.click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_role("button", name="Start").click()
    await expect(text_input(page)).to_be_visible()
    return page.url


async def open_link(visitors: Visitors, link: str) -> Page:
    """Somebody's browser, by a link that signs in."""
    visitors.expect("Failed to load resource")  # nobody is signed in yet
    page = await visitors.page()
    await page.goto(link)
    await expect(page.get_by_role("navigation", name="Conversations")).to_be_visible()
    assert "code" not in page.url
    return page


async def test_a_question_is_answered_by_the_model_that_comes_with_it(
    tmp_path: Path, home: Path, visitors: Visitors
) -> None:
    """Two people: one asks, both see the same text."""
    async with started(home) as server, Colloquy(tmp_path) as colloquy:
        asking = await open_link(visitors, server.link)
        url = await new_conversation(asking)
        watching = await open_link(visitors, await server.link_for("ann"))
        await watching.goto(url)
        await expect(text_input(watching)).to_be_visible()
        await send(asking, "Say hello.")
        for page in (asking, watching):
            await expect(messages(page)).to_have_count(2)  # the first of which is whole at once
            await expect(messages(page).last).to_have_attribute(
                "data-state", str(resources.Message.STATE_COMPLETED), timeout=240_000
            )
        caller = Caller(colloquy.channel_to(server.address), server.key)
        question, reply = await caller.history(url.rpartition("/")[2])
        assert reply.content.strip()
        assert question.author.external_id != "ann"
        at_asking, at_watching = await shown(asking), await shown(watching)
        assert at_asking == at_watching
        assert [message_id for message_id, _ in at_asking] == [question.id, reply.id]


async def test_another_user_watches_the_same_text_grow_and_files_reach_the_model(
    tmp_path: Path, home: Path, visitors: Visitors
) -> None:
    gate = asyncio.Event()
    async with Colloquy(tmp_path) as colloquy:
        colloquy.provider.script(Answer(pieces=WORDS, gate_after=20, gate=gate))
        models, double = str(colloquy.models_file), "the-key-of-the-double"
        async with started(home, AI_MODELS_FILE=models, DOUBLE_KEY=double) as server:
            asking = await open_link(visitors, server.link)
            url = await new_conversation(asking)
            watching = await open_link(visitors, await server.link_for("ann"))
            await watching.goto(url)
            await expect(text_input(watching)).to_be_visible()

            await asking.locator("input[type=file]").set_input_files(
                {
                    "name": "plan.pdf",
                    "mimeType": "application/pdf",
                    "buffer": samples.pdf("The plan is to fly at dawn"),
                }
            )
            await text_input(asking).evaluate(PASTE, list(samples.png(16, 16)))
            files = asking.get_by_role("list", name="Files of this message").get_by_role("listitem")
            await expect(files).to_have_count(2)
            await send(asking, "What do these say?")

            for page in (asking, watching):
                await expect(messages(page).last).to_contain_text("word19")
            half = "".join(WORDS[:20]).strip()
            assert [(await shown(page))[-1][1] for page in (asking, watching)] == [half, half]
            gate.set()
            for page in (asking, watching):
                await expect(messages(page).last).to_contain_text("word39")
            assert await shown(asking) == await shown(watching)
            assert (await shown(asking))[-1][1] == "".join(WORDS).strip()
            for page in (asking, watching):
                await expect(messages(page).first).to_contain_text("plan.pdf")

        [asked] = colloquy.provider.reply_requests
        content = asked.messages[-1]["content"]
        told = json.dumps(content)
        assert "The plan is to fly at dawn" in told or "plan.pdf" in told
        assert [part["type"] for part in content].count("image_url") >= 1
        assert "What do these say?" in told

"""What is deleted in Slack is in no file any more, neither of the bot nor of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest

from tests.file_search import in_files
from tests.harness import Colloquy
from tests.slack_harness import SlackStage

ASKED, OVERHEARD, STAYS = "Askedmark", "Overheardmark", "Staysmark"


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[SlackStage]:
    async with Colloquy(tmp_path) as colloquy, SlackStage(colloquy) as running:
        yield running


async def until_gone(stage: SlackStage, words: Collection[str]) -> None:
    while await in_files(stage.colloquy.folder, words):  # noqa: ASYNC110 - nobody tells of a file
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("is_away", [False, True], ids=["at once", "when the server is back"])
async def test_no_file_holds_what_was_deleted_in_slack(stage: SlackStage, is_away: bool) -> None:
    asked = stage.alice.post(stage.general, f"{ASKED}, please", mention=True)
    await stage.answered(stage.general, asked.ts)
    stage.bob.post(stage.general, STAYS, thread=asked, mention=True)
    await stage.answered(stage.general, asked.ts, count=2)
    aside = stage.bob.post(stage.general, f"<@{stage.alice.id}> {OVERHEARD}", thread=asked)
    await aside.settled()
    folder = stage.colloquy.folder
    assert await in_files(folder, {ASKED, OVERHEARD, STAYS}) == {ASKED, OVERHEARD, STAYS}
    if is_away:
        port = stage.colloquy.app.port
        await stage.colloquy.stop()
    for message in (aside, asked):
        deleted = stage.alice.delete(message)
        assert deleted is not None
        await deleted.settled()
    if is_away:
        await stage.stop()
        await stage.colloquy.start(grpc_address=f"127.0.0.1:{port}")
        await stage.start()
    await until_gone(stage, {ASKED, OVERHEARD})
    assert await in_files(folder, {STAYS}) == {STAYS}
    assert [message.content for message in await stage.stored(stage.thread(asked.ts))][::2] == [
        STAYS
    ]

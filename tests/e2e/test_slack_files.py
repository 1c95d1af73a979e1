"""Files that people share in Slack reach the model, and what cannot be read is said."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from colloquy import AsyncConversationClient, ColloquyError
from colloquy.api.resources_pb2 import Attachment
from colloquy.errors import DeadlineExceeded, ResourceExhausted, ServerError

from tests.fakes.slack import Upload
from tests.harness import Colloquy
from tests.slack_harness import SlackStage, words_of

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def pdf(words: str) -> bytes:
    """A PDF of one page with some words."""
    stream = f"BT /F1 24 Tf 72 700 Td ({words}) Tj ET".encode()
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources 6 0 R>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        b"<</Font<</F1 5 0 R>>>>",
    ]
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj" % number + body + b"endobj\n"
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    tail = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(out))
    return out + head + table + tail


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[SlackStage]:
    async with Colloquy(tmp_path) as colloquy, SlackStage(colloquy) as running:
        yield running


@pytest.mark.parametrize("connect", [False, True])
async def test_a_pdf_and_an_image_reach_the_model(stage: SlackStage, connect: bool) -> None:
    files = [
        Upload("report.pdf", pdf("The answer is forty-two"), connect=connect),
        Upload("dot 👩\u200d🚀.png", PNG, connect=connect),
    ]
    asked = stage.alice.post(stage.general, "What do these say?", mention=True, files=files)
    await stage.answered(stage.general, asked.ts)
    prompt, _ = await stage.stored(stage.thread(asked.ts))
    names = ["report.pdf", "dot 👩\u200d🚀.png"]
    assert [file.filename for file in prompt.attachments] == names
    told = str(stage.colloquy.provider.reply_requests[-1].messages)
    assert "The answer is forty-two" in told
    assert "data:image/png;base64," in told


async def test_a_file_without_words_is_a_question(stage: SlackStage) -> None:
    asked = stage.alice.post(stage.alice.direct, "", files=[Upload("dot.png", PNG)])
    await stage.answered(stage.alice.direct, asked.ts)
    prompt, _ = await stage.stored(stage.thread(asked.ts, stage.alice.direct))
    assert len(prompt.attachments) == 1
    assert "Alice" in prompt.content


async def test_slacks_login_page_is_not_taken_for_the_file(stage: SlackStage) -> None:
    stage.slack.workspace.scopes.discard("files:read")
    asked = stage.alice.post(
        stage.general, "What is it?", mention=True, files=[Upload("dot.png", PNG)]
    )
    (message,) = await stage.answered(stage.general, asked.ts)
    assert "files:read" in words_of(message)
    prompt, _ = await stage.stored(stage.thread(asked.ts))
    assert not prompt.attachments


@pytest.mark.parametrize("trouble", [(429, {"Retry-After": "1"}), (503, {})])
async def test_a_file_that_slack_does_not_send_at_once_is_asked_for_again(
    stage: SlackStage, trouble: tuple[int, dict[str, str]]
) -> None:
    stage.slack.download_troubles = [trouble]
    asked = stage.alice.post(
        stage.general, "What is it?", mention=True, files=[Upload("dot.png", PNG)]
    )
    (message,) = await stage.answered(stage.general, asked.ts)
    assert "could not read" not in words_of(message)
    prompt, _ = await stage.stored(stage.thread(asked.ts))
    assert [file.filename for file in prompt.attachments] == ["dot.png"]


async def test_a_file_that_slack_never_sends_is_said(stage: SlackStage) -> None:
    stage.slack.download_troubles = [(429, {"Retry-After": "3600"})]
    asked = stage.alice.post(
        stage.general, "What is it?", mention=True, files=[Upload("dot.png", PNG)]
    )
    (message,) = await stage.answered(stage.general, asked.ts)
    assert "could not read dot.png" in words_of(message)


async def test_files_are_not_fetched_for_a_server_that_is_away(stage: SlackStage) -> None:
    await stage.colloquy.stop()
    asked = stage.alice.post(
        stage.general, "What is it?", mention=True, files=[Upload("dot.png", PNG)]
    )
    told = "cannot reach"
    await stage.slack.wait_for(lambda: told in stage.slack.thread(stage.general, asked.ts))
    assert not stage.slack.downloads


async def test_a_large_file_may_take_longer_than_a_call(
    stage: SlackStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = stage.bot._session
    given: list[aiohttp.ClientTimeout] = []
    get = session.get

    def watched(url: str, **how: Any) -> Any:
        given.append(how.get("timeout", session.timeout))
        return get(url, **how)

    monkeypatch.setattr(session, "get", watched)
    asked = stage.alice.post(
        stage.general, "What is it?", mention=True, files=[Upload("dot.png", PNG)]
    )
    await stage.answered(stage.general, asked.ts)
    assert [(one.total, one.sock_read) for one in given] == [(None, 30.0)]


@pytest.mark.parametrize(
    "error",
    [
        DeadlineExceeded("it hangs"),
        ResourceExhausted("too many", retry_after=0.1),
        ServerError("a bug that comes and goes"),
    ],
)
async def test_a_passing_trouble_of_the_server_does_not_drop_a_file(
    stage: SlackStage, monkeypatch: pytest.MonkeyPatch, error: ColloquyError
) -> None:
    upload, tried = AsyncConversationClient.upload, []

    async def fail_first(client: AsyncConversationClient, *what: Any, **how: Any) -> Attachment:
        tried.append(how)
        if len(tried) == 1:
            raise error
        return await upload(client, *what, **how)

    monkeypatch.setattr(AsyncConversationClient, "upload", fail_first)
    asked = stage.alice.post(
        stage.general, "What is it?", mention=True, files=[Upload("dot.png", PNG)]
    )
    await stage.answered(stage.general, asked.ts)
    prompt, _ = await stage.stored(stage.thread(asked.ts))
    assert [file.filename for file in prompt.attachments] == ["dot.png"]

"""Files that people share in Slack reach the model, and what cannot be read is said."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

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
        Upload("dot.png", PNG, connect=connect),
    ]
    asked = stage.alice.post(stage.general, "What do these say?", mention=True, files=files)
    await stage.answered(stage.general, asked.ts)
    prompt, _ = await stage.stored(stage.thread(asked.ts))
    assert [file.filename for file in prompt.attachments] == ["report.pdf", "dot.png"]
    told = str(stage.colloquy.provider.reply_requests[-1].messages)
    assert "The answer is forty-two" in told
    assert base64.b64encode(PNG).decode()[:40] in told


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

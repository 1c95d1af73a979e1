"""The terminal client and a real server: files there and back, and conversations found again."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from colloquy.api import resources_pb2 as resources

from tests import fleets
from tests.e2e.talk import said
from tests.fakes import samples
from tests.harness import Caller, Colloquy, eventually

FILES = {
    "photo.jpg": samples.photo(),
    "letter.pdf": samples.pdf("Dear reader"),
    "report.docx": samples.docx("Profits rose"),
    "table 👩\u200d🚀.csv": samples.csv(),
    "memo.wav": samples.wav(),
}


async def run(colloquy: Colloquy, caller: Caller, folder: Path, *arguments: str) -> str:
    """Runs `colloquy` in a folder; what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "colloquy", *arguments),
        cwd=folder,
        env={
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "CONVERSATION_ADDRESS": f"127.0.0.1:{colloquy.app.port}",
            "CONVERSATION_API_KEY": caller.key,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


@fleets.ANY
async def test_files_go_with_a_question_and_come_out_with_an_export(
    colloquy: Colloquy, alice: Caller, tmp_path: Path
) -> None:
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    attach = [part for name in FILES for part in ("--attach", name)]
    await run(colloquy, alice, tmp_path, "send", "What is this?", "-m", "test-model", *attach)
    (asked,) = colloquy.provider.reply_requests[-1].messages
    kinds = [part["type"] for part in asked["content"]]
    assert kinds.count("image_url") == 1
    texts = "\n".join(part["text"] for part in asked["content"] if part["type"] == "text")
    for words in ("What is this?", "Dear reader", "Profits rose", "number,square", '"memo.wav"'):
        assert words in texts

    listed = await run(colloquy, alice, tmp_path, "list")
    conversation_id = listed.split("\t")[0]
    shown = await run(colloquy, alice, tmp_path, "show", conversation_id)
    assert "report.docx (application/vnd.openxmlformats-" in shown
    await run(colloquy, alice, tmp_path, "export", conversation_id, "--files", "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == FILES
    prompt, _ = await alice.history(conversation_id)
    kind = resources.Attachment
    assert [file.kind for file in prompt.attachments] == [
        kind.KIND_IMAGE, kind.KIND_DOCUMENT, kind.KIND_DOCUMENT, kind.KIND_DOCUMENT, kind.KIND_AUDIO
    ]  # fmt: skip


@fleets.ANY
async def test_a_conversation_goes_on_is_found_rated_and_deleted(
    colloquy: Colloquy, alice: Caller, tmp_path: Path
) -> None:
    async def colloquy_(*arguments: str) -> str:
        return await run(colloquy, alice, tmp_path, *arguments)

    await colloquy_("send", "About pears", "--system", "Be brief", "-m", "test-model")
    first = (await colloquy_("list")).split("\t")[0]
    await colloquy_("send", "About apples", "-m", "test-model")
    await colloquy_("send", "More on pears", "-c", first)
    await colloquy_("send", "And quinces", "--last")
    told = said(colloquy.provider.reply_requests[-1].body)
    assert told[0] == ("system", "Be brief")
    assert [text for role, text in told if role == "user"] == [
        "About pears",
        "More on pears",
        "And quinces",
    ]

    async def found() -> int:
        return len((await colloquy_("search", "pears", "-c", first)).splitlines())

    assert await eventually(found, 2)
    await colloquy_("rate", "bad", "--last", "--comment", "too long")
    *_, reply = await alice.history(first)
    assert (reply.rating, reply.rating_comment) == (resources.RATING_BAD, "too long")
    assert "*[rated bad: too long]*" in await colloquy_("show", first)
    await colloquy_("delete", first, "--yes")
    assert first not in await colloquy_("list")

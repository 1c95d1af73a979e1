"""Files that are too large, broken or made to do harm: refused or contained, and nobody else
waits for them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Any

import pytest
from colloquy.api import attachment_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy_server.files.extraction import Extractor, Unreadable

from tests import fleets
from tests.fakes import samples
from tests.fakes.provider import Answer
from tests.harness import Caller, Colloquy, ServerProcess
from tests.statuses import refused
from tests.uploads import count, download, parts, stored, upload

MB = 1_000_000

COMPLETED = resources.Message.STATE_COMPLETED


async def of(
    *requests: api.UploadAttachmentRequest,
) -> AsyncIterator[api.UploadAttachmentRequest]:
    for request in requests:
        yield request


async def send_up(caller: Caller, requests: AsyncIterator[api.UploadAttachmentRequest]) -> object:
    return await caller.attachments.UploadAttachment(requests, metadata=caller.metadata)


async def test_what_is_wrong_with_an_upload_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    async with Colloquy(tmp_path, max_attachment_bytes=100_000) as colloquy:
        alice = await colloquy.account()
        page = b"<!DOCTYPE html><html><script>alert(1)</script>"
        header = api.UploadAttachmentRequest(
            header=api.UploadAttachmentRequest.Header(filename="a.txt")
        )
        chunk = api.UploadAttachmentRequest(chunk=b"text")
        for requests, expected, word in [
            (parts(samples.noise(100_001)), "ATTACHMENT_TOO_LARGE", "100,000"),
            (parts(samples.zip_bomb()[:99_999], "a.docx"), "ATTACHMENT_UNSUPPORTED", "damaged"),
            (parts(samples.png(60_000, 60_000), "a.png"), "ATTACHMENT_UNSUPPORTED", "60,000"),
            (parts(samples.photo()[:300], "a.jpg"), "ATTACHMENT_UNSUPPORTED", "damaged"),
            (parts(page, "page.png"), "ATTACHMENT_UNSUPPORTED", "text/html"),
            (parts(b"no picture", "text.png"), "ATTACHMENT_UNSUPPORTED", "text/plain"),
            (parts(samples.photo(), "song.mp3"), "ATTACHMENT_UNSUPPORTED", "audio"),
            (parts(b"text", sha256="0" * 64), "INVALID_FIELD", "SHA-256"),
            (parts(b"text", sha256="xyz"), "INVALID_FIELD", "sha256"),
            (parts(b"text", "x" * 300), "INVALID_FIELD", "filename"),
            (parts(b"text", ""), "INVALID_FIELD", "filename"),
            (parts(b""), "INVALID_FIELD", "empty"),
            (of(chunk, header), "INVALID_FIELD", "header"),
            (of(header, chunk, header), "INVALID_FIELD", "chunk"),
            (of(header, api.UploadAttachmentRequest()), "INVALID_FIELD", "chunk"),
            (of(), "INVALID_FIELD", "header"),
        ]:
            refusal = await refused(send_up(alice, requests))
            assert refusal.status == "INVALID_ARGUMENT"
            assert (refusal.reason, word in refusal.message) == (expected, True), refusal
        assert stored(colloquy) == []
        assert await count(colloquy, "attachments", "blobs") == [0, 0]


@fleets.ANY
async def test_bytes_that_are_no_message_are_told_so(alice: Caller) -> None:
    name = "/conversation.v1.AttachmentService/UploadAttachment"
    call: Any = alice.channel.stream_unary(name)

    async def garbage() -> AsyncIterator[bytes]:
        yield b"\xff\xff"

    refusal = await refused(call(garbage(), metadata=alice.metadata))
    assert refusal.reason == "INVALID_FIELD"


@fleets.ANY
async def test_a_zip_bomb_is_refused_with_what_is_wrong_with_it(alice: Caller) -> None:
    refusal = await refused(upload(alice, samples.zip_bomb(), "report.docx"))
    assert refusal.reason == "ATTACHMENT_UNSUPPORTED"
    assert "unpacks to 512 MiB" in refusal.message
    archive = await upload(alice, samples.zip_of_zeros(), "logs.zip")  # is never unpacked
    assert archive.content_type == "application/zip"


async def test_a_file_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "deep.html"
    path.write_bytes(b"<html>" + b"<div>" * 500_000)
    with path.open("rb") as file, pytest.raises(Unreadable, match="takes too long"):
        await Extractor(timeout=0.2).text("a", file, "text/html")


async def test_a_reading_that_is_cancelled_ends_its_process(tmp_path: Path) -> None:
    path = tmp_path / "deep.html"
    path.write_bytes(b"<html>" + b"<div>" * 500_000)
    extractor = Extractor(processes=1)
    with path.open("rb") as file:
        task = asyncio.create_task(extractor.text("a", file, "text/html"))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        small = tmp_path / "small.html"
        small.write_text("<p>Hello")
        with small.open("rb") as other:
            assert (await extractor.text("a", other, "text/html")).beginning == "Hello"


async def test_a_look_at_a_file_does_not_wait_for_what_takes_long(tmp_path: Path) -> None:
    (tmp_path / "deep.html").write_bytes(b"<html>" + b"<div>" * 500_000)
    (tmp_path / "photo.jpg").write_bytes(samples.photo())
    extractor = Extractor(processes=1)
    with (tmp_path / "deep.html").open("rb") as deep, (tmp_path / "photo.jpg").open("rb") as photo:
        reading = asyncio.create_task(extractor.text("a", deep, "text/html"))
        await asyncio.sleep(0)
        assert (await extractor.inspect("b", photo, "image/jpeg")).width == 320
        assert not reading.done()
        reading.cancel()
        await asyncio.wait([reading])


async def test_a_small_file_does_not_wait_for_large_ones_of_the_same_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "large.html").write_bytes(b"<p>Large<!--" + b"x" * 1_000_000 + b"-->")
    (tmp_path / "small.html").write_bytes(b"<p>Small")
    extractor = Extractor(processes=1)
    run = extractor._run
    begun, gate = asyncio.Event(), asyncio.Event()

    async def held(task: str, file: IO[bytes], *more: Any) -> bytes:
        if file.name.endswith("large.html"):
            begun.set()
            await gate.wait()
        return await run(task, file, *more)

    monkeypatch.setattr(extractor, "_run", held)
    with (
        (tmp_path / "large.html").open("rb") as large,
        (tmp_path / "large.html").open("rb") as next_large,
        (tmp_path / "small.html").open("rb") as small,
    ):
        reading = [
            asyncio.create_task(extractor.text("a", file, "text/html"))
            for file in (large, next_large)
        ]
        await begun.wait()
        assert (await extractor.text("a", small, "text/html")).beginning == "Small"
        assert not any(task.done() for task in reading)
        gate.set()
        assert [found.beginning for found in await asyncio.gather(*reading)] == ["Large"] * 2


async def test_a_small_file_that_takes_long_is_read_among_the_large_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor = Extractor(processes=1, small_timeout=0.001)
    (tmp_path / "small.html").write_bytes(b"<p>Small")
    run = extractor._run
    order: list[tuple[str, float]] = []

    async def noted(task: str, file: IO[bytes], kind: str, seconds: float) -> bytes:
        order.append((Path(file.name).name, seconds))
        return await run(task, file, kind, seconds)

    monkeypatch.setattr(extractor, "_run", noted)
    with (tmp_path / "small.html").open("rb") as small:
        assert (await extractor.text("a", small, "text/html")).beginning == "Small"
    assert order == [("small.html", 0.001), ("small.html", 30.0)]


def reset_peak(pid: int) -> int:
    """Lets the peak of a process's memory begin anew; what it has now. A server's is closed to all
    but root: else its peak goes on from what it was."""
    if os.geteuid() != 0:
        return memory(pid, "VmHWM")
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return memory(pid, "VmRSS")


def memory(pid: int, line: str) -> int:
    """VmRSS or VmHWM (its peak) of a process, in bytes."""
    for found in Path(f"/proc/{pid}/status").read_text().splitlines():
        if found.startswith(line):
            return int(found.split()[1]) * 1_024
    raise AssertionError(line)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
@pytest.mark.timeout(360)
@fleets.ANY
async def test_25_mb_up_and_down_take_no_more_memory(colloquy: Colloquy, alice: Caller) -> None:
    process = ServerProcess(colloquy)
    alice = alice.on(await process.start())
    for _ in range(3):
        small = await upload(alice, samples.noise(2 * MB), "small.bin")
        await download(alice, small.id)
    data = samples.noise(25 * MB)
    before = reset_peak(process.pid)
    file = await upload(alice, data, "large.bin")
    assert (await download(alice, file.id))[1] == data
    assert memory(process.pid, "VmHWM") - before < 20 * MB
    await process.end(signal.SIGTERM)


@pytest.mark.timeout(360)
@fleets.ANY
async def test_other_replies_are_written_while_hostile_files_come(
    colloquy: Colloquy, alice: Caller
) -> None:
    """A file that is read for ever holds the reply that needs it, and nobody else's."""
    process = ServerProcess(colloquy)
    alice = alice.on(await process.start())
    deep = b"<html>" + b"<div>" * 100_000
    gate = asyncio.Event()
    conversations = [await alice.create(model="test-model", title="Talk") for _ in range(5)]
    colloquy.provider.script(*[Answer(tokens=40, gate_after=20, gate=gate)] * 5)
    talks = [alice.send(conversation.id) for conversation in conversations]
    for talk in talks:
        await talk.until("delta")
    for data, name in [
        (samples.zip_bomb(), "bomb.docx"),
        (samples.png(60_000, 60_000), "large.png"),
        (b"<html>", "page.png"),
    ]:
        assert (await refused(upload(alice, data, name))).reason == "ATTACHMENT_UNSUPPORTED"
    files = [
        await upload(alice, samples.looping_pdf(), "loop.pdf"),
        await upload(alice, deep, "deep.html"),
        await upload(alice, samples.docx("word " * 50_000), "long.docx"),
    ]
    reading = await alice.create(model="other-model", title="Read")
    reply = alice.send(reading.id, "Read", attachment_ids=[file.id for file in files])
    await reply.accepted()
    gate.set()
    assert [(await talk.reply()).state for talk in talks] == [COMPLETED] * 5
    assert (await reply.reply()).state == COMPLETED
    ends = [request.last_user_text for request in colloquy.provider.reply_requests]
    assert ends[-1].startswith("Read"), ends
    await process.end(signal.SIGTERM)

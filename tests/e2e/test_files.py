"""AttachmentService: files up and down, and what becomes of them."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator
from typing import IO, Any

import pytest
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import attachment_service_pb2 as api
from colloquy.api import conversation_service_pb2 as conversation_api
from colloquy.api import resources_pb2 as resources
from colloquy_server.database.repository import attachments
from colloquy_server.database.transactions import EVERY_ACCOUNT, Session
from sqlalchemy import text

from tests import fleets
from tests.fakes import mails, pictures, samples
from tests.harness import Caller, Colloquy, settle
from tests.statuses import refused
from tests.uploads import count, download, emptied, known, parts, stored, upload

pytestmark = fleets.ALONE

TYPES = [
    (samples.photo(), "a.jpg", "image/jpeg", resources.Attachment.KIND_IMAGE),
    (samples.png(), "a.jpg", "image/png", resources.Attachment.KIND_IMAGE),
    (samples.png(), "no-suffix", "image/png", resources.Attachment.KIND_IMAGE),
    (samples.wav(), "a.wav", "audio/wav", resources.Attachment.KIND_AUDIO),
    (samples.pdf("x"), "a.pdf", "application/pdf", resources.Attachment.KIND_DOCUMENT),
    (samples.csv(), "a.csv", "text/csv", resources.Attachment.KIND_DOCUMENT),
    (samples.m4a(b"M4A "), "a.m4a", "audio/mp4", resources.Attachment.KIND_AUDIO),
    (samples.m4a(b"mp42"), "a.m4a", "audio/mp4", resources.Attachment.KIND_AUDIO),
    (samples.m4a(b"dash"), "a.mp4", "video/mp4", resources.Attachment.KIND_DOCUMENT),
    (b".snd" + bytes(9), "a.au", "application/octet-stream", resources.Attachment.KIND_DOCUMENT),
    (b"#EXTM3U\nsong.mp3", "a.m3u", "text/plain", resources.Attachment.KIND_DOCUMENT),
    (b"P3\n1 1\n255\n0 0 0\n", "a.ppm", "text/plain", resources.Attachment.KIND_DOCUMENT),
    (pictures.heic(), "a.heic", "image/heic", resources.Attachment.KIND_IMAGE),
    (
        pictures.heic().replace(b"ftypheic", b"ftypheix"),
        "a.heic",
        "image/heic",
        resources.Attachment.KIND_IMAGE,
    ),
    (mails.eml(), "a.eml", "message/rfc822", resources.Attachment.KIND_DOCUMENT),
    (mails.msg(), "a.msg", "application/vnd.ms-outlook", resources.Attachment.KIND_DOCUMENT),
    (b"{\\rtf1 x}", "a.rtf", "application/rtf", resources.Attachment.KIND_DOCUMENT),
    (b"boot\n\0\0\0crash at night", "a.log", "text/plain", resources.Attachment.KIND_DOCUMENT),
    (b"print(1)", "a.py", "text/x-python", resources.Attachment.KIND_DOCUMENT),
    (b"BMW builds cars", "a", "text/plain", resources.Attachment.KIND_DOCUMENT),
    (b"<html><p>x", "a.txt", "text/html", resources.Attachment.KIND_DOCUMENT),
    (
        samples.docx("x"),
        "a.zip",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        resources.Attachment.KIND_DOCUMENT,
    ),
]

SCOTLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"

NAMES = [
    ("../../x", "x"),
    ("C:\\Users\\x\\letter.txt", "letter.txt"),
    ("a\nb\u202etxt.exe", "abtxt.exe"),
    ("...", "file"),
    ("\u200d\ufeff", "file"),
    ("👩\u200d👩\u200d👧 und 🏳️\u200d🌈.txt", "👩\u200d👩\u200d👧 und 🏳️\u200d🌈.txt"),
    (f"{SCOTLAND} \U0001fadf.txt", f"{SCOTLAND} \U0001fadf.txt"),  # newer than some Pythons
    ("نمی\u200cشود.txt", "نمی\u200cشود.txt"),
    ("a\u202a\u2066\u200e\u200b\u2028b\U000e0068\U000e0069.txt", "ab.txt"),
    ("👩\u200d" * 40 + ".txt", "👩\u200d" * 35 + "👩.txt"),
    ("ü" * 200 + ".txt", "ü" * 125 + ".txt"),
]


async def test_a_file_comes_down_as_it_went_up(alice: Caller) -> None:
    data = samples.noise(1_500_000)
    told = await upload(alice, data, "data.bin", sha256=hashlib.sha256(data).hexdigest())
    assert (told.filename, told.byte_size) == ("data.bin", len(data))
    assert told.sha256 == hashlib.sha256(data).hexdigest()
    assert told.kind == resources.Attachment.KIND_DOCUMENT
    assert told.HasField("create_time")
    assert await known(alice, told.id) == told
    assert await download(alice, told.id) == (told, data)


async def test_the_bytes_decide_the_type(alice: Caller) -> None:
    for data, filename, content_type, kind in TYPES:
        told = await upload(alice, data, filename, content_type="application/x-lie")
        assert (told.content_type, told.kind) == (content_type, kind)


async def test_a_file_that_comes_again_is_what_its_sender_takes_it_for_now(
    alice: Caller,
) -> None:
    data = samples.m4a(b"mp42")
    film = await upload(alice, data, "memo.mp4")
    assert film.kind == resources.Attachment.KIND_DOCUMENT
    memo = await upload(alice, data, "memo.mp4", content_type="audio/mp4")
    assert (memo.id, memo.kind) == (film.id, resources.Attachment.KIND_AUDIO)
    assert memo.content_type == "audio/mp4"


async def test_a_name_has_no_folders_and_nothing_that_does_not_show(
    colloquy: Colloquy, alice: Caller
) -> None:
    for filename, kept in NAMES:
        assert (await upload(alice, b"text", filename)).filename == kept
    assert all(colloquy.folder / "files" in path.parents for path in stored(colloquy))


async def test_an_upload_that_breaks_off_leaves_nothing(colloquy: Colloquy, alice: Caller) -> None:
    came = asyncio.Event()

    async def half() -> AsyncIterator[api.UploadAttachmentRequest]:
        async for request in parts(samples.noise(2_000_000)):
            yield request
        came.set()
        await asyncio.Event().wait()

    call = alice.attachments.UploadAttachment(half(), metadata=alice.metadata)
    await came.wait()
    await asyncio.sleep(0.1)
    call.cancel()
    await asyncio.sleep(0.3)
    assert stored(colloquy) == []
    assert await count(colloquy, "attachments", "blobs") == [0, 0]


async def test_of_two_uploads_of_the_same_bytes_one_may_break_off(
    colloquy: Colloquy, alice: Caller
) -> None:
    storage = colloquy.app.files._storage
    put, waiting = storage.put, [asyncio.Event(), asyncio.Event()]
    go_on, calls = asyncio.Event(), iter(range(10))

    async def slowly(key: str, file: IO[bytes]) -> None:
        if (call := next(calls)) < 2:
            waiting[call].set()
            await (asyncio.Event() if call == 0 else go_on).wait()
        await put(key, file)

    storage.put = slowly  # type: ignore[method-assign]
    data = samples.noise(1_000)
    digest = hashlib.sha256(data).hexdigest()
    broken = alice.attachments.UploadAttachment(parts(data, sha256=digest), metadata=alice.metadata)
    await waiting[0].wait()
    whole = asyncio.create_task(upload(alice, data, sha256=digest))
    await waiting[1].wait()
    broken.cancel()
    async with asyncio.timeout(60):
        while await count(colloquy, "blobs", "removals") != [0, 0]:  # noqa: ASYNC110 - as `settle`
            await asyncio.sleep(0.01)
    go_on.set()
    told = await whole
    await colloquy.app.files.sweep()
    assert await download(alice, told.id) == (told, data)
    assert len(stored(colloquy)) == 1


async def test_an_upload_that_breaks_off_as_it_begins_to_be_stored_leaves_nothing(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    begin = attachments.begin

    def slowly(*arguments: Any) -> tuple[str, bool]:
        begun.set()
        go_on.wait(5)
        return begin(*arguments)

    monkeypatch.setattr(attachments, "begin", slowly)
    call = alice.attachments.UploadAttachment(parts(b"text"), metadata=alice.metadata)
    await asyncio.to_thread(begun.wait)
    call.cancel()
    await asyncio.sleep(0.1)
    go_on.set()
    await asyncio.sleep(0.2)
    assert await count(colloquy, "attachments", "blobs") == [0, 0]


async def test_the_same_bytes_are_kept_once_an_account(colloquy: Colloquy, alice: Caller) -> None:
    bob = await colloquy.account("bob")
    data = samples.csv(50)
    one = await upload(alice, data, "one.csv")
    again = await upload(alice, data, "one.csv")
    other = await upload(alice, data, "other.csv")
    assert again.id == one.id
    assert other.id != one.id
    assert other.filename == "other.csv"
    assert len(stored(colloquy)) == 1
    await upload(bob, data, "one.csv")
    assert len(stored(colloquy)) == 2


async def test_a_file_is_nobodys_but_its_accounts(colloquy: Colloquy, alice: Caller) -> None:
    bob = await colloquy.account("bob")
    data = samples.csv()
    hers = await upload(alice, data, "hers.csv")
    conversation = await bob.create()
    for call in (
        known(bob, hers.id),
        download(bob, hers.id),
        bob.send(conversation.id, attachment_ids=[hers.id]),
    ):
        refusal = await refused(call)
        assert (refusal.status, refusal.reason) == ("NOT_FOUND", "ATTACHMENT_NOT_FOUND")
    # The hash opens nothing either: whoever names it has to bring the bytes.
    assert (await refused(upload(bob, b"x", sha256=hers.sha256))).reason == "INVALID_FIELD"
    assert await bob.history(conversation.id) == []


async def test_a_message_has_its_files_wherever_it_is_seen(
    colloquy: Colloquy, alice: Caller
) -> None:
    files = [await upload(alice, samples.csv(rows), f"{rows}.csv") for rows in (3, 1, 2)]
    conversation = await alice.create()
    watch = alice.watch(conversation.id)
    await watch.until("conversation")
    stream = alice.send(
        conversation.id, attachment_ids=[file.id for file in files], request_id="one"
    )
    accepted = await stream.accepted()
    assert list(accepted.message.attachments) == files
    await stream.rest()
    seen = await watch.until(lambda e: e.message.id == accepted.message.id)
    assert list(seen.message.attachments) == files
    assert list((await alice.message(accepted.message.id)).attachments) == files
    assert [list(m.attachments) for m in await alice.history(conversation.id)] == [files, []]
    resumed = alice.watch(conversation.id, watch.events[0].resume_token)
    seen = await resumed.until(lambda e: e.message.id == accepted.message.id)
    assert list(seen.message.attachments) == files
    watch.cancel()
    resumed.cancel()

    again = alice.send(
        conversation.id, attachment_ids=[file.id for file in files], request_id="one"
    )
    assert list((await again.accepted()).message.attachments) == files
    again.cancel()
    for ids in ([], [file.id for file in reversed(files)]):
        refusal = await refused(alice.send(conversation.id, attachment_ids=ids, request_id="one"))
        assert refusal.reason == "REQUEST_ID_REUSED"


async def test_a_message_has_ten_files_at_most(alice: Caller) -> None:
    conversation = await alice.create()
    one = await upload(alice, b"text")
    for ids in ([one.id] * 2, [f"{n:08}-0000-7000-8000-000000000000" for n in range(11)]):
        refusal = await refused(alice.send(conversation.id, attachment_ids=ids))
        assert refusal.reason == "INVALID_FIELD"


async def test_files_go_with_the_last_conversation_that_has_them(
    colloquy: Colloquy, alice: Caller
) -> None:
    shared = await upload(alice, b"shared", "shared.txt")
    own = await upload(alice, b"own", "own.txt")
    first, second = await alice.create(), await alice.create()
    await alice.send(first.id, attachment_ids=[shared.id, own.id]).rest()
    await alice.send(second.id, attachment_ids=[shared.id]).rest()

    await delete(alice, first.id)
    assert (await refused(known(alice, own.id))).status == "NOT_FOUND"
    assert (await download(alice, shared.id))[1] == b"shared"
    await settle(lambda: len(stored(colloquy)) == 1)

    await delete(alice, second.id)
    assert await count(colloquy, "attachments", "blobs") == [0, 0]
    await emptied(colloquy)


async def delete(caller: Caller, conversation_id: str) -> None:
    request = conversation_api.DeleteConversationRequest(conversation_id=conversation_id)
    await caller.call("DeleteConversation", request)


async def test_an_account_takes_its_files_with_it(colloquy: Colloquy, alice: Caller) -> None:
    file = await upload(alice, b"text")
    conversation = await alice.create()
    await alice.send(conversation.id, attachment_ids=[file.id]).rest()
    await upload(alice, b"unused")
    await colloquy.admin.admin.DeleteAccount(
        admin_api.DeleteAccountRequest(account_id=alice.account_id),
        metadata=colloquy.admin.metadata,
    )
    assert await count(colloquy, "attachments", "blobs", "messages") == [0] * 3
    await emptied(colloquy)


async def test_nobody_waits_for_the_files_of_others_to_be_removed(
    colloquy: Colloquy, alice: Caller
) -> None:
    removing, go_on = asyncio.Event(), asyncio.Event()
    storage = colloquy.app.files._storage
    remove = storage.remove

    async def slowly(key: str) -> None:
        removing.set()
        await go_on.wait()
        await remove(key)

    storage.remove = slowly  # type: ignore[method-assign]
    conversation = await alice.create()
    for number in range(2):
        file = await upload(alice, f"{number}".encode())
        await alice.send(conversation.id, attachment_ids=[file.id]).rest()
    await delete(alice, conversation.id)
    await removing.wait()
    bob = await colloquy.account("bob")
    await delete(bob, (await bob.create()).id)
    await colloquy.admin.admin.DeleteAccount(
        admin_api.DeleteAccountRequest(account_id=bob.account_id), metadata=colloquy.admin.metadata
    )
    assert len(stored(colloquy)) == 2
    go_on.set()
    await emptied(colloquy)


async def test_a_file_that_no_message_uses_goes_after_a_day(
    colloquy: Colloquy, alice: Caller
) -> None:
    used = await upload(alice, b"used", "used.txt")
    twin = await upload(alice, b"used", "twin.txt")
    await upload(alice, b"old", "old.txt")
    conversation = await alice.create()
    await alice.send(conversation.id, attachment_ids=[used.id]).rest()
    await colloquy.app.files.sweep()
    assert len(stored(colloquy)) == 2

    await age(colloquy, 25)
    young = await upload(alice, b"old", "young.txt")
    await colloquy.app.files.sweep()
    assert (await download(alice, used.id))[1] == b"used"
    assert (await download(alice, young.id))[1] == b"old"
    assert (await refused(known(alice, twin.id))).status == "NOT_FOUND"
    assert len(stored(colloquy)) == 2

    await age(colloquy, 25)
    await colloquy.app.files.sweep()
    assert len(stored(colloquy)) == 1
    assert (await download(alice, used.id))[1] == b"used"


async def age(colloquy: Colloquy, hours: int) -> None:
    """Moves the times of all files back."""

    def move(s: Session) -> None:
        for table in ("attachments", "blobs"):
            s.execute(text(f"UPDATE {table} SET touch_time = touch_time - {hours * 3_600_000_000}"))

    await colloquy.app.db.write(EVERY_ACCOUNT, move)


async def test_bytes_that_were_removed_while_they_come_again_are_kept(
    colloquy: Colloquy, alice: Caller
) -> None:
    """The object that goes is the old one, under its own key."""
    first = await upload(alice, b"text")
    await age(colloquy, 25)
    storage = colloquy.app.files._storage
    removing, go_on = asyncio.Event(), asyncio.Event()
    remove = storage.remove

    async def slowly(key: str) -> None:
        removing.set()
        await go_on.wait()
        await remove(key)

    storage.remove = slowly  # type: ignore[method-assign]
    sweeping = asyncio.create_task(colloquy.app.files.sweep())
    await removing.wait()
    again = await upload(alice, b"text")
    go_on.set()
    await sweeping
    assert again.id != first.id
    assert (await download(alice, again.id))[1] == b"text"
    assert len(stored(colloquy)) == 1

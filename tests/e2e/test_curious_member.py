"""What a member of an account may try, to learn of conversations that they may not see."""

from __future__ import annotations

import hashlib
from typing import Any

import grpc
import pytest
from colloquy.api import attachment_service_pb2 as files_api
from colloquy_server.api.tokens import Position, encode_position
from colloquy_server.files import files

from tests.e2e.test_audience import SECRET, hide, listed, member
from tests.e2e.test_participants import ACCOUNT, PARTICIPANTS, invite, make, person, remove
from tests.e2e.test_quotas import change, counted, limited
from tests.fleets import ALONE
from tests.harness import Caller, Colloquy
from tests.statuses import refused
from tests.uploads import upload


@ALONE
async def test_a_resume_token_leads_to_messages_of_its_own_conversation_only(
    colloquy: Colloquy, alice: Caller
) -> None:
    """Also one that was made by hand, and follows a message of another."""
    hidden = await hide(alice)
    noah = await member(colloquy, alice, "Noah")
    own = await noah.create(visibility=PARTICIPANTS)
    for number in range(6):  # more than a watcher reads at a time
        await noah.send(own.id, f"Hello {number}").rest()
    said = {message.id for message in await noah.history(own.id)}
    for followed in (hidden.prompt, hidden.reply):
        watch = noah.watch(own.id, encode_position(own.id, Position(0, followed.id)))
        await watch.until(
            lambda event: event.WhichOneof("event") == "message" and event.message.id == max(said)
        )
        assert set(watch.transcript.messages) <= said
        watch.cancel()


@ALONE
async def test_whoever_made_and_left_a_conversation_does_not_learn_what_else_has_its_name(
    colloquy: Colloquy, alice: Caller
) -> None:
    await hide(alice)
    noah = await member(colloquy, alice, "Noah")
    found = []
    for name in ("slack:T1:D1", "slack:T1:D2"):  # the first is that of a hidden one
        made = await noah.create(external_id=name, visibility=ACCOUNT)
        await remove(noah, made.id, made.creator.id)
        found.append((await noah.create(external_id=name)).id == made.id)
    assert found == [True, True]


@ALONE
async def test_members_who_name_the_same_do_not_learn_what_else_has_its_name(
    colloquy: Colloquy, alice: Caller
) -> None:
    await hide(alice)
    noah, zoe = [await member(colloquy, alice, name) for name in ("Noah", "Zoe")]
    found = []
    for name in ("slack:T1:D1", "slack:T1:D2"):
        made = await noah.create(external_id=name, visibility=ACCOUNT)
        found.append((await zoe.create(external_id=name)).id == made.id)
    assert found == [True, True]


@ALONE
async def test_a_members_own_conversation_goes_before_others_of_its_name(
    colloquy: Colloquy, alice: Caller
) -> None:
    """Also before one that was hidden when it was made, and is seen by now."""
    hidden = (await hide(alice)).conversation
    noah = await member(colloquy, alice, "Noah")
    made = await noah.create(external_id=hidden.external_id)
    await invite(alice, hidden.id, person("Noah"))
    assert (await noah.create(external_id=hidden.external_id)).id == made.id
    await make(alice, hidden.id, ACCOUNT)
    assert (await noah.create(external_id=hidden.external_id)).id == made.id
    await make(alice, made.id, ACCOUNT)
    zoe = await member(colloquy, alice, "Zoe")
    assert (await zoe.create(external_id=hidden.external_id)).id == hidden.id


@ALONE
async def test_a_member_lists_the_conversations_of_a_participant_that_it_sees(
    colloquy: Colloquy, alice: Caller
) -> None:
    await hide(alice)
    noah = await member(colloquy, alice, "Noah")
    expected: list[str] = []
    titles = ("Open", "Made by Noah", "Noah invited", "Noah removed", "Without Mia", "Mia left")
    for title in titles:
        is_his = title == "Made by Noah"
        made = await alice.create(
            title=title,
            visibility=ACCOUNT if title == "Open" else PARTICIPANTS,
            author=person("Noah") if is_his else None,
        )
        people = [] if is_his else [person("Noah")]
        if title != "Without Mia":
            people.append(person("Mia"))
        made = await invite(alice, made.id, *people)
        by_name = {user.external_id: user.id for user in made.participants}
        if title == "Noah removed":
            await remove(alice, made.id, by_name["noah"])
        elif title == "Mia left":
            await remove(alice, made.id, by_name["mia"])
        elif title != "Without Mia":
            expected.insert(0, title)
    for size in (0, 1, 2):
        by = {"page_size": size}
        assert await listed(noah, participant_external_id="mia", **by) == expected
        of_noah = ["Mia left", "Without Mia", "Noah invited", "Open"]
        assert await listed(noah, participant_external_id="noah", **by) == of_noah
        assert await listed(noah, participant_external_id="nobody", **by) == []


@ALONE
@pytest.mark.parametrize("says_sum", [False, True])
async def test_a_quota_does_not_tell_which_files_others_have(
    colloquy: Colloquy, says_sum: bool
) -> None:
    service = await limited(colloquy, file_bytes=900_000)
    mia, noah = [await member(colloquy, service, name) for name in ("Mia", "Noah")]
    theirs, new, own = (letter * 300_000 for letter in (b"a", b"b", b"c"))

    async def uploaded(caller: Caller, data: bytes) -> str:
        header = {"sha256": hashlib.sha256(data).hexdigest()} if says_sum else {}
        return (await upload(caller, data, **header)).id

    await uploaded(mia, theirs)
    his = await uploaded(noah, own)
    await uploaded(service, b"d" * 200_000)
    refusals = [await refused(uploaded(noah, data)) for data in (theirs, new)]
    assert refusals[0] == refusals[1]
    assert refusals[0].reason == "QUOTA_EXCEEDED"
    assert await uploaded(noah, own) == his
    await counted(colloquy)
    await change(colloquy, service, file_bytes=1_100_000)
    await uploaded(noah, theirs)
    await uploaded(noah, theirs)
    await counted(colloquy)


@ALONE
async def test_a_download_ends_for_who_is_removed(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_CHECK_INTERVAL", 0)
    mia, noah = [await member(colloquy, alice, name) for name in ("Mia", "Noah")]
    data = SECRET.encode() * 2_000_000
    file = await upload(mia, data, "plan.txt")
    closed = await mia.create(visibility=PARTICIPANTS)
    guest = (await invite(mia, closed.id, person("Noah"))).participants[0]
    await mia.send(closed.id, "Look", attachment_ids=[file.id]).accepted()
    request = files_api.DownloadAttachmentRequest(attachment_id=file.id)
    calls: list[Any] = [
        caller.attachments.DownloadAttachment(request, metadata=caller.metadata)
        for caller in (noah, mia)
    ]
    for call in calls:
        assert (await call.read()).attachment == file
    his, hers = calls
    await remove(mia, closed.id, guest.id)

    async def taken(call: Any) -> int:
        size = 0
        while (response := await call.read()) is not grpc.aio.EOF:
            size += len(response.chunk)
        return size

    assert (await refused(taken(his))).reason == "ATTACHMENT_NOT_FOUND"
    assert await taken(hers) == len(data)

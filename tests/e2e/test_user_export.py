"""ExportUser: all that is known of a person, and nothing of anybody else."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import pytest
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy_server.database.models import new_id
from colloquy_server.database.repository import export
from colloquy_server.files.storage import CHUNK, ObjectMissing, Storage

from tests.e2e.test_audit import events, noted
from tests.fakes.provider import Answer
from tests.fleets import ALONE, ALSO_BY_HTTP, ANY
from tests.harness import Caller, Colloquy
from tests.statuses import refused
from tests.uploads import upload

MEMBER = admin_api.ApiKey.ROLE_MEMBER


async def exported(colloquy: Colloquy, user_id: str) -> list[bytes]:
    """The pieces of an export."""
    admin = colloquy.admin
    request = admin_api.ExportUserRequest(user_id=user_id)
    return [
        answer.chunk async for answer in admin.admin.ExportUser(request, metadata=admin.metadata)
    ]


async def archive(colloquy: Colloquy, user_id: str) -> zipfile.ZipFile:
    found = zipfile.ZipFile(io.BytesIO(b"".join(await exported(colloquy, user_id))))
    assert found.testzip() is None
    return found


def lines(found: zipfile.ZipFile, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in found.read(name).splitlines()]


async def person(colloquy: Colloquy, account_id: str, name: str) -> tuple[Caller, str]:
    """A member and their id."""
    user = resources.User(external_id=name, display_name=name.title())
    caller = await colloquy.key(account_id, MEMBER, user=user)
    talk = await caller.create()
    await caller.call("DeleteConversation", api.DeleteConversationRequest(conversation_id=talk.id))
    return caller, talk.creator.id


def text_of(found: zipfile.ZipFile) -> str:
    return "\n".join(found.read(name).decode(errors="replace") for name in found.namelist())


@ALSO_BY_HTTP
async def test_an_export_has_all_of_a_person_and_nothing_of_others(
    colloquy: Colloquy, alice: Caller
) -> None:
    (mia, mia_id), (noah, _) = [
        await person(colloquy, alice.account_id, name) for name in ("mia", "noah")
    ]
    data = bytes(range(256)) * 3_000
    own = await upload(mia, b"%PDF-1.4\n" + data, "../Bericht: Mai?.pdf")
    again = await upload(mia, b"one of two\n" * 9_000, "twice.txt")
    same_name = await upload(mia, b"the other\n" * 9_000, "twice.txt")
    foreign = await upload(noah, b"what noah has", "noahfile.txt")
    talk = await mia.create(title="Ours", system_prompt="miasystem")
    colloquy.provider.script(Answer(pieces=["replied to", " mia"]), Answer(pieces=["to noah"]))
    prompt = mia.send(talk.id, "miawrote", attachment_ids=[own.id])
    reply = await prompt.reply()
    noahs = noah.send(talk.id, "noahwrote", attachment_ids=[foreign.id])
    to_noah = await noahs.reply()
    for message_id, comment in ((reply.id, "miarated"), (to_noah.id, "miarated too")):
        request = api.RateReplyRequest(
            message_id=message_id, rating=resources.RATING_GOOD, comment=comment
        )
        await mia.call("RateReply", request)
    theirs = await noah.create(title="Theirs", system_prompt="noahsystem")
    await mia.send(theirs.id, "miawrote there").reply()
    rated = api.RateReplyRequest(
        message_id=(await mia.history(theirs.id))[1].id,
        rating=resources.RATING_BAD,
        comment="noahrated",
    )
    await noah.call("RateReply", rated)
    unseen = await noah.create(title="noahtitle")
    await noah.send(unseen.id, "noahwrote").reply()
    pin = api.UpdateConversationRequest(
        conversation=resources.Conversation(id=talk.id, pinned=True)
    )
    await mia.call("UpdateConversation", pin)

    found = await archive(colloquy, mia_id.upper())
    (user,) = lines(found, "user.json")
    assert user["user"] == {"id": mia_id, "externalId": "mia", "displayName": "Mia"}
    assert user["account"]["id"] == alice.account_id
    assert [key["name"] for key in user["apiKeys"]] == ["test"]
    titles = {each["id"]: each["title"] for each in lines(found, "conversations.jsonl")}
    assert titles == {talk.id: "Ours", theirs.id: "Theirs"}
    said = {each["id"]: each for each in lines(found, "messages.jsonl")}
    assert [each["content"] for each in said.values()][:2] == ["miawrote", "replied to mia"]
    assert len(said) == 4
    assert said[reply.id]["ratingComment"] == "miarated"
    assert {each["messageId"] for each in lines(found, "ratings.jsonl")} == {reply.id, to_noah.id}
    pinned = {each["conversationId"]: each["pinned"] for each in lines(found, "read_states.jsonl")}
    assert pinned[talk.id]
    used = [(each["model"], each["replies"]) for each in lines(found, "usage.jsonl")]
    assert sum(int(count) for _, count in used) == 2
    files = {each["id"]: each for each in lines(found, "files.jsonl")}
    assert files.keys() == {own.id, again.id, same_name.id}
    for each, begins in ((own, b"%PDF-1.4\n"), (again, b"one of two"), (same_name, b"the other")):
        name = files[each.id]["path"]
        assert found.read(name).startswith(begins)
        assert len(found.read(name)) == each.byte_size
        assert name.startswith(f"files/{each.id}/")
        assert not {*name} & {*':?*"<>|\\'}
    assert found.read(files[own.id]["path"]) == b"%PDF-1.4\n" + data
    assert len(found.namelist()) == len(set(found.namelist())) == 8 + 3
    told = text_of(found)
    for word in ("noah", foreign.id, mia.key, colloquy.admin.key):
        assert word not in told
    assert "miasystem" in told
    (event,) = await noted(colloquy, "ExportUser")
    assert (event.actor, event.target_id, event.account_id) == (
        *("platform", mia_id),
        alice.account_id,
    )


@ALONE
async def test_a_long_history_is_read_in_pages_and_sent_in_small_pieces(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "AT_ONCE", 3)
    monkeypatch.setattr(export, "_MAX_LETTERS", 1_000)
    mia, mia_id = await person(colloquy, alice.account_id, "mia")
    sizes = []
    read = export.messages

    def measured(s: Any, ids: Any) -> Any:
        rows = read(s, ids)
        sizes.append((len(rows), sum(len(row.content) for row in rows)))
        return rows

    monkeypatch.setattr(export, "messages", measured)
    data = bytes(range(256)) * 8_000
    for number in range(5):
        await upload(mia, data + b"%d" % number, f"{number}.bin")
    for talk in [await mia.create(), await mia.create()]:
        for number in range(4):
            await mia.send(talk.id, f"Message {number} " * 60).reply()
    pieces = await exported(colloquy, mia_id)
    assert max(map(len, pieces)) <= CHUNK
    assert len(pieces) >= 5 * len(data) // CHUNK
    assert all(count == 1 or letters <= 1_000 for count, letters in sizes)
    found = zipfile.ZipFile(io.BytesIO(b"".join(pieces)))
    said = [each["content"] for each in lines(found, "messages.jsonl") if "author" in each]
    assert said == [f"Message {number} " * 60 for number in range(4)] * 2
    assert len(lines(found, "messages.jsonl")) == 16
    assert len(lines(found, "files.jsonl")) == 5
    assert len(lines(found, "conversations.jsonl")) == 2


@ANY
async def test_a_file_that_goes_meanwhile_is_left_out(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    mia, mia_id = await person(colloquy, alice.account_id, "mia")
    gone, stays = await upload(mia, b"goes", "gone.txt"), await upload(mia, b"stays", "stays.txt")
    stream = Storage.stream

    async def without(self: Storage, key: str, wanted: Any = None) -> Any:
        if gone.sha256 in key:
            raise ObjectMissing
        async for piece in stream(self, key, wanted):
            yield piece

    monkeypatch.setattr(Storage, "stream", without)
    found = await archive(colloquy, mia_id)
    assert [each["id"] for each in lines(found, "files.jsonl")] == [stays.id]
    assert found.read(f"files/{stays.id}/stays.txt") == b"stays"


@ANY
async def test_who_is_not_there_or_is_leaving_is_not_found_and_nothing_is_noted(
    colloquy: Colloquy, alice: Caller
) -> None:
    mia, mia_id = await person(colloquy, alice.account_id, "mia")
    held = api.SendMessageRequest(conversation_id=(await mia.create()).id, content="Hello")
    await mia.conversations.SendMessage(held, metadata=mia.metadata).read()
    admin = colloquy.admin
    request = admin_api.DeleteUserRequest(user_id=mia_id)
    await admin.admin.DeleteUser(request, metadata=admin.metadata)
    for user_id in (new_id(), mia_id):
        refusal = await refused(exported(colloquy, user_id))
        assert (refusal.status, refusal.reason) == ("NOT_FOUND", "USER_NOT_FOUND")
    bad = await refused(exported(colloquy, "x"))
    assert list(bad.fields) == ["user_id"]
    assert not [e for e in await events(colloquy) if e.action == "ExportUser"]

"""The index of conversations: what is unread, pinned and archived, and who hears what changes."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import grpc
import pytest
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy_server.api.index_tokens import _LAYOUT
from colloquy_server.database.models import MICROS, Conversation, ConversationRemoval
from colloquy_server.database.repository import index as rows
from colloquy_server.database.repository import removals
from colloquy_server.database.transactions import EVERY_ACCOUNT
from sqlalchemy import func, select, update

from tests.e2e.test_audience import member
from tests.e2e.test_participants import PARTICIPANTS, invite, make, person, remove
from tests.fakes.provider import Answer
from tests.fleets import ALONE, ANY
from tests.harness import Caller, Colloquy, ServerProcess, eventually
from tests.index import Index, listed
from tests.statuses import refused


@pytest.fixture
async def mia(colloquy: Colloquy, alice: Caller) -> Caller:
    return await member(colloquy, alice, "Mia")


@pytest.fixture
async def noah(colloquy: Colloquy, alice: Caller) -> Caller:
    return await member(colloquy, alice, "Noah")


async def change(caller: Caller, conversation_id: str, **fields: Any) -> resources.Conversation:
    """UpdateConversation of these fields."""
    wanted = resources.Conversation(id=conversation_id, **fields)
    request = api.UpdateConversationRequest(conversation=wanted)
    request.update_mask.paths.extend(fields)
    return (await caller.call("UpdateConversation", request)).conversation  # type: ignore[no-any-return]


async def read(caller: Caller, message: resources.Message, **fields: Any) -> resources.Conversation:
    """MarkRead up to a message."""
    request = api.MarkReadRequest(
        conversation_id=message.conversation_id, message_id=message.id, **fields
    )
    return (await caller.call("MarkRead", request)).conversation  # type: ignore[no-any-return]


async def delete(caller: Caller, conversation_id: str) -> None:
    request = api.DeleteConversationRequest(conversation_id=conversation_id)
    await caller.call("DeleteConversation", request)


async def unread(caller: Caller, conversation_id: str) -> int:
    """What each way to ask for it says."""
    count = (await caller.conversation(conversation_id)).unread_count
    assert (await listed(caller))[conversation_id].unread_count == count
    return count


# --- what is unread -------------------------------------------------------------------------------


async def test_what_others_and_models_said_is_unread_until_it_is_read(
    colloquy: Colloquy, mia: Caller, noah: Caller
) -> None:
    made = await mia.create(title="T")
    assert await unread(noah, made.id) == 0
    stream = mia.send(made.id)
    reply = await stream.reply()
    assert (await unread(noah, made.id), await unread(mia, made.id)) == (2, 1)
    assert (await read(noah, stream.events[0].accepted.message)).unread_count == 1
    assert (await read(noah, reply)).unread_count == 0
    assert (await read(noah, stream.events[0].accepted.message)).unread_count == 0, "not back"
    assert await unread(mia, made.id) == 1, "hers is her own matter"


async def test_who_writes_has_read_what_was_said_before(mia: Caller, noah: Caller) -> None:
    made = await mia.create(title="T")
    await mia.send(made.id).reply()
    stream = noah.send(made.id)
    await stream.reply()
    assert await unread(noah, made.id) == 1, "the reply to what he wrote"
    said = stream.events[0].accepted.message
    await noah.call("DeleteMessage", api.DeleteMessageRequest(message_id=said.id))
    assert await unread(noah, made.id) == 0, "what was before stays read"


async def test_a_reply_counts_when_it_has_ended_and_is_not_superseded(
    colloquy: Colloquy, mia: Caller, noah: Caller
) -> None:
    made = await mia.create(title="T")
    gate = asyncio.Event()
    colloquy.provider.script(Answer(tokens=4, gate_after=2, gate=gate))
    stream = mia.send(made.id)
    await stream.accepted()
    there = await noah.conversation(made.id)
    assert (there.unread_count, there.replying) == (1, True)
    gate.set()
    reply = await stream.reply()
    there = await noah.conversation(made.id)
    assert (there.unread_count, there.replying) == (2, False)
    await mia.regenerate(reply.id).reply()
    assert await unread(noah, made.id) == 2


async def test_to_somebody_new_nothing_is_unread(
    colloquy: Colloquy, alice: Caller, mia: Caller
) -> None:
    made = await mia.create(title="T")
    await mia.send(made.id).reply()
    zoe = await member(colloquy, alice, "Zoe")
    assert await unread(zoe, made.id) == 0
    await mia.send(made.id).reply()
    assert await unread(zoe, made.id) == 2


@ALONE
async def test_a_service_says_who_has_read(alice: Caller, mia: Caller) -> None:
    made = await alice.create(title="T")
    reply = await alice.send(made.id).reply()
    assert await unread(mia, made.id) == 2
    assert (await read(alice, reply, author=person("Mia"))).unread_count == 0
    assert await unread(mia, made.id) == 0
    assert await unread(alice, made.id) == 1
    refusal = await refused(read(mia, reply, author=person("Noah")))
    assert refusal.reason == "PERMISSION_DENIED"


@ALONE
async def test_what_is_read_is_a_message_of_the_conversation(mia: Caller, noah: Caller) -> None:
    made, other = await mia.create(), await noah.create(visibility=PARTICIPANTS)
    reply = await noah.send(other.id).reply()
    request = api.MarkReadRequest(conversation_id=made.id, message_id=reply.id)
    assert (await refused(mia.call("MarkRead", request))).reason == "MESSAGE_NOT_FOUND"
    request = api.MarkReadRequest(conversation_id=other.id, message_id=reply.id)
    assert (await refused(mia.call("MarkRead", request))).reason == "CONVERSATION_NOT_FOUND"


# --- pinned and archived --------------------------------------------------------------------------


async def test_pinned_is_somebodys_own_and_archived_is_everybodys(
    mia: Caller, noah: Caller
) -> None:
    first, second = await mia.create(title="1"), await mia.create(title="2")
    assert (await change(mia, first.id, pinned=True)).pinned
    assert (await change(noah, second.id, archived=True)).archived
    assert not (await noah.conversation(first.id)).pinned
    for caller, pinned in ((mia, {first.id}), (noah, set())):
        assert set(await listed(caller, pinned=True)) == pinned
        assert set(await listed(caller, pinned=False)) == {first.id, second.id} - pinned
        assert set(await listed(caller, archived=True)) == {second.id}
        assert set(await listed(caller, archived=False)) == {first.id}
        assert set(await listed(caller, archived=True, pinned=True)) == set()
        mine = {"participant_external_id": "mia"}
        assert set(await listed(caller, archived=True, **mine)) == set()
    assert not (await change(mia, first.id, pinned=False)).pinned
    assert await listed(mia, pinned=True) == {}


async def test_what_is_said_brings_a_conversation_back(mia: Caller, noah: Caller) -> None:
    made = await mia.create(title="T")
    await change(mia, made.id, archived=True)
    request_id = "the same"
    await noah.send(made.id, request_id=request_id).reply()
    assert not (await mia.conversation(made.id)).archived
    await change(mia, made.id, archived=True)
    await noah.send(made.id, request_id=request_id).reply()
    assert (await mia.conversation(made.id)).archived, "nothing was said"


# --- watching -------------------------------------------------------------------------------------


async def test_a_watch_tells_what_happens_in_order(
    colloquy: Colloquy, alice: Caller, mia: Caller, noah: Caller
) -> None:
    index = Index(noah)
    await index.is_known()
    assert index.held == {}, "which is told, too"
    made = await mia.create(title="T")
    await index.until(lambda: made.id in index.held)
    gate = asyncio.Event()
    colloquy.provider.script(Answer(tokens=4, gate_after=2, gate=gate))
    stream = mia.send(made.id)
    await stream.accepted()
    await index.until(lambda: index.held[made.id].replying)
    assert index.held[made.id].unread_count == 1
    gate.set()
    reply = await stream.reply()
    await index.until(lambda: not index.held[made.id].replying)
    assert index.held[made.id].unread_count == 2
    another_tab = Index(noah)
    await another_tab.is_known()
    await read(noah, reply)
    await change(noah, made.id, pinned=True)
    for each in (index, another_tab):
        await each.until(lambda each=each: each.held[made.id].pinned)  # type: ignore[misc]
        assert each.held[made.id].unread_count == 0
    await delete(mia, made.id)
    await index.until(lambda: made.id not in index.held)


async def test_what_is_somebodys_own_is_told_to_nobody_else(mia: Caller, noah: Caller) -> None:
    made = await mia.create(title="T")
    index = Index(noah)
    await index.is_known()
    await change(mia, made.id, pinned=True)
    await change(mia, made.id, title="Told next")
    while index.held[made.id].title != "Told next":
        event = await index.next()
        assert event.conversation.title != "T", "what is told of her pin"


@pytest.mark.parametrize("is_away", [False, True], ids=["there", "away"])
async def test_who_sees_it_no_more_hears_that_it_is_gone(
    colloquy: Colloquy, alice: Caller, mia: Caller, noah: Caller, is_away: bool
) -> None:
    made = await mia.create(title="T", visibility=PARTICIPANTS)
    closed = await mia.create(title="C")
    guest = next(
        user
        for user in (await invite(mia, made.id, person("Noah"))).participants
        if user.external_id == "noah"
    )
    index = Index(noah)
    await index.is_known()
    assert set(index.held) == {made.id, closed.id}
    if is_away:
        index.disconnect()
    await remove(mia, made.id, guest.id)
    await make(mia, closed.id, PARTICIPANTS)
    await index.until(lambda: not index.held)
    # What goes on there is none of his business: the next that he hears of is another one.
    before = len(index.events)
    await change(mia, made.id, title="Secret")
    await mia.send(closed.id).reply()
    await delete(mia, made.id)
    hidden = await mia.create(title="H", visibility=PARTICIPANTS)
    await delete(mia, hidden.id)
    if is_away:
        index.disconnect()
    seen = await mia.create(title="Seen")
    await index.until(lambda: seen.id in index.held)
    told = {event.conversation.id or event.removed for event in index.events[before:]}
    assert told - {"", seen.id} == set()
    # And what he comes to see again is there again.
    await invite(mia, closed.id, person("Noah"))
    await index.until(lambda: closed.id in index.held)
    assert index.held[closed.id].message_count == 2


async def test_who_sees_all_hears_of_all_that_is_deleted(alice: Caller, mia: Caller) -> None:
    made = await mia.create(title="T", visibility=PARTICIPANTS)
    index = Index(alice)
    await index.is_known()
    index.disconnect()
    await delete(mia, made.id)
    await index.until(lambda: not index.held)
    assert [event.WhichOneof("event") for event in index.events[1:]] == ["removed"]


@ALONE
async def test_a_token_of_somebody_else_begins_anew_and_no_token_is_refused(
    colloquy: Colloquy, mia: Caller, noah: Caller
) -> None:
    await mia.create(title="T", visibility=PARTICIPANTS)
    index = Index(mia)
    await index.is_known()
    his = Index(noah, token=index.token)
    await his.until(lambda: bool(his.events))
    assert his.events[0].WhichOneof("event") == "reset"
    assert his.held == {}
    other = await colloquy.account("Others")
    for caller, token in ((mia, "no token"), (mia, "AAAA"), (other, index.token)):
        refusal = await refused(Index(caller, token=token).next())
        assert refusal.status == "INVALID_ARGUMENT"


@ALONE
@pytest.mark.parametrize("horizon", [0, 1, (1 << 63) - 1], ids=["all", "almost all", "to come"])
async def test_a_token_that_is_made_up_tells_nothing_more(
    colloquy: Colloquy, mia: Caller, noah: Caller, horizon: int
) -> None:
    """Tokens are not signed: a client may say that it has seen as little as it likes."""
    hidden = await mia.create(title="H", visibility=PARTICIPANTS)
    gone = await mia.create(title="G", visibility=PARTICIPANTS)
    await mia.send(hidden.id).reply()
    await delete(mia, gone.id)
    shown = await mia.create(title="S")
    honest = Index(noah)
    await honest.until(lambda: bool(honest.events))
    packed = list(_LAYOUT.unpack(base64.urlsafe_b64decode(honest.token)))
    packed[5:] = [horizon, (1 << 32) - 1]
    index = Index(noah, token=base64.urlsafe_b64encode(_LAYOUT.pack(*packed)).decode())
    await change(mia, hidden.id, title="Secret")
    await index.until(lambda: shown.id in index.held)
    await change(mia, shown.id, title="Last")
    await index.until(lambda: index.held[shown.id].title == "Last")
    told = {event.conversation.id or event.removed for event in index.events}
    assert told - {""} == {shown.id}


@ALONE
async def test_who_missed_too_much_or_too_long_ago_begins_anew(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    await alice.create(title="T")
    index = Index(alice)
    await index.is_known()
    index.disconnect()
    monkeypatch.setattr(rows, "MAX_CHANGES", 3)
    for number in range(4):
        await alice.create(title=str(number))
    await index.until_true()
    assert "reset" in [event.WhichOneof("event") for event in index.events]
    monkeypatch.undo()
    before = len(index.events)
    index.disconnect()
    monkeypatch.setattr(rows, "_MARGIN", removals.KEPT + 3_600 * MICROS)
    await index.next()
    assert index.events[before].WhichOneof("event") == "reset"


@ALONE
async def test_a_quiet_watch_is_alive_and_its_token_goes_on(
    colloquy: Colloquy, alice: Caller
) -> None:
    await colloquy.restart(heartbeat_interval=0.05)
    alice = alice.at(colloquy)
    index = Index(alice)
    await index.is_known()
    for _ in range(3):
        event = await index.next()
        assert event.WhichOneof("event") == "heartbeat"
        assert event.resume_token


async def test_a_watch_goes_on_on_another_server_after_a_restart(
    colloquy: Colloquy, mia: Caller
) -> None:
    first = await mia.create(title="1")
    index = Index(mia)
    await index.is_known()
    stopping = asyncio.create_task(colloquy.stop())
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        while True:
            await index.next()
    assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
    await stopping
    await colloquy.start()
    mia = mia.at(colloquy)
    await delete(mia, first.id)
    second = await mia.create(title="2")
    index.connect(mia.on(colloquy.channel))
    await index.until(lambda: set(index.held) == {second.id})


async def test_without_the_bus_a_watch_hears_of_what_other_servers_do(
    tmp_path: Path, postgres_url: str
) -> None:
    async with Colloquy(tmp_path, postgres_url, replicas=2, event_bus_url="memory://") as fleet:
        alice = await fleet.account()
        index = Index(alice.on(fleet.far))  # type: ignore[arg-type]
        await index.is_known()
        made = await alice.on(fleet.channel).create(title="T")
        await index.until(lambda: made.id in index.held)
        await delete(alice.on(fleet.channel), made.id)
        await index.until(lambda: made.id not in index.held)


async def test_what_a_killed_server_did_last_is_told(tmp_path: Path, postgres_url: str) -> None:
    async with Colloquy(tmp_path, postgres_url) as fleet:
        alice = await fleet.account()
        process = ServerProcess(fleet)
        channel = await process.start()
        there = alice.on(channel)
        index = Index(there)
        await index.is_known()
        made = await there.create(title="T")
        await process.end()
        index.connect(alice)
        await index.until(lambda: made.id in index.held)


@ALONE
async def test_a_watch_ends_with_its_key(colloquy: Colloquy, alice: Caller, mia: Caller) -> None:
    await colloquy.restart(key_check_interval=0.05)
    mia, admin = mia.at(colloquy), colloquy.admin
    index = Index(mia)
    await index.is_known()
    keys = await admin.admin.ListApiKeys(
        admin_api.ListApiKeysRequest(account_id=alice.account_id), metadata=admin.metadata
    )
    hers = next(key for key in keys.api_keys if key.user.external_id == "mia")
    await admin.admin.RevokeApiKey(
        admin_api.RevokeApiKeyRequest(api_key_id=hers.id), metadata=admin.metadata
    )
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        while True:
            await index.next()
    assert ended.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_a_database_that_was_restored_elsewhere_goes_on(
    tmp_path: Path, postgres_url: str
) -> None:
    """The marks that it brings are those of another Postgres, and far ahead of its own."""
    async with Colloquy(tmp_path, postgres_url) as fleet:
        alice = await fleet.account()
        made = await alice.create(title="T")
        far = update(Conversation).values(change_mark=1 << 60)
        await fleet.app.db.write(EVERY_ACCOUNT, lambda s: s.run(far))
        index = Index(alice)
        await index.is_known()
        marks = select(func.max(Conversation.change_mark))
        newest = await fleet.app.db.read(EVERY_ACCOUNT, lambda s: s.run(marks).scalar_one())
        assert newest < 1 << 60
        await change(alice, made.id, title="New")
        await index.until(lambda: index.held[made.id].title == "New")


@ALONE
async def test_what_is_told_of_removals_is_forgotten_in_time(
    colloquy: Colloquy, alice: Caller
) -> None:
    made, old = await alice.create(), await alice.create()
    await delete(alice, made.id)
    await delete(alice, old.id)
    aged = (
        update(ConversationRemoval)
        .where(ConversationRemoval.conversation_id == old.id)
        .values(create_time=0)
    )
    await colloquy.app.db.write(EVERY_ACCOUNT, lambda s: s.run(aged))
    await colloquy.restart()

    async def kept() -> list[str]:
        ids = select(ConversationRemoval.conversation_id)
        return await colloquy.app.db.read(EVERY_ACCOUNT, lambda s: s.run(ids).scalars())

    assert await eventually(kept, [made.id]) == [made.id]


# --- people, and pages from the end ---------------------------------------------------------------


async def people(caller: Caller, query: str = "", size: int = 0) -> list[str]:
    """The names of people, page by page."""
    found: list[str] = []
    token = ""
    while True:
        request = api.ListUsersRequest(query=query, page_size=size, page_token=token)
        page = await caller.call("ListUsers", request)
        assert not any(user.email for user in page.users)
        found += [user.display_name for user in page.users]
        token = page.next_page_token
        if not token:
            return found


@ALONE
async def test_people_are_found_by_how_their_names_begin(
    colloquy: Colloquy, alice: Caller, mia: Caller
) -> None:
    made = await alice.create()
    named = [("anna", "Anna Älter"), ("x.y@corp.example", "Bo"), ("50%", "100 %_ sure")]
    users = [resources.User(external_id=id_, display_name=name) for id_, name in named]
    there = await invite(alice, made.id, *users)
    everybody = ["100 %_ sure", "alice", "Anna Älter", "Bo", "Mia"]
    assert await people(mia) == everybody
    assert await people(mia, size=2) == everybody
    assert await people(mia, "a") == ["alice", "Anna Älter"]
    assert await people(mia, "ÄLT") == await people(mia, "anna al") == ["Anna Älter"]
    assert await people(mia, "corp") == ["Bo"]
    assert await people(mia, "nna") == await people(mia, "%") == await people(mia, "_") == []
    assert await people(await colloquy.account("Others")) == ["Others"]
    bo = next(user for user in there.participants if user.display_name == "Bo")
    renamed = resources.User(external_id=bo.external_id, display_name="Robert")
    await alice.send(made.id, author=renamed).reply()
    assert (await people(mia, "bo"), await people(mia, "rob")) == ([], ["Robert"])
    await colloquy.admin.admin.DeleteUser(
        admin_api.DeleteUserRequest(user_id=bo.id), metadata=colloquy.admin.metadata
    )
    assert await people(mia, "rob") == []
    assert len(await people(mia)) == len(everybody) - 1


@ANY
async def test_messages_are_listed_from_the_end(colloquy: Colloquy, alice: Caller) -> None:
    made = await alice.create(title="T")
    for number in range(12):
        await alice.send(made.id, f"Message {number}").reply()
    everything = await alice.history(made.id)
    pages = []
    token = ""
    while True:
        page = await alice.call(
            "ListMessages",
            api.ListMessagesRequest(
                conversation_id=made.id, page_size=10, page_token=token, from_end=True
            ),
        )
        pages.append(list(page.messages))
        token = page.next_page_token
        if not token:
            break
    assert [len(page) for page in pages] == [10, 10, 4]
    assert [message for page in reversed(pages) for message in page] == everything

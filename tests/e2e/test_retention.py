"""Conversations whose time has come: deleted like those that somebody deletes, and no others."""

from __future__ import annotations

import asyncio
import time

import pytest
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy_server.database.models import Conversation, new_id
from colloquy_server.database.repository import retention
from colloquy_server.database.transactions import EVERY_ACCOUNT, Session
from colloquy_server.database.values import DAY
from colloquy_server.replies import retention_sweep
from colloquy_server.replies.engine import Replies
from colloquy_server.replies.retention_sweep import RetentionSweep
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import insert, select, text, update

from tests.e2e.talk import hold
from tests.e2e.test_audit import events
from tests.fleets import ALONE, ANY
from tests.harness import Caller, Colloquy, eventually
from tests.index import Index, listed
from tests.statuses import refused
from tests.uploads import count, emptied, upload

HOUR = 3_600


def within(seconds: float) -> Timestamp:
    return Timestamp(seconds=int(time.time() + seconds))


async def keep_for(colloquy: Colloquy, caller: Caller, days: int) -> admin_api.Account:
    admin = colloquy.admin
    request = admin_api.UpdateAccountRequest(account_id=caller.account_id, retention_days=days)
    answer = await admin.admin.UpdateAccount(request, metadata=admin.metadata)
    return answer.account


async def expire(caller: Caller, conversation_id: str, at: Timestamp | None) -> Timestamp | None:
    """Sets when a conversation is deleted; returns what it then says of that."""
    request = api.UpdateConversationRequest(
        conversation=resources.Conversation(id=conversation_id, expire_time=at),
        update_mask=FieldMask(paths=["expire_time"]),
    )
    changed = (await caller.call("UpdateConversation", request)).conversation
    return changed.expire_time if changed.HasField("expire_time") else None


async def make_older(colloquy: Colloquy, conversation_id: str, days: int) -> None:
    """Has what was set and said of a conversation be so many days ago."""
    columns = (Conversation.expire_time, Conversation.activity_time)
    values = {column.key: column - days * DAY for column in columns}
    statement = update(Conversation).where(Conversation.id == conversation_id).values(values)
    await colloquy.app.db.write(EVERY_ACCOUNT, lambda s: s.execute(statement) and None)


async def sweep(colloquy: Colloquy) -> None:
    """As every server does each minute: here all at once."""
    await asyncio.gather(*(RetentionSweep(app.db, app.replies).sweep() for app in colloquy.apps))


async def test_a_conversation_ends_at_its_time_with_all_that_is_in_it(
    colloquy: Colloquy, alice: Caller
) -> None:
    file = await upload(alice, b"what is in the file")
    talk = await alice.create(title="Ours", expire_time=within(HOUR))
    assert talk.HasField("expire_time")
    stays = await alice.create(expire_time=within(3 * 24 * HOUR))
    await alice.send(talk.id, "Look at this", attachment_ids=[file.id]).reply()
    held = await hold(colloquy, alice, talk.id, "And this?")
    watch, index = alice.watch(talk.id), Index(alice)
    await watch.until("conversation")
    index.connect()
    while talk.id not in index.held:
        await index.next()

    await sweep(colloquy)
    assert (await alice.conversation(talk.id)).id == talk.id, "its time has not come"
    for each in (talk, stays):
        await make_older(colloquy, each.id, 1)
    await sweep(colloquy)

    await watch.until("deleted")
    await held.stream.rest()
    assert held.stream.transcript.is_deleted
    asked = colloquy.provider.reply_requests[-1]
    await asked.ended()
    assert asked.outcome == "client closed"
    while talk.id in index.held:
        await index.next()
    index.disconnect()
    refusal = await refused(alice.conversation(talk.id))
    assert refusal.reason == "CONVERSATION_NOT_FOUND"
    assert await count(colloquy, "messages", "attachments") == [0, 0]
    colloquy.app.files.remove_soon()
    await emptied(colloquy)
    assert list(await listed(alice)) == [stays.id]
    noted = [e for e in await events(colloquy) if e.action == "ExpireConversation"]
    assert [(e.actor, e.target_id, e.account_id) for e in noted] == [
        ("server", talk.id, alice.account_id)
    ]


async def test_an_account_keeps_conversations_for_its_days_after_the_last_message(
    colloquy: Colloquy, alice: Caller
) -> None:
    bob = await colloquy.account("bob")
    old, newer, own, others = [await each.create() for each in (alice, alice, alice, bob)]
    assert (await keep_for(colloquy, alice, 30)).retention_days == 30
    told = (await alice.conversation(old.id)).expire_time.ToMicroseconds()
    assert told == old.create_time.ToMicroseconds() + 30 * DAY
    assert await expire(alice, own.id, within(HOUR)) is not None  # the earlier of the two
    assert (await listed(alice))[own.id].expire_time.ToMicroseconds() < told - 29 * DAY
    assert not (await bob.conversation(others.id)).HasField("expire_time")
    for each in (old, newer, others):
        await make_older(colloquy, each.id, 31)
    await alice.send(newer.id, "Not yet").reply()
    await sweep(colloquy)
    assert {*await listed(alice)} == {newer.id, own.id}
    assert {*await listed(bob)} == {others.id}
    # The account keeps all again, and what was set for one still holds.
    await keep_for(colloquy, alice, 0)
    for each in (newer, own):
        await make_older(colloquy, each.id, 31)
    await sweep(colloquy)
    assert {*await listed(alice)} == {newer.id}
    assert not (await alice.conversation(newer.id)).HasField("expire_time")


@ANY
async def test_a_server_that_starts_deletes_what_came_to_its_time_meanwhile(
    colloquy: Colloquy, alice: Caller
) -> None:
    talk, stays = await alice.create(expire_time=within(HOUR)), await alice.create()
    await make_older(colloquy, talk.id, 1)
    await colloquy.restart()
    alice = alice.at(colloquy)

    async def left() -> list[str]:
        return [*await listed(alice)]

    assert await eventually(left, [stays.id]) == [stays.id]


@ALONE
async def test_what_happens_between_the_look_and_the_deletion_keeps_a_conversation(
    colloquy: Colloquy, alice: Caller
) -> None:
    await keep_for(colloquy, alice, 30)
    talk = await alice.create(title="Ours")  # which then is changed by nobody else
    put_off = await alice.create(expire_time=within(HOUR))
    for each in (talk, put_off):
        await make_older(colloquy, each.id, 31)
    db, replies = colloquy.app.db, colloquy.app.replies
    found = (await db.read(EVERY_ACCOUNT, retention.inactive, "", 20)).due
    assert {due.id for due in found} == {talk.id, put_off.id}
    await alice.send(talk.id, "Wait").reply()
    await make_older(colloquy, put_off.id, -31)
    await expire(alice, put_off.id, within(HOUR))
    before = (await alice.conversation(talk.id)).update_time
    for due in found:
        assert not await replies.expire_conversation(*due)
    assert {*await listed(alice)} == {talk.id, put_off.id}
    assert (await alice.conversation(talk.id)).update_time == before
    assert not await replies.expire_conversation(alice.account_id, new_id())


async def test_who_may_say_when_it_ends(colloquy: Colloquy, alice: Caller) -> None:
    member = admin_api.ApiKey.ROLE_MEMBER
    mia, noah = [
        await colloquy.key(alice.account_id, member, user=resources.User(external_id=name))
        for name in ("mia", "noah")
    ]
    talk = await mia.create()
    assert await expire(mia, talk.id, within(HOUR)) is not None
    for at in (within(2 * HOUR), None):
        refusal = await refused(expire(noah, talk.id, at))
        assert refusal.status == "PERMISSION_DENIED"
    assert (await alice.conversation(talk.id)).HasField("expire_time")
    # Taken away by who names it and gives none.
    assert await expire(alice, talk.id, None) is None
    await make_older(colloquy, talk.id, 1)
    await sweep(colloquy)
    assert [*await listed(mia)] == [talk.id]
    noted = [e for e in await events(colloquy) if e.action == "UpdateConversation"]
    assert [e.actor for e in noted] == ["member", "service"]


@ANY
async def test_a_time_that_has_been_or_never_comes_is_refused(
    colloquy: Colloquy, alice: Caller
) -> None:
    talk = await alice.create()
    for bad in (within(-1), Timestamp(seconds=1 << 40), Timestamp(seconds=0)):
        told = await refused(expire(alice, talk.id, bad))
        assert list(told.fields) == ["conversation.expire_time"]
        told = await refused(alice.create(expire_time=bad))
        assert list(told.fields) == ["expire_time"]
    for days in (-1, 36_501):
        told = await refused(keep_for(colloquy, alice, days))
        assert list(told.fields) == ["retention_days"]


async def test_a_backlog_goes_in_batches_and_sends_go_through_meanwhile(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    await keep_for(colloquy, alice, 30)
    talk = await alice.create()
    await make_old_copies(colloquy, talk.id, 100)
    end, reached, halfway = Replies.expire_conversation, 0, asyncio.Event()

    async def counted(self: Replies, account_id: str, conversation_id: str) -> bool:
        nonlocal reached
        has_ended = await end(self, account_id, conversation_id)
        reached += has_ended
        if reached >= 40:
            halfway.set()
        return has_ended

    monkeypatch.setattr(Replies, "expire_conversation", counted)
    monkeypatch.setattr(retention_sweep, "_SHARE", 0)  # the shorter pauses are enough
    sweeping = asyncio.create_task(sweep(colloquy))
    await halfway.wait()
    await alice.send(talk.id, "Is anybody there?").reply()
    left = await count(colloquy, "conversations")
    assert left > [1], "it was answered before the rest was gone"
    await sweeping
    assert reached == 100, "each was deleted once, by one server"
    assert [*await listed(alice)] == [talk.id]
    assert await count(colloquy, "conversations") == [1]
    assert await count(colloquy, "quotas WHERE conversations = 1") == [1]


async def make_old_copies(colloquy: Colloquy, conversation_id: str, number: int) -> None:
    """Makes so many conversations like one, in which nobody has written for a year."""

    def copy(s: Session) -> None:
        columns = Conversation.__table__.c
        row = s.execute(select(*columns).where(columns.id == conversation_id)).one()._asdict()
        row["activity_time"] -= 365 * DAY
        s.execute(insert(Conversation), [{**row, "id": new_id()} for _ in range(number)])
        quota = "UPDATE quotas SET conversations = conversations + :more WHERE id = :account"
        s.execute(text(quota), {"more": number, "account": row["account_id"]})

    await colloquy.app.db.write(EVERY_ACCOUNT, copy)

"""Quotas: how much accounts and keys may hold at a time."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import grpc
import pytest
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import attachment_service_pb2 as attachment_api
from colloquy.api import conversation_service_pb2 as api
from colloquy_server.database.repository import attachments
from colloquy_server.database.transactions import EVERY_ACCOUNT, Session
from sqlalchemy import text

from tests.e2e.talk import hold
from tests.fleets import ALONE, BY_ALL
from tests.harness import Caller, Colloquy, ServerProcess
from tests.statuses import Refusal, refused
from tests.uploads import CHUNK, count, emptied, parts, stored, upload

Quotas = admin_api.Quotas

TRIES = 12


async def limited(colloquy: Colloquy, **quotas: int) -> Caller:
    """A key of a new account with these quotas."""
    made = await ask(
        colloquy,
        "CreateAccount",
        admin_api.CreateAccountRequest(name="limited", quotas=Quotas(**quotas)),
    )
    assert made.account.quotas == Quotas(**quotas)
    return await colloquy.key(made.account.id)


async def ask(colloquy: Colloquy, method: str, request: Any) -> Any:
    admin = colloquy.admin
    return await getattr(admin.admin, method)(request, metadata=admin.metadata)


async def change(colloquy: Colloquy, caller: Caller, **quotas: int) -> None:
    request = admin_api.UpdateAccountRequest(account_id=caller.account_id, quotas=Quotas(**quotas))
    answer = await ask(colloquy, "UpdateAccount", request)
    assert answer.account.quotas == Quotas(**quotas)


def is_over(refusal: Refusal, subject: str) -> None:
    """Checks that a call was refused for a quota of this account or key."""
    found = (refusal.status, refusal.reason, refusal.quota)
    assert found == ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", (subject,))


def of_account(caller: Caller) -> str:
    return f"account:{caller.account_id}"


async def counted(colloquy: Colloquy) -> None:
    """Checks that what is counted is what there is, in all accounts and for all keys."""

    def read(s: Session) -> list[tuple[Any, ...]]:
        return [
            tuple(row)
            for row in s.execute(
                text(
                    """
                    SELECT q.file_bytes, q.conversations,
                        (SELECT coalesce(sum(b.byte_size), 0) FROM blobs b
                         WHERE q.id IN (b.account_id, b.api_key_id)),
                        (SELECT count(*) FROM conversations c
                         WHERE q.id IN (c.account_id, c.api_key_id))
                    FROM quotas q
                    """
                )
            )
        ]

    rows = await colloquy.app.db.read(EVERY_ACCOUNT, read)
    assert [row[:2] for row in rows] == [row[2:] for row in rows]


async def outcomes(*calls: Awaitable[Any]) -> tuple[list[Any], list[grpc.aio.AioRpcError]]:
    """What came of calls made at once: those that were done, and those that were refused."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    failed = [result for result in results if isinstance(result, grpc.aio.AioRpcError)]
    done = [result for result in results if not isinstance(result, BaseException)]
    assert len(failed) + len(done) == len(calls), results
    return done, failed


# --- conversations --------------------------------------------------------------------------------


async def test_no_more_conversations_are_made_than_an_account_may_have(colloquy: Colloquy) -> None:
    alice = await limited(colloquy, conversations=3)
    others = [alice.on(colloquy.far)] if colloquy.far else []
    callers = [alice, *others]
    made, failed = await outcomes(*(callers[n % len(callers)].create() for n in range(TRIES)))
    assert (len(made), len(failed)) == (3, TRIES - 3)
    is_over(await refused(alice.create()), of_account(alice))
    assert await count(colloquy, "conversations") == [3]
    await counted(colloquy)


@ALONE
async def test_a_deleted_conversation_gives_its_place_back(colloquy: Colloquy) -> None:
    alice = await limited(colloquy, conversations=1)
    for _ in range(3):
        made = await alice.create()
        await alice.send(made.id).reply()
        is_over(await refused(alice.create()), of_account(alice))
        await alice.call(
            "DeleteConversation", api.DeleteConversationRequest(conversation_id=made.id)
        )
    await counted(colloquy)


@ALONE
async def test_what_was_made_before_is_found_when_there_is_no_room(colloquy: Colloquy) -> None:
    alice = await limited(colloquy, conversations=2)
    named = await alice.create(external_id="named")
    asked = await alice.create(request_id="asked")
    assert (await alice.create(external_id="named")).id == named.id
    assert (await alice.create(request_id="asked")).id == asked.id
    is_over(await refused(alice.create(external_id="new")), of_account(alice))


@ALONE
async def test_quotas_are_changed_and_an_account_that_has_more_keeps_it(
    colloquy: Colloquy, alice: Caller
) -> None:
    made = [await alice.create() for _ in range(3)]
    await change(colloquy, alice, conversations=2)
    is_over(await refused(alice.create()), of_account(alice))
    assert await count(colloquy, "conversations") == [len(made)]
    await change(colloquy, alice, conversations=4)
    await alice.create()
    is_over(await refused(alice.create()), of_account(alice))
    unchanged = admin_api.UpdateAccountRequest(account_id=alice.account_id)
    answer = await ask(colloquy, "UpdateAccount", unchanged)
    assert answer.account.quotas == Quotas(conversations=4)
    await change(colloquy, alice)
    await alice.create()


@ALONE
async def test_a_key_has_quotas_of_its_own_within_its_accounts(
    colloquy: Colloquy, alice: Caller
) -> None:
    key = await colloquy.key(alice.account_id, quotas=Quotas(conversations=2))
    listed = await ask(
        colloquy, "ListApiKeys", admin_api.ListApiKeysRequest(account_id=alice.account_id)
    )
    assert [each.quotas for each in listed.api_keys] == [Quotas(), Quotas(conversations=2)]
    assert [each.HasField("quotas") for each in listed.api_keys] == [False, True]
    key_id = listed.api_keys[1].id
    made = (await outcomes(*(key.create() for _ in range(TRIES))))[0]
    assert len(made) == 2
    is_over(await refused(key.create()), f"api_key:{key_id}")
    await alice.create()  # with another key there is no limit
    # Whoever deletes it, the key has its place again.
    await alice.call(
        "DeleteConversation", api.DeleteConversationRequest(conversation_id=made[0].id)
    )
    await key.create()
    await counted(colloquy)
    await change(colloquy, alice, conversations=1)
    is_over(await refused(key.create()), of_account(alice))


async def test_deleted_accounts_leave_no_quotas(colloquy: Colloquy) -> None:
    alice = await limited(colloquy, conversations=1)
    await colloquy.key(alice.account_id, quotas=Quotas(file_bytes=1))
    assert await count(colloquy, "quotas") == [2]
    await ask(
        colloquy, "DeleteAccount", admin_api.DeleteAccountRequest(account_id=alice.account_id)
    )
    assert await count(colloquy, "quotas") == [0]


async def test_the_settings_hold_where_an_account_has_no_quota(colloquy: Colloquy) -> None:
    await colloquy.restart(
        max_conversations_per_account=1,
        max_file_bytes_per_account=10,
        max_queued_replies_per_account=1,
    )
    alice = await colloquy.account()
    conversation = await alice.create()
    is_over(await refused(alice.create()), of_account(alice))
    is_over(await refused(upload(alice, b"x" * 11)), of_account(alice))
    await hold(colloquy, alice, conversation.id)
    waiting = alice.send(conversation.id)
    await waiting.accepted()
    is_over(await refused(alice.send(conversation.id)), of_account(alice))
    await change(colloquy, alice, conversations=2)  # its own goes before the server's
    await alice.create()


# --- files ----------------------------------------------------------------------------------------


async def test_no_more_bytes_are_kept_than_an_account_may_have(colloquy: Colloquy) -> None:
    alice = await limited(colloquy, file_bytes=3_000)
    callers = [alice, *([alice.on(colloquy.far)] if colloquy.far else [])]
    made, failed = await outcomes(
        *(upload(callers[n % len(callers)], bytes([65 + n]) * 1_000) for n in range(TRIES))
    )
    assert (len(made), len(failed)) == (3, TRIES - 3)
    is_over(await refused(upload(alice, b"once more")), of_account(alice))
    assert len(stored(colloquy)) == 3
    assert await count(colloquy, "blobs", "attachments", "removals") == [3, 3, 0]
    await counted(colloquy)


@ALONE
@pytest.mark.parametrize("says_sum", [False, True])
async def test_the_same_file_is_taken_again_when_there_is_no_room(
    colloquy: Colloquy, says_sum: bool
) -> None:
    alice = await limited(colloquy, file_bytes=700_000)
    large, small = b"a" * 600_000, b"b" * 100_000
    first = [await upload(alice, data) for data in (large, small)]
    for data, before in zip((large, small), first, strict=True):
        header = {"sha256": hashlib.sha256(data).hexdigest()} if says_sum else {}
        assert (await upload(alice, data, **header)).id == before.id
        renamed = await upload(alice, data, "another.txt", **header)
        assert renamed.id != before.id
    is_over(await refused(upload(alice, b"c")), of_account(alice))
    await counted(colloquy)


@BY_ALL
@pytest.mark.parametrize("says_sum", [False, True])
async def test_an_upload_is_refused_as_soon_as_it_passes_the_quota(
    colloquy: Colloquy, says_sum: bool
) -> None:
    alice = await limited(colloquy, file_bytes=CHUNK)
    data = b"a" * (3 * CHUNK)
    header = {"sha256": hashlib.sha256(data).hexdigest()} if says_sum else {}

    async def sent() -> AsyncIterator[attachment_api.UploadAttachmentRequest]:
        async for part in parts(data, **header):
            yield part
        await asyncio.Event().wait()  # the end never comes

    call = alice.attachments.UploadAttachment(sent(), metadata=alice.metadata)
    is_over(await refused(call), of_account(alice))
    assert stored(colloquy) == []
    assert await count(colloquy, "blobs", "removals") == [0, 0]


@ALONE
async def test_files_of_a_key_count_for_it(colloquy: Colloquy, alice: Caller) -> None:
    key = await colloquy.key(alice.account_id, quotas=Quotas(file_bytes=1_000))
    await upload(alice, b"a" * 900)
    await upload(key, b"a" * 900)  # which are there already, for nobody's second time
    await upload(key, b"b" * 600)
    assert (await refused(upload(key, b"c" * 600))).quota[0].startswith("api_key:")
    await upload(alice, b"c" * 600)
    await counted(colloquy)


async def test_files_that_go_give_their_room_back(
    colloquy: Colloquy, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await limited(colloquy, file_bytes=1_000)
    conversation = await alice.create()
    used = await upload(alice, b"a" * 1_000)
    await alice.send(conversation.id, "See", attachment_ids=[used.id]).reply()
    is_over(await refused(upload(alice, b"b")), of_account(alice))
    await alice.call(
        "DeleteConversation", api.DeleteConversationRequest(conversation_id=conversation.id)
    )
    await upload(alice, b"b" * 1_000)
    await counted(colloquy)
    monkeypatch.setattr(attachments, "UNUSED_KEPT", -1_000_000)
    await colloquy.app.files.sweep()
    await counted(colloquy)
    assert await count(colloquy, "blobs") == [0]
    await upload(alice, b"c" * 1_000)
    await ask(
        colloquy, "DeleteAccount", admin_api.DeleteAccountRequest(account_id=alice.account_id)
    )
    await emptied(colloquy)


@ALONE
async def test_an_upload_that_cannot_be_kept_counts_for_nothing(
    colloquy: Colloquy, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await limited(colloquy, file_bytes=1_000)
    put = colloquy.app.files._storage.put

    async def broken(*_: Any) -> None:
        raise OSError

    monkeypatch.setattr(colloquy.app.files._storage, "put", broken)
    assert (await refused(upload(alice, b"a" * 1_000))).status == "INTERNAL"
    await counted(colloquy)
    monkeypatch.setattr(colloquy.app.files._storage, "put", put)
    await upload(alice, b"b" * 1_000)


async def test_what_is_counted_outlives_a_kill(colloquy: Colloquy) -> None:
    await colloquy.stop()
    server = ServerProcess(colloquy)
    channel = await server.start()
    admin = Caller(channel, colloquy.admin.key)
    request = admin_api.CreateAccountRequest(
        name="limited", quotas=Quotas(conversations=20, file_bytes=2_000)
    )
    account = (await admin.admin.CreateAccount(request, metadata=admin.metadata)).account
    key = await admin.admin.CreateApiKey(
        admin_api.CreateApiKeyRequest(
            account_id=account.id, name="k", role=admin_api.ApiKey.ROLE_SERVICE
        ),
        metadata=admin.metadata,
    )
    alice = Caller(channel, key.secret, account.id)
    calls: list[asyncio.Future[Any]]
    calls = [asyncio.ensure_future(alice.create()) for _ in range(TRIES)]
    calls += [asyncio.ensure_future(upload(alice, bytes([65 + n]) * 100)) for n in range(TRIES)]
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    await server.end()
    await asyncio.gather(*calls, return_exceptions=True)
    await colloquy.start()
    await counted(colloquy)


# --- replies that wait ----------------------------------------------------------------------------


async def test_no_more_replies_wait_than_an_account_may_have(colloquy: Colloquy) -> None:
    alice = await limited(colloquy, queued_replies=3)
    # Several conversations, so that no lock on one of them keeps the sends apart.
    conversations = [await alice.create() for _ in range(4)]
    for conversation in conversations:
        await hold(colloquy, alice, conversation.id)
    callers = [alice, *([alice.on(colloquy.far)] if colloquy.far else [])]
    streams = [
        callers[n % len(callers)].send(conversations[n % 4].id, request_id=f"{n}")
        for n in range(TRIES)
    ]
    accepted, failed = await outcomes(*(stream.accepted() for stream in streams))
    assert (len(accepted), len(failed)) == (3, TRIES - 3)
    is_over(await refused(alice.send(conversations[0].id)), of_account(alice))
    assert await count(colloquy, "messages") == [2 * (4 + 3)]
    # One that is cancelled makes room for another.
    await alice.cancel(accepted[0].reply.id)
    await alice.send(conversations[0].id).accepted()
    is_over(await refused(alice.send(conversations[1].id)), of_account(alice))
    # What starts at once does not wait.
    await hold(colloquy, alice, (await alice.create()).id)


@ALONE
async def test_sends_and_regenerates_that_were_taken_are_taken_again(colloquy: Colloquy) -> None:
    alice = await limited(colloquy, queued_replies=2)
    first, second = [await alice.create() for _ in range(2)]
    done = await alice.send(first.id).reply()
    for conversation in (first, second):
        await hold(colloquy, alice, conversation.id)
    sent = await alice.send(second.id, request_id="sent").accepted()
    again = await alice.regenerate(done.id, request_id="again").accepted()
    is_over(await refused(alice.send(first.id)), of_account(alice))
    assert await alice.send(second.id, request_id="sent").accepted() == sent
    assert await alice.regenerate(done.id, request_id="again").accepted() == again
    # It takes the place of the one that it supersedes.
    newer = await alice.regenerate(done.id).accepted()
    assert newer.reply.id != again.reply.id
    assert await count(colloquy, "messages") == [2 + 4 + 2 + 2]


@ALONE
async def test_replies_that_wait_count_for_the_key_that_asked(
    colloquy: Colloquy, alice: Caller
) -> None:
    key = await colloquy.key(alice.account_id, quotas=Quotas(queued_replies=1))
    conversation = await alice.create()
    held = await hold(colloquy, key, conversation.id)
    await alice.send(conversation.id).accepted()
    await key.send(conversation.id).accepted()
    assert (await refused(key.send(conversation.id))).quota[0].startswith("api_key:")
    assert (await refused(key.regenerate(held.reply.id))).quota[0].startswith("api_key:")
    await alice.send(conversation.id).accepted()

"""AdminService: accounts and keys, by the platform's key."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from colloquy.api import admin_service_pb2 as api
from colloquy.api import conversation_service_pb2 as conversation_api
from colloquy.api import resources_pb2 as resources
from google.protobuf.timestamp_pb2 import Timestamp

from tests.e2e.talk import HALF, hold, text_of
from tests.fleets import ALONE, ANY
from tests.harness import Caller, Colloquy
from tests.statuses import refused
from tests.uploads import count, upload

NOWHERE = "01890000-0000-7000-8000-000000000000"

LAST = 253_402_300_799
"""The last second of the year 9999, in which a Timestamp ends."""

BAD_TIMES = [
    (1, 0),
    (-(2**63), 0),
    (LAST + 1, 0),
    (9_300_000_000_000, 0),
    (2**63 - 1, 0),
    (2**33, -5),
    (2**33, 2_000_000_000),
]


async def ask(colloquy: Colloquy, method: str, request: Any) -> Any:
    admin = colloquy.admin
    return await getattr(admin.admin, method)(request, metadata=admin.metadata)


@ALONE
async def test_an_account_is_made_once_for_an_external_id(colloquy: Colloquy) -> None:
    request = api.CreateAccountRequest(name="Acme", external_id="acme")
    made = await asyncio.gather(*(ask(colloquy, "CreateAccount", request) for _ in range(5)))
    assert len({answer.account.id for answer in made}) == 1
    again = api.CreateAccountRequest(name="Another", external_id="acme")
    assert (await ask(colloquy, "CreateAccount", again)).account == made[0].account
    assert made[0].account.name == "Acme"
    nameless = api.CreateAccountRequest(name="Acme")
    ids = {(await ask(colloquy, "CreateAccount", nameless)).account.id for _ in range(2)}
    assert len(ids) == 2


@ALONE
async def test_accounts_and_keys_are_listed_page_by_page_oldest_first(colloquy: Colloquy) -> None:
    made = [
        (await ask(colloquy, "CreateAccount", api.CreateAccountRequest(name=f"{n}"))).account
        for n in range(5)
    ]
    keys = [
        (
            await ask(
                colloquy,
                "CreateApiKey",
                api.CreateApiKeyRequest(
                    account_id=made[0].id, name=f"{n}", role=api.ApiKey.ROLE_SERVICE
                ),
            )
        ).api_key
        for n in range(5)
    ]
    for method, request, field, expected in (
        ("ListAccounts", api.ListAccountsRequest(page_size=2), "accounts", made),
        (
            "ListApiKeys",
            api.ListApiKeysRequest(page_size=2, account_id=made[0].id),
            "api_keys",
            keys,
        ),
    ):
        found: list[Any] = []
        sizes = []
        while True:
            page = await ask(colloquy, method, request)
            found.extend(getattr(page, field))
            sizes.append(len(getattr(page, field)))
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert found == expected
        assert sizes == [2, 2, 1]


@ANY
async def test_a_secret_is_shown_once_and_opens_its_account(colloquy: Colloquy) -> None:
    account = (await ask(colloquy, "CreateAccount", api.CreateAccountRequest(name="A"))).account
    user = resources.User(external_id="mia", display_name="Mia")
    made = await ask(
        colloquy,
        "CreateApiKey",
        api.CreateApiKeyRequest(
            account_id=account.id, name="Mia's", role=api.ApiKey.ROLE_MEMBER, user=user
        ),
    )
    assert made.secret
    assert (made.api_key.user.external_id, made.api_key.user.display_name) == ("mia", "Mia")
    assert made.secret not in str(made.api_key)
    listed = await ask(colloquy, "ListApiKeys", api.ListApiKeysRequest(account_id=account.id))
    assert list(listed.api_keys) == [made.api_key]
    await Caller(colloquy.channel, made.secret).create()
    database = colloquy.folder / "conversations.db"
    for file in database.parent.glob(database.name + "*"):
        assert made.secret.encode() not in file.read_bytes(), "only a hash is stored"


@ANY
async def test_bad_keys_are_not_made(colloquy: Colloquy) -> None:
    account = (await ask(colloquy, "CreateAccount", api.CreateAccountRequest(name="A"))).account
    good = {"account_id": account.id, "name": "k", "role": api.ApiKey.ROLE_SERVICE}
    mia = resources.User(external_id="mia")
    bad: list[tuple[dict[str, Any], str]] = [
        ({"name": ""}, "name"),
        ({"role": api.ApiKey.ROLE_UNSPECIFIED}, "role"),
        ({"role": 9}, "role"),
        ({"role": api.ApiKey.ROLE_MEMBER}, "user"),
        ({"role": api.ApiKey.ROLE_MEMBER, "user": resources.User(display_name="M")}, "user"),
        ({"user": mia}, "user"),
        ({"account_id": "x"}, "account_id"),
        *(({"expire_time": Timestamp(seconds=s, nanos=n)}, "expire_time") for s, n in BAD_TIMES),
    ]
    for fields, field in bad:
        request = api.CreateApiKeyRequest(**{**good, **fields})
        refusal = await refused(ask(colloquy, "CreateApiKey", request))
        assert refusal.status == "INVALID_ARGUMENT"
        assert list(refusal.fields) == [field]
    listed = await ask(colloquy, "ListApiKeys", api.ListApiKeysRequest(account_id=account.id))
    assert not listed.api_keys


@ANY
async def test_accounts_and_keys_that_do_not_exist_are_not_found(colloquy: Colloquy) -> None:
    service = api.ApiKey.ROLE_SERVICE
    for method, request, reason in (
        ("DeleteAccount", api.DeleteAccountRequest(account_id=NOWHERE), "ACCOUNT_NOT_FOUND"),
        ("ListApiKeys", api.ListApiKeysRequest(account_id=NOWHERE), "ACCOUNT_NOT_FOUND"),
        (
            "CreateApiKey",
            api.CreateApiKeyRequest(account_id=NOWHERE, name="k", role=service),
            "ACCOUNT_NOT_FOUND",
        ),
        ("RevokeApiKey", api.RevokeApiKeyRequest(api_key_id=NOWHERE), "API_KEY_NOT_FOUND"),
    ):
        refusal = await refused(ask(colloquy, method, request))
        assert (refusal.status, refusal.reason) == ("NOT_FOUND", reason)


@ANY
async def test_a_revoked_key_fails_at_once_and_stays_revoked(
    colloquy: Colloquy, alice: Caller
) -> None:
    await alice.create()
    listed = await ask(colloquy, "ListApiKeys", api.ListApiKeysRequest(account_id=alice.account_id))
    request = api.RevokeApiKeyRequest(api_key_id=listed.api_keys[0].id)
    revoked = (await ask(colloquy, "RevokeApiKey", request)).api_key
    assert revoked.HasField("revoke_time")
    assert (await refused(alice.create())).status == "UNAUTHENTICATED"
    assert (await ask(colloquy, "RevokeApiKey", request)).api_key == revoked
    other = await colloquy.key(alice.account_id)
    assert (
        len(
            (
                await other.call("ListConversations", conversation_api.ListConversationsRequest())
            ).conversations
        )
        == 1
    )


async def test_a_deleted_account_takes_everything_with_it(
    colloquy: Colloquy, alice: Caller
) -> None:
    bob = await colloquy.account("bob")
    await bob.send((await bob.create(title="Bob's")).id).rest()
    conversation = await alice.create(title="Gone")
    held = await hold(colloquy, alice, conversation.id)
    watch = alice.watch(conversation.id)
    await text_of(watch, held.id, HALF)
    request = colloquy.provider.reply_requests[1]
    await ask(colloquy, "DeleteAccount", api.DeleteAccountRequest(account_id=alice.account_id))
    async with asyncio.timeout(60):
        await request.ended()
        assert request.outcome == "client closed"
        for stream in (watch, held.stream):
            try:
                await stream.rest()
                assert stream.transcript.is_deleted
            except grpc.aio.AioRpcError as error:
                assert error.code() == grpc.StatusCode.UNAUTHENTICATED  # noqa: PT017
        while True:  # the other server learns of it in time
            try:
                await alice.create()
            except grpc.aio.AioRpcError as error:
                assert error.code() == grpc.StatusCode.UNAUTHENTICATED  # noqa: PT017
                break
    accounts = (await ask(colloquy, "ListAccounts", api.ListAccountsRequest())).accounts
    assert [account.name for account in accounts] == ["bob"]
    listed = await bob.call("ListConversations", conversation_api.ListConversationsRequest())
    assert [conversation.title for conversation in listed.conversations] == ["Bob's"]


async def test_a_key_that_a_server_still_remembers_makes_nothing_in_an_account_that_is_gone(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = await alice.create()
    reply = await alice.send(conversation.id).reply()
    await alice.conversation(conversation.id)
    for app in colloquy.apps:  # as a server that has not heard of it yet
        monkeypatch.setattr(app.access, "forget_account", lambda _: None)
    await ask(colloquy, "DeleteAccount", api.DeleteAccountRequest(account_id=alice.account_id))
    new = resources.User(external_id="somebody new")
    cancel = {"conversation_id": conversation.id, "request_id": "r"}
    rating = conversation_api.RateReplyRequest(message_id=reply.id, author=new)
    for call, reason in (
        (alice.create(external_id="e"), "ACCOUNT_NOT_FOUND"),
        (upload(alice, b"text"), "ACCOUNT_NOT_FOUND"),
        (alice.send(conversation.id, author=new), "CONVERSATION_NOT_FOUND"),
        (alice.call("RateReply", rating), "MESSAGE_NOT_FOUND"),
        (
            alice.call("CancelReply", conversation_api.CancelReplyRequest(**cancel)),
            "CONVERSATION_NOT_FOUND",
        ),
    ):
        assert (await refused(call)).reason == reason
    tables = ("conversations", "users", "api_keys", "blobs", "attachments", "cancel_wishes")
    assert await count(colloquy, *tables) == [0] * len(tables)

"""What each kind of key may do, and that whoever has none costs little and harms nobody."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import Counter
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import grpc
import pytest
from colloquy.api import admin_service_pb2 as api
from colloquy.api import conversation_service_pb2 as conversation_api
from colloquy.api import resources_pb2 as resources
from colloquy_server.api import admin, key_lookups, key_uses
from colloquy_server.api.access import new_secret
from colloquy_server.database.models import ApiKey
from colloquy_server.database.repository import access as rows
from colloquy_server.database.transactions import Session

from tests.e2e.test_admin import NOWHERE, ask
from tests.fleets import ALONE, ANY
from tests.harness import PROVISIONING_KEY, Caller, Colloquy, eventually
from tests.statuses import Refusal, read, refused
from tests.uploads import count

BAD = "colloquy_" + 43 * "x"
"""What looks like a key and is none."""


class Reads:
    """How often keys were read, and which."""

    def __init__(self) -> None:
        self.count = 0
        self.hashes: list[str] = []


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    found, look_up = Reads(), rows.keys_by_hash

    def noted(s: Session, hashes: Collection[str]) -> tuple[dict[str, ApiKey], int]:
        found.count += 1
        found.hashes.extend(hashes)
        return look_up(s, hashes)

    monkeypatch.setattr(rows, "keys_by_hash", noted)
    return found


def bearer(colloquy: Colloquy, key: str, address: str = "") -> Caller:
    """Somebody with a key; `address` is what the proxy before the server says of them."""
    caller = Caller(colloquy.channel, key)
    if address:
        caller.metadata = (*caller.metadata, ("x-forwarded-for", address))  # type: ignore[assignment]
    return caller


async def models(caller: Caller) -> Refusal | None:
    """Makes a call; returns how it was refused, if it was."""
    try:
        await caller.conversations.ListModels(
            conversation_api.ListModelsRequest(), metadata=caller.metadata
        )
    except grpc.aio.AioRpcError as error:
        return read(error)
    return None


async def status(caller: Caller) -> str:
    refusal = await models(caller)
    return refusal.status if refusal else "OK"


# --- the platform's keys --------------------------------------------------------------------------


@ANY
async def test_each_of_several_platform_keys_administers(colloquy: Colloquy) -> None:
    keys = [f"the-platform-key-number-{number}-of-three" for number in range(3)]
    await colloquy.restart(admin_api_key=f"{keys[0]}, {keys[1]} {keys[2]}")
    for key in keys:
        caller = Caller(colloquy.channel, key)
        await caller.admin.ListAccounts(api.ListAccountsRequest(), metadata=caller.metadata)
    assert (await refused(ask(colloquy, "ListAccounts", api.ListAccountsRequest()))).status == (
        "UNAUTHENTICATED"
    )


def provisioning(colloquy: Colloquy) -> Caller:
    return Caller(colloquy.channel, PROVISIONING_KEY)


async def by(caller: Caller, method: str, request: Any) -> Any:
    return await getattr(caller.admin, method)(request, metadata=caller.metadata)


def new_key(account_id: str, **fields: Any) -> api.CreateApiKeyRequest:
    fields = {"name": "k", "role": api.ApiKey.ROLE_SERVICE, **fields}
    return api.CreateApiKeyRequest(account_id=account_id, **fields)


@ALONE
async def test_a_provisioning_key_makes_accounts_and_keys_that_work(colloquy: Colloquy) -> None:
    bot = provisioning(colloquy)
    request = api.CreateAccountRequest(name="Ours", external_id="ours")
    account = (await by(bot, "CreateAccount", request)).account
    assert (await by(bot, "CreateAccount", request)).account == account
    secret = (await by(bot, "CreateApiKey", new_key(account.id))).secret
    await Caller(colloquy.channel, secret).create()


@ALONE
async def test_a_provisioning_key_takes_over_no_other_account(
    colloquy: Colloquy, alice: Caller
) -> None:
    bot = provisioning(colloquy)
    request = api.CreateAccountRequest(name="Theirs", external_id="theirs")
    theirs = (await ask(colloquy, "CreateAccount", request)).account
    before = await count(colloquy, "accounts", "users", "api_keys")
    mia = {"role": api.ApiKey.ROLE_MEMBER, "user": resources.User(external_id="mia")}
    assert (await refused(by(bot, "CreateAccount", request))).status == "PERMISSION_DENIED"
    nobodys = await refused(by(bot, "CreateApiKey", new_key(NOWHERE)))
    assert nobodys.status == "PERMISSION_DENIED"
    for account_id in (theirs.id, alice.account_id):
        for fields in ({}, mia):
            refusal = await refused(by(bot, "CreateApiKey", new_key(account_id, **fields)))
            assert refusal == nobodys, "it says nothing of whether there is such an account"
    assert await count(colloquy, "accounts", "users", "api_keys") == before


@ALONE
async def test_an_account_that_was_made_beforehand_is_not_taken_for_the_platforms(
    colloquy: Colloquy,
) -> None:
    """Who has a provisioning key would hold keys to what the platform fills later."""
    request = api.CreateAccountRequest(name="Acme", external_id="acme")
    account = (await by(provisioning(colloquy), "CreateAccount", request)).account
    assert (await refused(ask(colloquy, "CreateAccount", request))).status == "PERMISSION_DENIED"
    # By its id the platform administers it as any other.
    await ask(colloquy, "CreateApiKey", new_key(account.id))
    await ask(colloquy, "DeleteAccount", api.DeleteAccountRequest(account_id=account.id))
    await ask(colloquy, "CreateAccount", request)


@ALONE
async def test_a_key_may_revoke_itself_and_no_other(colloquy: Colloquy, alice: Caller) -> None:
    other = await colloquy.key(alice.account_id)
    listed = api.ListApiKeysRequest(account_id=alice.account_id)
    mine, others = (await ask(colloquy, "ListApiKeys", listed)).api_keys
    for key_id in (others.id, NOWHERE, "", "nonsense"):
        request = api.RevokeApiKeyRequest(api_key_id=key_id)
        refusal = await refused(by(alice, "RevokeApiKey", request))
        assert refusal.status == "PERMISSION_DENIED"
    request = api.RevokeApiKeyRequest(api_key_id=mine.id.upper())
    assert (await by(alice, "RevokeApiKey", request)).api_key.HasField("revoke_time")
    assert (await refused(by(alice, "RevokeApiKey", request))).status == "UNAUTHENTICATED"
    assert (await refused(alice.create())).status == "UNAUTHENTICATED"
    await other.create()


# --- whoever has no key ---------------------------------------------------------------------------


@ANY
async def test_what_is_no_key_is_never_looked_up(colloquy: Colloquy, reads: Reads) -> None:
    for key in ("", "x", "colloquy_", BAD[:-1], BAD + "x", BAD[:-1] + "!", 5_000 * "x", "a.b.c"):
        assert await status(bearer(colloquy, key)) == "UNAUTHENTICATED"
    assert reads.count == 0


@ALONE
async def test_a_key_that_is_known_to_be_bad_is_looked_up_once(
    colloquy: Colloquy, alice: Caller, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_lookups, "_BAD_FOR", 3_600.0)
    listed = await ask(colloquy, "ListApiKeys", api.ListApiKeysRequest(account_id=alice.account_id))
    await ask(colloquy, "RevokeApiKey", api.RevokeApiKeyRequest(api_key_id=listed.api_keys[0].id))
    for key in (BAD, alice.key):
        reads.count = 0
        answers = await asyncio.gather(*(status(bearer(colloquy, key)) for _ in range(100)))
        assert set(answers) == {"UNAUTHENTICATED"}
        assert reads.count == 1


@ALONE
async def test_a_key_that_was_tried_before_it_was_made_works_at_once(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_lookups, "_BAD_FOR", 3_600.0)
    monkeypatch.setattr(admin, "new_secret", lambda: BAD)
    assert await status(bearer(colloquy, BAD)) == "UNAUTHENTICATED"
    await colloquy.key(alice.account_id)
    assert await status(bearer(colloquy, BAD)) == "OK"


async def test_a_key_that_was_tried_before_it_was_made_works_soon_on_all_servers(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "new_secret", lambda: BAD)
    monkeypatch.setattr(key_lookups, "_BAD_FOR", 0.2)
    far = Caller(colloquy.far or colloquy.channel, BAD)
    assert await status(far) == "UNAUTHENTICATED"
    await colloquy.key(alice.account_id)
    assert await eventually(lambda: status(far), "OK") == "OK"


def test_a_key_is_held_for_bad_for_a_few_seconds() -> None:
    assert key_lookups._BAD_FOR <= 5


@ALONE
async def test_a_flood_of_bad_keys_costs_few_reads_and_is_told_to_come_back_later(
    colloquy: Colloquy, reads: Reads
) -> None:
    await colloquy.restart(max_failed_authentications=20)
    began = time.monotonic()
    refusals = await asyncio.gather(*(models(bearer(colloquy, new_secret())) for _ in range(400)))
    took = time.monotonic() - began
    statuses = Counter(refusal.status for refusal in refusals if refusal)
    assert statuses.total() == 400
    assert 20 <= statuses["UNAUTHENTICATED"] <= 20 + took * 20 / 60 + 1
    assert statuses["RESOURCE_EXHAUSTED"] == 400 - statuses["UNAUTHENTICATED"]
    late = next(each for each in refusals if each and each.status == "RESOURCE_EXHAUSTED")
    assert (late.reason, late.quota) == ("RATE_LIMITED", ("address",))
    assert late.retry_delay
    at_once = statuses["UNAUTHENTICATED"]
    assert reads.count <= at_once + took / key_lookups._BATCH_DELAY + 1


@ALONE
async def test_good_keys_go_on_where_others_fail(colloquy: Colloquy, alice: Caller) -> None:
    """Behind one address there may be many: also a key that this process has not seen yet."""
    await colloquy.restart(max_failed_authentications=1)
    known = alice.at(colloquy)
    assert await status(known) == "OK"
    new = [await colloquy.key(alice.account_id) for _ in range(3)]
    assert await status(bearer(colloquy, BAD)) == "UNAUTHENTICATED"
    flood = asyncio.gather(*(status(bearer(colloquy, new_secret())) for _ in range(100)))
    assert await asyncio.gather(*(status(caller) for caller in (known, *new))) == ["OK"] * 4
    assert set(await flood) <= {"RESOURCE_EXHAUSTED", "UNAUTHENTICATED"}


@ALONE
async def test_lookups_that_wait_are_bounded_and_nobody_who_is_known_waits(
    colloquy: Colloquy, alice: Caller, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    await colloquy.restart(max_failed_authentications=1, key_check_interval=8)
    known, new = alice.at(colloquy), await colloquy.key(alice.account_id)
    assert await status(known) == "OK"
    assert await status(bearer(colloquy, "x")) == "UNAUTHENTICATED"
    monkeypatch.setattr(key_lookups, "_WAITING", 0)
    reads.count = 0
    assert await status(new) == "RESOURCE_EXHAUSTED"
    assert await status(known) == "OK"
    assert reads.count == 0


@ANY
async def test_a_key_that_was_good_a_moment_ago_waits_for_nobody(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    await colloquy.restart(max_failed_authentications=1)
    alice = alice.at(colloquy)
    assert await status(alice) == "OK"
    assert await status(bearer(colloquy, "x")) == "UNAUTHENTICATED"
    monkeypatch.setattr(key_lookups, "_WAITING", 0)
    for known in colloquy.app.access._cache.values():
        known.until = 0.0  # it has to be looked at again
    assert await status(alice) == "OK"


@ANY
async def test_going_away_before_the_answer_counts_as_a_failure(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a flood of calls that are cancelled at once would cost a read each; and what waits for
    nobody keeps no place."""
    await colloquy.restart(max_failed_authentications=1)
    monkeypatch.setattr(key_lookups, "_WAITING", 4)
    access = colloquy.app.access
    for _ in range(20):
        gone = asyncio.create_task(access.authenticate(f"Bearer {new_secret()}", "127.0.0.1"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
    assert await status(bearer(colloquy, BAD)) == "RESOURCE_EXHAUSTED"
    assert await status(alice.at(colloquy)) == "OK"


@ANY
async def test_every_platform_key_is_compared_whichever_it_is(
    colloquy: Colloquy, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[bytes | str] = []

    def compare(one: str, other: str) -> bool:
        compared.append(other)
        return one == other

    keys = [new_secret() for _ in range(4)]
    await colloquy.restart(
        admin_api_key=",".join(keys[:2]), provisioning_api_key=",".join(keys[2:])
    )
    monkeypatch.setattr(hmac, "compare_digest", compare)
    for key in (*keys, BAD):
        compared.clear()
        await status(bearer(colloquy, key))
        assert len(compared) == 4


@ANY
async def test_a_good_key_does_not_count_as_a_failure(colloquy: Colloquy, alice: Caller) -> None:
    await colloquy.restart(max_failed_authentications=1)
    for _ in range(3):
        assert await status(await colloquy.key(alice.account_id)) == "OK"
    assert await status(bearer(colloquy, BAD)) == "UNAUTHENTICATED"
    assert await status(bearer(colloquy, BAD)) == "RESOURCE_EXHAUSTED"


@ANY
async def test_behind_a_proxy_those_who_call_through_it_are_told_apart(colloquy: Colloquy) -> None:
    await colloquy.restart(max_failed_authentications=1, trusted_proxies=1)
    for address, expected in (
        ("192.0.2.1", "UNAUTHENTICATED"),
        ("192.0.2.1", "RESOURCE_EXHAUSTED"),
        ("198.51.100.7, 192.0.2.1", "RESOURCE_EXHAUSTED"),  # made up, before what the proxy saw
        ("192.0.2.2", "UNAUTHENTICATED"),
        ("2001:db8::1", "UNAUTHENTICATED"),
        ("2001:db8::2", "RESOURCE_EXHAUSTED"),  # of the same /64
        ("2001:db8:0:1::1", "UNAUTHENTICATED"),
    ):
        assert await status(bearer(colloquy, BAD, address)) == expected, address


@ANY
async def test_without_a_proxy_nobody_says_where_they_call_from(colloquy: Colloquy) -> None:
    await colloquy.restart(max_failed_authentications=1)
    assert await status(bearer(colloquy, BAD, "192.0.2.1")) == "UNAUTHENTICATED"
    assert await status(bearer(colloquy, BAD, "192.0.2.2")) == "RESOURCE_EXHAUSTED"


# --- keys that end, and their last use ------------------------------------------------------------


async def test_a_key_that_was_revoked_or_has_expired_is_refused_by_every_server(
    colloquy: Colloquy, alice: Caller
) -> None:
    await colloquy.restart(key_check_interval=0.2)
    alice = alice.at(colloquy)
    channels = [colloquy.channel, colloquy.far or colloquy.channel]
    brief = await colloquy.key(alice.account_id)
    listed = api.ListApiKeysRequest(account_id=alice.account_id)
    (key_id,) = {key.id for key in (await ask(colloquy, "ListApiKeys", listed)).api_keys[1:]}
    for channel in channels:
        assert await status(brief.on(channel)) == "OK"  # each has it in its cache
    await ask(colloquy, "RevokeApiKey", api.RevokeApiKeyRequest(api_key_id=key_id))
    for channel in channels:
        ask_it = partial(status, brief.on(channel))
        assert await eventually(ask_it, "UNAUTHENTICATED") == "UNAUTHENTICATED"


async def last_uses(colloquy: Colloquy, account_id: str) -> list[bool]:
    """Whether it is known of each key of an account that it was used."""
    listed = await ask(colloquy, "ListApiKeys", api.ListApiKeysRequest(account_id=account_id))
    return [key.HasField("last_used_time") for key in listed.api_keys]


@ALONE
async def test_the_last_use_of_a_key_is_stored_once_in_a_while(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[set[str]] = []
    store = rows.store_uses

    def noted(s: Session, uses: Mapping[str, float]) -> None:
        stored.append(set(uses))
        store(s, uses)

    monkeypatch.setattr(rows, "store_uses", noted)
    await colloquy.restart(key_check_interval=0.05)
    alice = alice.at(colloquy)
    unused, other = await colloquy.key(alice.account_id), await colloquy.key(alice.account_id)
    assert await status(alice) == "OK"
    expected = [True, False, False]
    assert await eventually(lambda: last_uses(colloquy, alice.account_id), expected) == expected
    for _ in range(20):
        assert await status(alice) == "OK"
    # When this one is stored, the loop has come by, and has stored nothing more of alice's.
    assert await status(other) == "OK"
    expected = [True, False, True]
    assert await eventually(lambda: last_uses(colloquy, alice.account_id), expected) == expected
    assert [len(keys) for keys in stored] == [1, 1]
    assert stored[0] != stored[1]
    assert unused.key


@ALONE
async def test_the_last_use_is_stored_when_a_server_stops_and_is_never_later_than_it_was(
    colloquy: Colloquy, alice: Caller
) -> None:
    await colloquy.restart(key_check_interval=8)
    assert await status(alice.at(colloquy)) == "OK"
    made = await ask(colloquy, "CreateAccount", api.CreateAccountRequest(name="After"))
    await colloquy.restart()
    listed = await ask(colloquy, "ListApiKeys", api.ListApiKeysRequest(account_id=alice.account_id))
    (key,) = listed.api_keys
    assert key.HasField("last_used_time")
    assert key.last_used_time.ToNanoseconds() <= made.account.create_time.ToNanoseconds()


def test_a_key_in_use_is_stored_every_few_minutes() -> None:
    assert 60 <= key_uses._STORE_INTERVAL <= 600

"""People with tokens of their company's identity provider, against a real server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy_server.api.access import new_secret
from colloquy_server.database.models import User
from colloquy_server.database.repository import access as rows
from colloquy_server.database.repository.deletion import begin_leaving
from colloquy_server.database.transactions import EVERY_ACCOUNT, DatabaseUnavailable, Session
from colloquy_server.errors import PermissionDenied, TooManyFailures, Unauthenticated
from sqlalchemy import delete, select

from tests.fakes.identity_provider import AUDIENCE, IdentityProviderDouble
from tests.fleets import ANY
from tests.harness import Caller, Colloquy, eventually
from tests.statuses import refused, status_of

RULES: list[dict[str, Any]] = [
    {"when": {"groups": "jobs"}, "account": "acme", "role": "service"},
    {
        "when": {"groups": ["staff", "admins"]},
        "account": "acme",
        "admin_when": {"groups": "admins"},
    },
    {"when": {"groups": "lost"}, "account": "no-such-account"},
]

MIA: dict[str, Any] = {
    "sub": "mia-1",
    "email": "Mia@acme.example",
    "email_verified": True,
    "name": "Mia",
    "groups": ["staff"],
}


class Company:
    """A server that takes the tokens of a provider, and the account of the rules."""

    def __init__(self, colloquy: Colloquy, idp: IdentityProviderDouble, account_id: str) -> None:
        self.colloquy = colloquy
        self.idp = idp
        self.account_id = account_id

    def caller(self, **claims: Any) -> Caller:
        """Somebody with a new token."""
        token = self.idp.token(**{**MIA, "jti": str(time.monotonic_ns()), **claims})
        return self.caller_with(token)

    def caller_with(self, token: str) -> Caller:
        return Caller(self.colloquy.channel, token, self.account_id, self.colloquy.far)

    async def users(self) -> list[tuple[str | None, str]]:
        """The users of the account, but for its default one."""

        def found(s: Session) -> list[tuple[str | None, str]]:
            rows = s.scalars(select(User).where(User.external_id.is_not(None)).order_by(User.id))
            return [(row.external_id, row.display_name) for row in rows]

        return await self.colloquy.app.db.read(self.account_id, found)


@pytest.fixture
async def idp() -> AsyncIterator[IdentityProviderDouble]:
    async with IdentityProviderDouble() as running:
        yield running


@pytest.fixture
async def company(colloquy: Colloquy, idp: IdentityProviderDouble) -> Company:
    await colloquy.restart(
        oidc_issuer=idp.issuer,
        oidc_audience=AUDIENCE,
        oidc_rules=json.dumps(RULES),
        key_check_interval=0.05,
    )
    made = await colloquy.admin.admin.CreateAccount(
        admin_api.CreateAccountRequest(name="Acme", external_id="acme"),
        metadata=colloquy.admin.metadata,
    )
    return Company(colloquy, idp, made.account.id)


async def wrote(caller: Caller, text: str = "Hello", **fields: Any) -> resources.User:
    """Who wrote a message that this caller sends."""
    conversation = await caller.create()
    stream = caller.send(conversation.id, text, **fields)
    accepted = await stream.accepted()
    await stream.rest()
    return accepted.message.author


async def test_a_person_is_the_same_user_with_every_token(company: Company) -> None:
    first = await wrote(company.caller())
    assert (first.external_id, first.display_name) == ("mia@acme.example", "Mia")
    again = await wrote(company.caller(name="Mia M.", email="mia@ACME.example"))
    assert (again.id, again.display_name) == (first.id, "Mia M.")
    key = await company.colloquy.key(
        company.account_id,
        admin_api.ApiKey.ROLE_MEMBER,
        user=resources.User(external_id="mia@acme.example"),
    )
    assert (await wrote(key)).id == first.id
    assert await company.users() == [("mia@acme.example", "Mia M.")]


async def test_first_calls_at_once_make_one_user(company: Company) -> None:
    callers = [company.caller() for _ in range(8)]
    conversations = await asyncio.gather(*(caller.create() for caller in callers))
    assert len(conversations) == 8
    assert await company.users() == [("mia@acme.example", "Mia")]


@ANY
async def test_a_known_token_costs_no_database_read(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = company.colloquy.app.identity
    assert identity is not None
    calls = 0
    identify = identity.identify

    async def counted(token: str, digest: str) -> Any:
        nonlocal calls
        calls += 1
        return await identify(token, digest)

    monkeypatch.setattr(identity, "identify", counted)
    company.colloquy.app.access._interval = 3_600
    caller = company.caller()
    await asyncio.gather(*(caller.call("ListModels", api.ListModelsRequest()) for _ in range(20)))
    assert calls == 1


@ANY
async def test_groups_decide_what_somebody_may(company: Company) -> None:
    member, admin = company.caller(), company.caller(groups=["admins"], sub="ada-1", email="a@b.c")
    job = company.caller(groups=["jobs"], sub="job-1", email=None)
    access = company.colloquy.app.access
    roles = [
        (await access.authenticate(f"Bearer {caller.key}", "")).principal.role.name
        for caller in (member, admin, job)
    ]
    assert roles == ["MEMBER", "ADMIN", "SERVICE"]
    other = resources.User(external_id="somebody@acme.example")
    for caller in (member, admin):
        conversation = await caller.create()
        refusal = await refused(caller.send(conversation.id, "Hi", author=other).rest())
        assert refusal.status == "PERMISSION_DENIED"
    assert (await wrote(job, author=other)).external_id == other.external_id
    assert not (await wrote(job)).external_id, "the account's default user"
    refusal = await refused(
        admin.admin.ListAccounts(admin_api.ListAccountsRequest(), metadata=admin.metadata)
    )
    assert refusal.status == "PERMISSION_DENIED"


@ANY
async def test_who_has_no_rule_has_no_access(company: Company) -> None:
    for claims in ({"groups": ["guests"]}, {"groups": None}, {"groups": ["lost"]}):
        caller = company.caller(**claims)
        refusal = await refused(caller.call("ListModels", api.ListModelsRequest()))
        assert (refusal.status, refusal.reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED")
        assert "nothing here is open to its holder" in refusal.message
        assert "no-such-account" not in refusal.message
    assert await company.users() == []


@ANY
async def test_a_token_without_access_costs_one_look(company: Company) -> None:
    identity, access = company.colloquy.app.identity, company.colloquy.app.access
    assert identity is not None
    identity._interval = 3_600
    caller = company.caller(groups=["lost"])
    looks = 0
    read = company.colloquy.app.db.read

    async def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal looks
        looks += 1
        return await read(*args, **kwargs)

    company.colloquy.app.db.read = counted  # type: ignore[method-assign]
    for _ in range(5):
        with pytest.raises(PermissionDenied):
            await access.authenticate(f"Bearer {caller.key}", "")
    assert looks == 1


@ANY
async def test_a_bad_token_is_unauthenticated(company: Company) -> None:
    now = int(time.time())
    good = company.idp.token(**MIA)
    for token, said in (
        (company.idp.token(**MIA, exp=now - 3_600), "has expired"),
        (company.idp.token(**MIA, nbf=now + 3_600), "is not valid yet"),
        (company.idp.token(**MIA, aud="other"), "is not for this server"),
        (company.idp.token(**MIA, header={"kid": "made-up"}), "is not signed by a key"),
        (good[:-8] + "AAAAAAAA", "is not signed by a key"),
        ("eyJhbGciOiJub25lIn0." + good.split(".")[1] + ".", "is not a JWT"),
    ):
        caller = company.caller_with(token)
        refusal = await refused(caller.call("ListModels", api.ListModelsRequest()))
        assert (refusal.status, refusal.reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
        assert said in refusal.message
    assert await company.users() == []


@ANY
async def test_without_rules_a_token_is_an_unknown_key(
    colloquy: Colloquy, idp: IdentityProviderDouble
) -> None:
    await colloquy.restart(oidc_issuer=idp.issuer, oidc_audience=AUDIENCE)
    caller = Caller(colloquy.channel, idp.token(**MIA))
    refusal = await refused(caller.call("ListModels", api.ListModelsRequest()))
    assert refusal.status == "UNAUTHENTICATED"
    assert not idp.fetched


@ANY
async def test_a_provider_that_is_down_at_the_start_delays_nothing(
    company: Company, idp: IdentityProviderDouble
) -> None:
    await idp.stop()
    key = await company.colloquy.key(company.account_id)
    await company.colloquy.restart(
        oidc_issuer=idp.issuer, oidc_audience=AUDIENCE, oidc_rules=json.dumps(RULES)
    )
    await key.at(company.colloquy).create()
    refusal = await refused(company.caller().call("ListModels", api.ListModelsRequest()))
    assert refusal.status == "UNAVAILABLE"
    assert refusal.retry_delay


@ANY
async def test_the_rate_is_the_users_for_all_its_tokens(company: Company) -> None:
    await company.colloquy.restart(
        oidc_issuer=company.idp.issuer,
        oidc_audience=AUDIENCE,
        oidc_rules=json.dumps(RULES),
        max_requests_per_second=1,
    )
    access = company.colloquy.app.access
    tokens = [company.caller().key for _ in range(5)]
    tries = [access.authenticate(f"Bearer {token}", "") for token in tokens]
    results = await asyncio.gather(*tries, return_exceptions=True)
    limited = [error for error in results if isinstance(error, Exception)]
    # One a second: how many fit depends on how long the others took, never all of them.
    assert limited
    assert {type(error).__name__ for error in limited} == {"RateLimited"}
    assert all(error.subject.startswith("user:") for error in limited)  # type: ignore[attr-defined]


async def watching(company: Company, caller: Caller) -> Any:
    """A watch that has begun."""
    conversation = await caller.create()
    stream = caller.watch(conversation.id)
    await stream.next()
    return stream


async def test_a_stream_ends_with_its_token(company: Company) -> None:
    stream = await watching(company, company.caller())
    for app in company.colloquy.apps:
        assert app.identity is not None
        app.identity.now = lambda: time.time() + 300 + 59
    other = await watching(company, company.caller(exp=int(time.time()) + 3_600))
    for app in company.colloquy.apps:
        assert app.identity is not None
        app.identity.now = lambda: time.time() + 300 + 61
    refusal = await refused(stream.rest())
    assert (refusal.status, refusal.message) == (
        "UNAUTHENTICATED",
        "This API key or token has ended.",
    )
    assert not other.call.done()
    other.cancel()


async def test_a_deleted_user_is_cut_off(company: Company) -> None:
    caller = company.caller()
    stream = caller.watch((await company.caller(groups=["jobs"]).create()).id)
    await stream.next()

    def delete_user(s: Session) -> None:
        s.execute(delete(User).where(User.external_id == "mia@acme.example"))

    await company.colloquy.app.db.write(EVERY_ACCOUNT, delete_user)
    assert (await refused(stream.rest())).status == "UNAUTHENTICATED"
    refusal = await refused(stream_again(caller))
    assert (refusal.status, refusal.message) == (
        "UNAUTHENTICATED",
        "The user of this token was deleted: sign in again.",
    )
    assert await company.users() == []


async def stream_again(caller: Caller) -> None:
    await caller.call("ListModels", api.ListModelsRequest())


async def test_a_deleted_account_is_cut_off(company: Company) -> None:
    caller = company.caller()
    stream = await watching(company, caller)
    await company.colloquy.admin.admin.DeleteAccount(
        admin_api.DeleteAccountRequest(account_id=company.account_id),
        metadata=company.colloquy.admin.metadata,
    )
    with pytest.raises(Exception):  # noqa: B017, PT011 - deleted, or unauthenticated
        await stream.rest()
        raise ConnectionError("the stream ended")

    # At once where it was deleted, and elsewhere when the token is looked at again.
    wanted = "PERMISSION_DENIED PERMISSION_DENIED"
    assert await status_of(caller.create()) == wanted
    assert await eventually(lambda: listed(caller), wanted) == wanted


async def test_who_is_leaving_is_cut_off_at_once(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that they said may take long to delete: none of their streams lasts as long."""

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("colloquy_server.replies.engine.Replies.delete_leaving", never)
    caller = company.caller()
    stream = caller.watch((await company.caller(groups=["jobs"]).create()).id)
    await stream.next()
    known = await company.colloquy.app.access.authenticate(f"Bearer {caller.key}", "")
    await company.colloquy.app.db.write(EVERY_ACCOUNT, begin_leaving, known.principal.user_id)
    async with asyncio.timeout(60):
        assert (await refused(stream.rest())).status == "UNAUTHENTICATED"


@ANY
async def test_the_token_of_a_deleted_user_costs_one_look_and_counts_as_a_failure(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    await restarted(company)
    identity, access = company.colloquy.app.identity, company.colloquy.app.access
    assert identity is not None
    caller, address = company.caller(), "192.0.2.7"
    known = await access.authenticate(f"Bearer {caller.key}", address)
    identity._interval = 3_600
    await company.colloquy.app.db.write(EVERY_ACCOUNT, begin_leaving, known.principal.user_id)
    access.forget_user(known.principal.user_id)
    looks = 0
    find = rows.find_identity

    def counted(*args: Any) -> Any:
        nonlocal looks
        looks += 1
        return find(*args)

    monkeypatch.setattr(rows, "find_identity", counted)
    with pytest.raises(Unauthenticated, match="was deleted"):
        await access.authenticate(f"Bearer {caller.key}", address)
    for _ in range(3):
        with pytest.raises(TooManyFailures):
            await access.authenticate(f"Bearer {caller.key}", address)
    assert looks == 1
    assert not access._cache


async def restarted(company: Company) -> None:
    """A server that takes no more than one failure a minute."""
    await company.colloquy.restart(
        oidc_issuer=company.idp.issuer,
        oidc_audience=AUDIENCE,
        oidc_rules=json.dumps(RULES),
        key_check_interval=0.05,
        max_failed_authentications=1,
    )


async def listed(caller: Caller) -> str:
    return await status_of(caller.call("ListModels", api.ListModelsRequest()))


@ANY
async def test_bad_tokens_are_failures_and_good_ones_go_on(company: Company) -> None:
    await restarted(company)
    bad = company.caller_with(company.idp.token(**MIA, aud="other"))
    assert await listed(bad) == "UNAUTHENTICATED UNAUTHENTICATED"
    assert await listed(bad) == "RESOURCE_EXHAUSTED RATE_LIMITED"
    assert await listed(Caller(company.colloquy.channel, "x")) == "RESOURCE_EXHAUSTED RATE_LIMITED"
    for caller in (company.caller(), await company.colloquy.key(company.account_id)):
        assert await listed(caller.at(company.colloquy)) == "OK"


@ANY
async def test_what_is_no_failure_of_the_callers_throttles_nobody(company: Company) -> None:
    """A good token without access, and one of which nobody can tell while the provider or the
    database is away."""
    await restarted(company)
    for _ in range(3):
        guest = company.caller(groups=["guests"])
        assert await listed(guest) == "PERMISSION_DENIED PERMISSION_DENIED"
    await company.idp.stop()
    await restarted(company)
    for _ in range(3):
        assert await listed(company.caller()) == "UNAVAILABLE INTERNAL"

    async def away(*_: object) -> None:
        raise DatabaseUnavailable

    read = company.colloquy.app.db.read
    company.colloquy.app.db.read = away  # type: ignore[method-assign, assignment]
    for _ in range(3):
        assert await listed(Caller(company.colloquy.channel, new_secret())) == (
            "UNAVAILABLE INTERNAL"
        )
    company.colloquy.app.db.read = read  # type: ignore[method-assign]
    assert await listed(Caller(company.colloquy.channel, "x")) == "UNAUTHENTICATED UNAUTHENTICATED"


@ANY
async def test_any_number_of_tokens_takes_bounded_memory(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("colloquy_server.api.access._CACHED", 8)
    monkeypatch.setattr("colloquy_server.api.identity_access._REMEMBERED", 8)
    access, identity = company.colloquy.app.access, company.colloquy.app.identity
    access._interval = 3_600
    assert identity is not None
    stream = await watching(company, company.caller())
    for n in range(30):
        await access.authenticate(f"Bearer {company.caller(email=f'm{n}@acme.example').key}", "")
        assert len(access._cache) <= 8
    assert len(identity._holders) <= 8
    assert len(identity._rates) <= 8
    assert not stream.call.done()
    stream.cancel()


def test_wrong_rules_stop_the_start_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text("- {when: everyone}\n")
    ended = subprocess.run(
        [sys.executable, "-m", "colloquy_server", "serve"],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "GRPC_ADDRESS": "127.0.0.1:0",
            "OIDC_ISSUER": "https://login.example.com",
            "OIDC_AUDIENCE": AUDIENCE,
            "OIDC_RULES": "rules.yml",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    said = ended.stderr
    assert said == "colloquy: OIDC_RULES: rules.yml: rule 1, account: Field required\n"

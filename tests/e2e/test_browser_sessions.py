"""Browsers that are signed in with keys and links: what a cookie can do, and what ends it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import resources_pb2 as resources
from colloquy.api import session_service_pb2 as sessions_api
from colloquy.api.session_service_pb2_grpc import SessionServiceStub
from colloquy_server.database.models import AuditEvent, BrowserSession, SignInLink
from colloquy_server.database.repository import sessions as rows
from colloquy_server.database.transactions import EVERY_ACCOUNT, DatabaseUnavailable
from sqlalchemy import select, update

from tests.browser_double import CONVERSATIONS, SESSIONS, Browser
from tests.e2e.test_http_attacks import Raw
from tests.fleets import ALONE, ANY
from tests.harness import ADMIN_KEY, PROVISIONING_KEY, Caller, Colloquy, eventually
from tests.statuses import refused

MEMBER = admin_api.ApiKey.ROLE_MEMBER


@pytest.fixture
async def browser(colloquy: Colloquy) -> AsyncIterator[Browser]:
    async with Browser(colloquy.app.web_url) as running:
        yield running


async def member(colloquy: Colloquy, alice: Caller, name: str = "mia", **fields: Any) -> Caller:
    user = resources.User(external_id=name, display_name=name.title())
    return await colloquy.key(alice.account_id, MEMBER, user=user, **fields)


def stub(caller: Caller) -> Any:
    return SessionServiceStub(caller.channel)


async def link_of(caller: Caller, **user: str) -> str:
    """The code of a new link."""
    request = sessions_api.CreateSignInLinkRequest(user=resources.User(**user))
    made = await stub(caller).CreateSignInLink(request, metadata=caller.metadata)
    return str(made.url.partition("#code=")[2])


async def stored(colloquy: Colloquy, table: Any) -> list[Any]:
    return await colloquy.app.db.read(EVERY_ACCOUNT, lambda s: list(s.scalars(select(table))))


async def test_a_key_signs_its_user_in(colloquy: Colloquy, browser: Browser) -> None:
    alice = await colloquy.account()
    mia = await member(colloquy, alice)
    answer = await browser.sign_in(api_key=mia.key)
    assert (answer.status, answer.json) == (200, {})
    who = await browser.who()
    assert who["user"]["externalId"] == "mia"
    assert (who["accountId"], who["accountName"]) == (alice.account_id, "alice")
    assert (who["role"], who["session"]["method"]) == ("ROLE_MEMBER", "METHOD_API_KEY")
    assert who["session"]["current"]
    made = await browser.call(f"{CONVERSATIONS}CreateConversation", title="Mine")
    assert made.json["conversation"]["creator"]["externalId"] == "mia"
    [row] = await stored(colloquy, BrowserSession)
    [secret] = browser.cookies.values()
    assert secret not in str(vars(row)), "only its hash is stored"


@ANY
async def test_every_kind_of_an_accounts_key_signs_in_and_no_other(
    colloquy: Colloquy, browser: Browser
) -> None:
    alice = await colloquy.account()
    admin = await colloquy.key(
        alice.account_id, admin_api.ApiKey.ROLE_ADMIN, user=resources.User(external_id="ada")
    )
    for caller, role in ((alice, "ROLE_SERVICE"), (admin, "ROLE_ADMIN")):
        await browser.sign_in(api_key=caller.key)
        assert (await browser.who())["role"] == role
    for key, status in ((ADMIN_KEY, 403), (PROVISIONING_KEY, 403), ("made up", 401), ("", 401)):
        async with Browser(browser.url) as other:
            answer = await other.sign_in(api_key=key)
            assert answer.status == status, key
            assert not other.cookies
            assert key not in answer.text or not key


@ANY
async def test_the_cookie_is_for_the_page_alone(colloquy: Colloquy, browser: Browser) -> None:
    alice = await colloquy.account()
    answer = await browser.sign_in(api_key=alice.key)
    line = answer.set["colloquy"]
    parts = {part.strip().lower() for part in line.split(";")[1:]}
    assert parts >= {"httponly", "samesite=strict", "path=/"}
    assert "secure" not in parts, "on loopback without TLS"
    assert not any(part.startswith("domain") for part in parts)


@ALONE
async def test_behind_tls_the_cookie_is_secure_and_this_hosts_alone(colloquy: Colloquy) -> None:
    await colloquy.restart(web_url="https://chat.example.com")
    alice = await colloquy.account()
    address = f"http://127.0.0.1:{colloquy.app.http_port}"
    async with Browser(address) as browser:
        own = {"origin": "https://chat.example.com"}
        answer = await browser.ask(
            "POST", "/session", origin=None, json={"api_key": alice.key}, headers=own
        )
        line = answer.set["__Host-colloquy"]
        assert "; Secure" in line
        who = await browser.ask("POST", f"{SESSIONS}GetSession", origin=None, json={}, headers=own)
        assert who.status == 200
        [secret] = browser.cookies.values()
        browser.cookies = {"colloquy": secret}  # which a neighbour's host could have set
        who = await browser.ask("POST", f"{SESSIONS}GetSession", origin=None, json={}, headers=own)
        assert who.status == 401


@ALONE
async def test_only_the_name_that_the_browser_guards_is_the_cookies(colloquy: Colloquy) -> None:
    """What a neighbour's host could set by a name that only looks like it is nothing: a browser
    guards `__Host-` as it is written, and takes other blanks for letters."""
    await colloquy.restart(web_url="https://chat.example.com")
    alice = await colloquy.account()
    own = {"origin": "https://chat.example.com", "host": "chat.example.com"}
    async with Browser(f"http://127.0.0.1:{colloquy.app.http_port}") as browser:
        await browser.ask("POST", "/session", origin=None, json={"api_key": alice.key}, headers=own)
        secret = browser.cookies.pop("__Host-colloquy")

        async def ask(name: bytes) -> int:
            head = [
                b"POST " + f"{SESSIONS}GetSession HTTP/1.1".encode(),
                *(f"{each}: {value}".encode() for each, value in own.items()),
                *(b"content-type: application/json", b"content-length: 2"),
                b"cookie: a=b; " + name + b"=" + secret.encode(),
            ]
            async with Raw(browser.url.removeprefix("http://")) as raw:
                await raw.send(b"\r\n".join([*head, b"", b"{}"]))
                return (await raw.answer())[0]

        assert await ask(b"__Host-colloquy") == 200
        for blank in (b"\xa0", b"\x85", b"\xc2\xa0", b"\xe2\x80\x83"):
            assert await ask(blank + b"__Host-colloquy") == 401, blank
            assert await ask(b"__Host-colloquy" + blank) == 401, blank
        assert await ask(b"__HOST-colloquy") == 401


@ALONE
async def test_a_page_without_tls_is_not_the_one_with_it(colloquy: Colloquy) -> None:
    """Whoever is between a browser and the server writes such a page as they like."""
    alice = await colloquy.account()
    for web_url, origin, status in (
        ("https://chat.example.com", "http://chat.example.com", 403),
        ("https://chat.example.com", "http://other.example.com", 403),
        ("https://chat.example.com", "https://chat.example.com", 200),
        ("https://chat.example.com", "https://other.example.com", 200),
        ("https://chat.example.com", "ftp://chat.example.com", 403),
        ("http://127.0.0.1:1", "http://chat.example.com", 200),
        ("http://127.0.0.1:1", "https://chat.example.com", 200),
    ):
        await colloquy.restart(web_url=web_url)
        async with Browser(f"http://127.0.0.1:{colloquy.app.http_port}") as browser:
            answer = await browser.ask(
                "POST",
                "/session",
                origin=origin,
                json={"api_key": alice.key},
                headers={"host": origin.partition("://")[2]},
            )
            assert answer.status == status, (web_url, origin)


@ANY
async def test_requests_of_other_pages_count_for_nothing(
    colloquy: Colloquy, browser: Browser
) -> None:
    alice = await colloquy.account()
    await browser.sign_in(api_key=alice.key)
    create = f"{CONVERSATIONS}CreateConversation"
    evil = "https://evil.example"
    tries: list[dict[str, Any]] = [
        {"origin": evil, "json": {}},
        {"origin": "null", "json": {}},
        {"origin": "http://[", "json": {}},
        {"origin": None, "json": {}},
        {"origin": browser.url.replace("127.0.0.1", "127.0.0.1.evil.example"), "json": {}},
        {"origin": "own", "json": {}, "headers": {"sec-fetch-site": "cross-site"}},
        {"origin": "own", "json": {}, "headers": {"sec-fetch-site": "same-site"}},
        {"origin": None, "json": {}, "headers": {"sec-fetch-site": "none"}},
        {"origin": evil, "data": "{}", "headers": {"content-type": "text/plain"}},
        {"origin": evil, "data": {"title": "Hi"}},
    ]
    for each in tries:
        answer = await browser.ask("POST", create, **each)
        assert answer.status in (403, 415), each
    listed = await browser.call(f"{CONVERSATIONS}ListConversations")
    assert not listed.json.get("conversations")
    own = await browser.ask(
        "POST", create, origin=None, json={}, headers={"sec-fetch-site": "same-origin"}
    )
    assert own.status == 200
    assert (await browser.ask("GET", create)).status == 405, "what changes something is no GET"


@ANY
async def test_nobody_is_signed_in_or_out_by_another_page(
    colloquy: Colloquy, browser: Browser
) -> None:
    alice = await colloquy.account()
    own = await member(colloquy, alice)
    await browser.sign_in(api_key=own.key)
    body = {"api_key": alice.key}
    for origin in ("https://evil.example", "http://[", "null", None):
        assert (await browser.ask("POST", "/session", origin=origin, json=body)).status == 403
        assert (await browser.ask("DELETE", "/session", origin=origin)).status == 403
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = await browser.ask(
            "POST", "/session", data='{"api_key": "x"}', headers={"content-type": kind}
        )
        assert answer.status == 400
    assert (await browser.who())["user"]["externalId"] == "mia"


@ANY
async def test_a_cookie_or_its_secret_is_nothing_to_grpc(
    colloquy: Colloquy, browser: Browser
) -> None:
    alice = await colloquy.account()
    await browser.sign_in(api_key=alice.key)
    assert (await browser.who())["role"] == "ROLE_SERVICE"  # it is known at this moment
    [secret] = browser.cookies.values()
    request = sessions_api.GetSessionRequest()
    for metadata in (
        (("cookie", f"colloquy={secret}"),),
        (("authorization", f"Bearer {secret}"),),
        (("authorization", f"Bearer colloquy_{secret}"),),
        (("authorization", f"Bearer session:{secret}"),),
    ):
        refusal = await refused(stub(alice).GetSession(request, metadata=metadata))
        assert refusal.status == "UNAUTHENTICATED"
    headers = {"authorization": f"Bearer {secret}"}
    answer = await browser.ask("POST", f"{SESSIONS}GetSession", json={}, headers=headers)
    assert answer.status == 401, "nor is it a bearer over HTTP"
    browser.cookies = {"colloquy": alice.key}
    assert await browser.who() == "unauthenticated", "and a key is no cookie"


@ANY
async def test_each_sign_in_has_a_session_of_its_own(colloquy: Colloquy, browser: Browser) -> None:
    """So that nobody can choose the secret by which somebody will be known."""
    alice = await colloquy.account()
    planted = "A" * 43
    browser.cookies = {"colloquy": planted}
    await browser.sign_in(api_key=alice.key)
    first = browser.cookies["colloquy"]
    assert first != planted
    await browser.sign_in(api_key=alice.key)
    second = browser.cookies["colloquy"]
    assert second != first
    browser.cookies["colloquy"] = first
    assert await browser.who() == "unauthenticated", "the one before has ended"


@ANY
async def test_a_link_signs_in_once(colloquy: Colloquy, browser: Browser) -> None:
    alice = await colloquy.account()
    code = await link_of(alice, external_id="noah", display_name="Noah")
    everywhere = [app.web_url for app in colloquy.apps] * 4
    browsers = [browser, *(Browser(url) for url in everywhere[:4])]
    for other in browsers[1:]:
        await other.__aenter__()
    answers = await asyncio.gather(*(each.sign_in(code=code) for each in browsers))
    assert sorted(answer.status for answer in answers) == [200, 401, 401, 401, 401]
    winner = browsers[[answer.status for answer in answers].index(200)]
    who = await winner.who()
    assert (who["user"]["displayName"], who["role"]) == ("Noah", "ROLE_MEMBER")
    assert who["session"]["method"] == "METHOD_LINK"
    for other in browsers[1:]:
        await other.__aexit__(None, None, None)
    assert await stored(colloquy, SignInLink) == []


@ANY
async def test_a_link_for_nobody_is_the_accounts_own(colloquy: Colloquy, browser: Browser) -> None:
    alice = await colloquy.account()
    await browser.sign_in(code=await link_of(alice))
    who = await browser.who()
    assert (who["role"], who["user"].get("externalId")) == ("ROLE_SERVICE", None)


@ANY
async def test_a_link_that_is_too_old_or_of_a_key_that_ended_signs_nobody_in(
    colloquy: Colloquy, browser: Browser
) -> None:
    alice = await colloquy.account()
    old, ended = await link_of(alice), await link_of(await colloquy.key(alice.account_id))
    db = colloquy.app.db
    [first, _] = sorted(await stored(colloquy, SignInLink), key=lambda row: row.expire_time)
    past = update(SignInLink).where(SignInLink.code_hash == first.code_hash)
    await db.write(EVERY_ACCOUNT, lambda s: s.execute(past.values(expire_time=1)))
    admin = colloquy.admin
    listed = await admin.admin.ListApiKeys(
        admin_api.ListApiKeysRequest(account_id=alice.account_id), metadata=admin.metadata
    )
    await admin.admin.RevokeApiKey(
        admin_api.RevokeApiKeyRequest(api_key_id=listed.api_keys[-1].id), metadata=admin.metadata
    )
    for code in (old, ended, "", "made up"):
        answer = await browser.sign_in(code=code)
        assert (answer.status, answer.json["code"]) == (401, "unauthenticated")
    assert not browser.cookies
    assert rows.LINK_SECONDS <= 3_600


@ANY
async def test_only_a_services_key_makes_links(colloquy: Colloquy, browser: Browser) -> None:
    alice = await colloquy.account()
    mia = await member(colloquy, alice)
    for user in ({}, {"external_id": "mia"}, {"external_id": "noah"}):
        refusal = await refused(link_of(mia, **user))
        assert refusal.status == "PERMISSION_DENIED"
    await browser.sign_in(api_key=alice.key)
    answer = await browser.call(f"{SESSIONS}CreateSignInLink")
    assert answer.status == 403, "not even a session that stands on one"


async def watch(browser: Browser, conversation_id: str) -> aiohttp.ClientResponse:
    """A watch in a browser, which has begun."""
    body = b'{"conversationId":"%s"}' % conversation_id.encode()
    response = await browser._session.post(
        f"{browser.url}{CONVERSATIONS}WatchConversation",
        data=b"\0" + len(body).to_bytes(4, "big") + body,
        headers={
            "content-type": "application/connect+json",
            "origin": browser.url,
            "cookie": f"colloquy={browser.cookies['colloquy']}",
        },
    )
    await response.content.readexactly(5)
    return response


ENDINGS = ("revoked by its user", "revoked by an admin", "signed out", "key", "user", "account")


@pytest.mark.parametrize("how", ENDINGS)
@ANY
async def test_what_ends_a_session_ends_its_streams(
    colloquy: Colloquy, browser: Browser, how: str
) -> None:
    """On the replica, too, that did not hear of it: it looks every few seconds."""
    alice = await colloquy.account()
    mia = await member(colloquy, alice)
    await browser.sign_in(api_key=mia.key)
    session = (await browser.who())["session"]["id"]
    user_id = (await browser.who())["user"]["id"]
    conversation = await mia.create()
    response = await watch(browser, conversation.id)
    request = sessions_api.RevokeSessionRequest(session_id=session)
    admin = colloquy.admin
    if how == "revoked by its user":
        await stub(mia).RevokeSession(request, metadata=mia.metadata)
    elif how == "revoked by an admin":
        ada = await colloquy.key(
            alice.account_id, admin_api.ApiKey.ROLE_ADMIN, user=resources.User(external_id="ada")
        )
        await stub(ada).RevokeSession(request, metadata=ada.metadata)
    elif how == "signed out":
        cookies = dict(browser.cookies)
        assert (await browser.ask("DELETE", "/session")).status == 204
        assert not browser.cookies
        browser.cookies = cookies
    elif how == "key":
        listed = await admin.admin.ListApiKeys(
            admin_api.ListApiKeysRequest(account_id=alice.account_id), metadata=admin.metadata
        )
        [key] = [key.id for key in listed.api_keys if key.user.external_id == "mia"]
        ended = admin_api.RevokeApiKeyRequest(api_key_id=key)
        await admin.admin.RevokeApiKey(ended, metadata=admin.metadata)
    elif how == "user":
        ended_user = admin_api.DeleteUserRequest(user_id=user_id)
        await admin.admin.DeleteUser(ended_user, metadata=admin.metadata)
    else:
        ended_account = admin_api.DeleteAccountRequest(account_id=alice.account_id)
        await admin.admin.DeleteAccount(ended_account, metadata=admin.metadata)
    rest = await response.content.read()
    assert b"unauthenticated" in rest or b'"deleted"' in rest
    assert await browser.who() == "unauthenticated"


@ALONE
async def test_a_session_that_is_ended_elsewhere_ends_here(
    colloquy: Colloquy, browser: Browser
) -> None:
    await colloquy.restart(key_check_interval=0.05)
    browser.url = colloquy.app.web_url
    alice = (await colloquy.account("carol")).at(colloquy)
    await browser.sign_in(api_key=alice.key)
    response = await watch(browser, (await alice.create()).id)
    past = update(BrowserSession).values(revoke_time=1)
    await colloquy.app.db.write(EVERY_ACCOUNT, lambda s: s.execute(past))
    assert b"This session has ended" in await response.content.read()
    assert await browser.who() == "unauthenticated"


@ALONE
async def test_a_session_ends_by_itself(colloquy: Colloquy, browser: Browser) -> None:
    alice = await colloquy.account()
    await browser.sign_in(api_key=alice.key)
    [row] = await stored(colloquy, BrowserSession)
    day = 86_400 * 1_000_000
    assert row.expire_time - row.create_time == 7 * day, "unused"
    db = colloquy.app.db
    for age, left in ((1, 7), (26, 4), (30, 0)):
        begun = update(BrowserSession).values(create_time=row.create_time - age * day)
        await db.write(EVERY_ACCOUNT, lambda s: s.execute(begun))  # noqa: B023
        use = {row.id: time.monotonic() + 1}
        await db.write(EVERY_ACCOUNT, rows.store_uses, use, 30 * 86_400)
        [used] = await stored(colloquy, BrowserSession)
        assert round((used.expire_time - used.last_used_time) / day) == left
        await db.write(
            EVERY_ACCOUNT, lambda s: s.execute(update(BrowserSession).values(last_used_time=1))
        )
    colloquy.app.access._cache.clear()
    assert await browser.who() == "unauthenticated"


@ANY
async def test_people_see_and_end_their_own_sessions_alone(
    colloquy: Colloquy, browser: Browser
) -> None:
    alice, bob = await colloquy.account(), await colloquy.account("bob")
    mia, noah = await member(colloquy, alice), await member(colloquy, alice, "noah")
    browser.headers["user-agent"] = "Lynx/2.9"
    await browser.sign_in(api_key=mia.key)
    listed = (await browser.call(f"{SESSIONS}ListSessions")).json["sessions"]
    assert [(each["userAgent"], each["current"]) for each in listed] == [("Lynx/2.9", True)]
    nothing = await stub(noah).ListSessions(
        sessions_api.ListSessionsRequest(), metadata=noah.metadata
    )
    assert not nothing.sessions
    request = sessions_api.RevokeSessionRequest(session_id=listed[0]["id"])
    for stranger in (noah, bob):
        refusal = await refused(stub(stranger).RevokeSession(request, metadata=stranger.metadata))
        assert (refusal.status, refusal.reason) == ("NOT_FOUND", "SESSION_NOT_FOUND")
    assert (await browser.who())["session"]["id"] == listed[0]["id"]
    for _ in range(2):  # one that has ended stays so
        await stub(mia).RevokeSession(request, metadata=mia.metadata)
    assert await browser.who() == "unauthenticated"


@ALONE
async def test_sign_in_and_out_are_in_the_audit_trail_without_secrets(
    colloquy: Colloquy, browser: Browser, capsys: pytest.CaptureFixture[str]
) -> None:
    alice = await colloquy.account()
    mia = await member(colloquy, alice)
    code = await link_of(alice, external_id="noah")
    await browser.sign_in(api_key=mia.key)
    session = (await browser.who())["session"]["id"]
    secret = browser.cookies["colloquy"]
    await browser.ask("DELETE", "/session")
    await browser.sign_in(code=code)
    await browser.sign_in(code=code)

    async def noted() -> list[tuple[str, str]]:
        events = await stored(colloquy, AuditEvent)
        return [(each.action, each.refusal) for each in events if "Session" in each.action]

    wanted = [
        ("CreateSession", ""),
        ("CreateSession", ""),
        ("CreateSession", "UNAUTHENTICATED"),
        ("RevokeSession", ""),
    ]
    await eventually(lambda: _sorted(noted()), wanted)
    events = await stored(colloquy, AuditEvent)
    [begun] = [e for e in events if e.action == "CreateSession" and e.target_id == session]
    assert (begun.actor, begun.account_id) == ("member", alice.account_id)
    assert begun.user_id
    assert begun.api_key_id
    said = "".join(capsys.readouterr())
    assert "CreateSession" in said
    for hidden in (secret, code, mia.key, *browser.cookies.values()):
        assert hidden not in said


async def _sorted(found: Any) -> list[Any]:
    return sorted(await found)


@ALONE
async def test_guessing_is_slowed_down(colloquy: Colloquy) -> None:
    await colloquy.restart(max_failed_authentications=3)
    alice = await colloquy.account()
    good = await link_of(alice)
    async with Browser(colloquy.app.web_url) as browser:
        statuses = [(await browser.sign_in(code=f"guess {n}")).status for n in range(5)]
        assert statuses == [401, 401, 401, 429, 429]
        answer = await browser.sign_in(code=good)
        assert answer.status == 429
        assert int(answer.headers["retry-after"]) > 0


@ANY
async def test_no_other_page_has_its_readers_taken_for_guessing(colloquy: Colloquy) -> None:
    await colloquy.restart(max_failed_authentications=3)
    alice = await colloquy.account()
    good = await link_of(alice)
    async with Browser(colloquy.app.web_url) as browser:
        for said in (
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
            {"origin": "https://evil.example"},
        ):
            for _ in range(2):
                answer = await browser.ask("GET", "/files/1", headers=said)
                assert answer.status == 403
                answer = await browser.ask("POST", "/files", origin=None, data="x", headers=said)
                assert answer.status == 403
        assert (await browser.sign_in(code=good)).status == 200


@ANY
async def test_a_database_that_is_away_makes_no_failure(
    colloquy: Colloquy, monkeypatch: pytest.MonkeyPatch
) -> None:
    await colloquy.restart(max_failed_authentications=1)
    good = await link_of(await colloquy.account())

    async def write(*_arguments: object) -> None:
        raise DatabaseUnavailable

    async with Browser(colloquy.app.web_url) as browser:
        with monkeypatch.context() as patch:
            patch.setattr(colloquy.app.db, "write", write)
            for _ in range(3):
                assert (await browser.sign_in(code=good)).status == 503
        assert (await browser.sign_in(code=good)).status == 200


@ANY
async def test_who_lets_wait_keeps_nobody_from_signing_in(colloquy: Colloquy) -> None:
    alice = await colloquy.account()
    address = f"127.0.0.1:{colloquy.app.http_port}"
    head = [
        *("POST /session HTTP/1.1", f"host: {address}", "sec-fetch-site: same-origin"),
        *("content-type: application/json", "content-length: 20", "expect: 100-continue"),
    ]
    async with AsyncExitStack() as stack:
        for _ in range(80):
            slow = await stack.enter_async_context(Raw(address))
            await slow.send("\r\n".join([*head, "", ""]).encode())
            assert b"100 Continue" in await slow.reader.readline(), "it is being read"
        browser = await stack.enter_async_context(Browser(colloquy.app.web_url))
        assert (await browser.sign_in(api_key=alice.key)).status == 200


@ALONE
async def test_guesses_are_counted_by_the_address_that_a_proxy_names(colloquy: Colloquy) -> None:
    await colloquy.restart(max_failed_authentications=2, trusted_proxies=1)
    async with Browser(colloquy.app.web_url) as browser:
        for address, status in (("203.0.113.7", 429), ("203.0.113.8", 401)):
            headers = {"x-forwarded-for": f"198.51.100.1, {address}"}
            for number in range(3 if status == 429 else 1):
                answer = await browser.ask(
                    "POST", "/session", json={"code": f"{number}"}, headers=headers
                )
            assert answer.status == status


@ANY
async def test_answers_are_kept_and_framed_by_nobody(colloquy: Colloquy, browser: Browser) -> None:
    alice = await colloquy.account()
    answers = [
        await browser.ask("GET", "/session/methods"),
        await browser.sign_in(api_key=alice.key),
        await browser.sign_in(api_key="bad"),
        await browser.ask("DELETE", "/session"),
    ]
    assert answers[0].json == {"methods": ["api_key", "link"]}
    for answer in answers:
        headers = answer.headers
        assert headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert (headers["x-frame-options"], headers["x-content-type-options"]) == (
            "DENY",
            "nosniff",
        )


@ANY
async def test_bodies_that_are_none_are_refused(colloquy: Colloquy, browser: Browser) -> None:
    kind = {"content-type": "application/json"}
    for body in (
        *("", "[]", "{", '{"api_key": 1}', "{}", '{"api_key": "a", "code": "b"}', "null"),
        '{"code": "%s"}' % ("x" * (17 << 10)),
    ):
        answer = await browser.ask("POST", "/session", data=body, headers=kind)
        assert (answer.status, answer.json["reason"]) == (400, "INVALID_FIELD"), body


@ALONE
async def test_a_link_is_where_the_page_is(colloquy: Colloquy) -> None:
    alice = await colloquy.account()
    request = sessions_api.CreateSignInLinkRequest()
    made = await stub(alice).CreateSignInLink(request, metadata=alice.metadata)
    assert re.fullmatch(
        rf"http://127\.0\.0\.1:{colloquy.app.http_port}/signin#code=[\w-]{{43}}", made.url
    )
    await colloquy.restart(http_address="off")
    at = alice.at(colloquy)
    refusal = await refused(stub(at).CreateSignInLink(request, metadata=at.metadata))
    assert refusal.status == "UNIMPLEMENTED"


@ANY
async def test_a_session_knows_the_limits_of_its_key(colloquy: Colloquy, browser: Browser) -> None:
    alice = await colloquy.account()
    key = await colloquy.key(alice.account_id, quotas=admin_api.Quotas(conversations=1))
    await browser.sign_in(api_key=key.key)
    create = f"{CONVERSATIONS}CreateConversation"
    assert (await browser.call(create)).status == 200
    answer = await browser.call(create)
    assert (answer.status, answer.json["code"]) == (429, "resource_exhausted")

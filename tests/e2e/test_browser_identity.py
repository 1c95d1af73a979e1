"""People sign in with a browser at their company's identity provider."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from colloquy.api import admin_service_pb2 as admin_api
from colloquy_server.api import identity_sign_in
from colloquy_server.api.failures import Failures
from colloquy_server.api.identity_sign_in import safe_path
from colloquy_server.database.models import BrowserSession
from colloquy_server.database.transactions import EVERY_ACCOUNT
from sqlalchemy import select

from tests.browser_double import Answer, Browser
from tests.fakes.identity_provider import AUDIENCE, IdentityProviderDouble
from tests.fleets import ALONE, ANY
from tests.harness import Colloquy

PAGE = "colloquy-page"
RULES = [{"when": {"groups": "staff"}, "account": "acme", "admin_when": {"groups": "admins"}}]
MIA: dict[str, Any] = {
    "sub": "mia-1",
    "email": "Mia@acme.example",
    "email_verified": True,
    "name": "Mia",
    "groups": ["staff"],
}


@pytest.fixture
async def idp() -> AsyncIterator[IdentityProviderDouble]:
    async with IdentityProviderDouble() as running:
        running.claims = MIA
        yield running


@pytest.fixture
async def company(colloquy: Colloquy, idp: IdentityProviderDouble) -> Colloquy:
    idp.client_secret = "the-secret-of-the-page"
    await colloquy.restart(
        oidc_issuer=idp.issuer,
        oidc_audience=AUDIENCE,
        oidc_client_id=f"{PAGE},colloquy-terminal",
        oidc_client_secret=idp.client_secret,
        oidc_rules=json.dumps(RULES),
    )
    await colloquy.admin.admin.CreateAccount(
        admin_api.CreateAccountRequest(name="Acme", external_id="acme"),
        metadata=colloquy.admin.metadata,
    )
    return colloquy


@pytest.fixture
async def browser(company: Colloquy) -> AsyncIterator[Browser]:
    async with Browser(company.app.web_url) as running:
        yield running


async def leave(browser: Browser, return_to: str = "/") -> Answer:
    """Goes to the provider, and signs in there."""
    query = urlencode({"return_to": return_to})
    left = await browser.ask("GET", f"/signin/identity-provider?{query}")
    assert left.status == 303, left.text
    cookies = dict(browser.cookies)
    browser.cookies.clear()  # which the provider does not see
    answer = await browser.ask("GET", left.headers["location"])
    browser.cookies = cookies
    return answer


async def come_back(browser: Browser, at_provider: Answer, **changed: str) -> Answer:
    """Brings the provider's answer."""
    query = parse_qs(urlsplit(at_provider.headers["location"]).query)
    answer = {name: values[0] for name, values in query.items()} | changed
    return await browser.ask("GET", f"/signin/callback?{urlencode(answer)}")


def is_refused(answer: Answer, status: int = 401) -> bool:
    """Whether it is a page that says so, and sets no session."""
    is_page = answer.headers["content-type"].startswith("text/html")
    is_safe = "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    says = "Signing in did not work" in answer.text and 'href="/signin"' in answer.text
    return answer.status == status and is_page and is_safe and says and "colloquy" not in answer.set


async def test_somebody_of_the_company_signs_in(
    company: Colloquy, idp: IdentityProviderDouble, browser: Browser
) -> None:
    back = await come_back(browser, await leave(browser, "/c/17?tab=files"))
    assert (back.status, back.headers["location"]) == (303, "/c/17?tab=files")
    assert "samesite=strict" in back.set["colloquy"].lower()
    assert set(browser.cookies) == {"colloquy"}, "the state is forgotten"
    who = await browser.who()
    assert (who["user"]["externalId"], who["user"]["email"]) == (("mia@acme.example",) * 2)
    assert (who["role"], who["session"]["method"]) == ("ROLE_MEMBER", "METHOD_IDENTITY_PROVIDER")
    asked = next(form for path, form in idp.requests if path == "/authorize")
    assert asked["redirect_uri"] == f"{browser.url}/signin/callback"
    assert asked["client_id"] == PAGE
    exchanged = next(form for path, form in idp.requests if path == "/token")
    assert "client_secret" not in exchanged, "it is in a header, as the provider takes it"
    for secret in (exchanged["code_verifier"], browser.cookies["colloquy"]):
        assert all(secret not in value for value in asked.values())


@ANY
async def test_the_methods_name_it(company: Colloquy, browser: Browser) -> None:
    answer = await browser.ask("GET", "/session/methods")
    assert answer.json == {"methods": ["api_key", "link", "identity_provider"]}


@ANY
async def test_what_the_provider_says_is_believed_for_a_day(
    company: Colloquy, browser: Browser
) -> None:
    await come_back(browser, await leave(browser))
    [row] = await company.app.db.read(
        EVERY_ACCOUNT, lambda s: list(s.scalars(select(BrowserSession)))
    )
    assert row.expire_time - row.create_time == 86_400_000_000


@ANY
async def test_a_sign_in_that_this_browser_did_not_begin_is_refused(
    company: Colloquy, browser: Browser
) -> None:
    """Else somebody could have it signed in as themselves, and read what is then said."""
    async with Browser(browser.url) as attacker:
        theirs = await leave(attacker)
        assert is_refused(await come_back(browser, theirs)), "without a cookie"
        own = await leave(browser)
        assert is_refused(await come_back(browser, theirs)), "with one of another sign-in"
        for state in ("", "x", "ä"):
            assert is_refused(await come_back(browser, own, state=state))
        for kept in ("", "..", "a.b.c", "x" * 5_000):
            attacker.cookies = {"colloquy_sign_in": kept}
            assert is_refused(await come_back(attacker, theirs))
    code = parse_qs(urlsplit(theirs.headers["location"]).query)["code"][0]
    assert is_refused(await come_back(browser, own, code=code)), "a code of another sign-in"


@ANY
async def test_what_a_browser_makes_up_is_refused(company: Colloquy, browser: Browser) -> None:
    """What is asked of the provider follows from the cookie alone, so its holder can have the two
    fit whatever stands in it."""
    now = int(time.time())
    for kept in (
        *("x", "..", "a.b.c", "a.1", f"a.{now}.b.c", f"a.-{now}.Lw", f"a.+{now}.Lw"),
        *(f"a.{now}.\u00e9", f"a.{now}.L", f"a.{now}._w", f"a.{'9' * 5_000}.Lw", f".{now}.Lw"),
        *(f"{'a' * 43}.{now}.L", f"{'a' * 43}.{now}._w", f"{'a' * 43}.{'9' * 12}.Lw"),
    ):
        browser.cookies = {"colloquy_sign_in": kept}
        state = identity_sign_in._made_of(kept, "state")
        query = urlencode({"state": state, "code": "made up"})
        assert is_refused(await browser.ask("GET", f"/signin/callback?{query}")), kept


@ANY
async def test_no_other_page_keeps_people_from_signing_in(
    company: Colloquy, browser: Browser
) -> None:
    """Any page can have the browsers of an office come back from nowhere, and all have one
    address."""
    company.app.access._failures = Failures(3)
    for _ in range(5):
        assert is_refused(await browser.ask("GET", "/signin/callback?state=x&code=y"))
    assert (await come_back(browser, await leave(browser))).status == 303
    statuses = []
    for _ in range(5):
        at_provider = await leave(browser)
        statuses.append((await come_back(browser, at_provider, code="a guess")).status)
    assert statuses == [401, 401, 401, 429, 429]


@ANY
async def test_a_code_counts_once(company: Colloquy, browser: Browser) -> None:
    at_provider = await leave(browser)
    kept = dict(browser.cookies)
    assert (await come_back(browser, at_provider)).status == 303
    first = browser.cookies["colloquy"]
    assert is_refused(await come_back(browser, at_provider)), "its state is forgotten"
    browser.cookies = kept
    assert is_refused(await come_back(browser, at_provider)), "and the provider knows the code"
    browser.cookies = {"colloquy": first}
    assert (await browser.who())["user"]["externalId"] == "mia@acme.example"


@pytest.mark.parametrize(
    "said",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another-client"},
        {"aud": AUDIENCE},
        {"aud": [PAGE, "another"], "azp": "another"},
        {"iss": "https://evil.example"},
        {"exp": 1},
        {"iat": 4_000_000_000},
        {"sub": None},
    ],
    ids=str,
)
@ALONE
async def test_a_token_that_is_not_of_this_sign_in_is_refused(
    company: Colloquy, idp: IdentityProviderDouble, browser: Browser, said: dict[str, Any]
) -> None:
    idp.id_claims = said
    assert is_refused(await come_back(browser, await leave(browser)))
    assert await browser.who() == "unauthenticated"


@ANY
async def test_a_token_that_the_provider_did_not_sign_is_refused(
    company: Colloquy, idp: IdentityProviderDouble, browser: Browser
) -> None:
    idp.rotate(is_published=False)
    assert is_refused(await come_back(browser, await leave(browser)))


@ANY
async def test_who_takes_too_long_begins_again(
    company: Colloquy, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_provider = await leave(browser)
    monkeypatch.setattr(identity_sign_in, "LASTS_SECONDS", -1)
    answer = await come_back(browser, at_provider)
    assert is_refused(answer)
    assert "took too long" in answer.text


@ANY
async def test_what_the_provider_refuses_is_told(company: Colloquy, browser: Browser) -> None:
    at_provider = await leave(browser)
    for error in ("access_denied", "<script>alert(1)</script>"):
        answer = await come_back(browser, at_provider, error=error)
        assert is_refused(answer)
        assert "<script" not in answer.text
    assert is_refused(await come_back(browser, at_provider, iss="https://evil.example"))
    assert is_refused(await come_back(browser, at_provider, code=""))


@ANY
async def test_who_has_no_rule_hears_that_it_would_not_help(
    company: Colloquy, idp: IdentityProviderDouble, browser: Browser
) -> None:
    idp.claims = {**MIA, "groups": ["guests"]}
    answer = await come_back(browser, await leave(browser))
    assert is_refused(answer, 403)
    assert "nothing here is open" in answer.text


@ANY
async def test_an_admin_is_one_in_the_browser_too(
    company: Colloquy, idp: IdentityProviderDouble, browser: Browser
) -> None:
    idp.claims = {**MIA, "groups": ["staff", "admins"]}
    await come_back(browser, await leave(browser))
    assert (await browser.who())["role"] == "ROLE_ADMIN"


@ANY
async def test_a_provider_that_is_away_is_said_to_be(
    company: Colloquy, idp: IdentityProviderDouble, browser: Browser
) -> None:
    at_provider = await leave(browser)
    await idp.stop()
    assert is_refused(await come_back(browser, at_provider), 503)


ELSEWHERE = (
    "//evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "https://evil.example/",
    "javascript:alert(1)",
    "/ok\r\nset-cookie: a=b",
    "/\t/evil.example",
    " //evil.example",
    "evil",
    "",
    "/" + "x" * 3_000,
    "/é",
)


@pytest.mark.parametrize("path", ELSEWHERE, ids=repr)
def test_no_path_leads_elsewhere(path: str) -> None:
    assert safe_path(path) == "/"


@ANY
async def test_signing_in_leads_to_the_page_alone(company: Colloquy, browser: Browser) -> None:
    for path in ELSEWHERE[:4]:
        back = await come_back(browser, await leave(browser, path))
        assert (back.status, back.headers["location"]) == (303, "/")
    assert safe_path("/c/1?a=b#c") == "/c/1?a=b#c"


@ANY
async def test_nothing_of_a_sign_in_is_logged(
    company: Colloquy, idp: IdentityProviderDouble, browser: Browser, capsys: Any
) -> None:
    at_provider = await leave(browser)
    kept = browser.cookies["colloquy_sign_in"]
    await come_back(browser, at_provider)
    await come_back(browser, at_provider)
    said = "".join(capsys.readouterr())
    query = parse_qs(urlsplit(at_provider.headers["location"]).query)
    exchanged = next(form for path, form in idp.requests if path == "/token")
    hidden = [kept, query["code"][0], query["state"][0], exchanged["code_verifier"]]
    for secret in (*hidden, idp.client_secret, *browser.cookies.values()):
        assert secret not in said
    assert "CreateSession" in said

"""Tokens of an identity provider: which are taken, and how often the provider is asked."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from colloquy_server.api import identity_provider
from colloquy_server.api.identity_provider import IdentityProvider, IdentityProviderAway
from colloquy_server.api.identity_tokens import Claims, IdentityTokens
from colloquy_server.errors import Unauthenticated
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from tests.fakes.identity_provider import AUDIENCE, CLIENT, IdentityProviderDouble

SHORT_RSA = (
    "AKoYq6Q7UN7vOFmPr4fSq2NORXHBMKm8p7h4JnQU-quLRxvYll9cn8OBhIXq9SnCYkbzBVBkqN4ZyMM4vlSWy66wWdwL"
    "NYFDtEo1RJ6yZBExIaRVvX_eP6yRnpS1b7m7T2Uc2yPq1DnWzVI-sIGR51s1_ROnQZswkPJHh71PThln"
)


class Clock:
    """Both clocks of the server, which only a test moves."""

    def __init__(self) -> None:
        self.gone = 0.0

    def now(self) -> float:
        return time.time() + self.gone

    def monotonic(self) -> float:
        return self.gone


class Checked:
    """An identity provider and who checks its tokens."""

    def __init__(self, idp: IdentityProviderDouble, issuer: str = "") -> None:
        self.idp = idp
        self.clock = Clock()
        self.provider = IdentityProvider(issuer or idp.issuer, self.clock.monotonic)
        self.tokens = IdentityTokens(
            self.provider, issuer or idp.issuer, [AUDIENCE, "api://other"], [CLIENT], self.clock.now
        )

    async def claims(self, token: str) -> Claims:
        return await self.tokens.claims(token)

    async def refusal(self, token: str) -> str:
        with pytest.raises(Unauthenticated) as caught:
            await self.tokens.claims(token)
        return str(caught.value)


@pytest.fixture
async def idp() -> AsyncIterator[IdentityProviderDouble]:
    async with IdentityProviderDouble() as running:
        yield running


@pytest.fixture
async def checked(idp: IdentityProviderDouble) -> AsyncIterator[Checked]:
    checked = Checked(idp)
    yield checked
    await checked.provider.stop()


def encoded(part: object) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def test_a_good_token_says_what_it_says(checked: Checked) -> None:
    claims = await checked.claims(checked.idp.token(email="mia@acme.example"))
    assert (claims["sub"], claims["email"]) == ("subject-1", "mia@acme.example")


@pytest.mark.parametrize(
    ("key", "alg"),
    [
        (None, "RS256"),
        (None, "RS512"),
        (None, "PS256"),
        (ECKey.generate_key("P-256"), "ES256"),
        (ECKey.generate_key("P-521"), "ES512"),
        (OKPKey.generate_key("Ed25519"), "EdDSA"),
        (OKPKey.generate_key("Ed25519"), "Ed25519"),
    ],
)
async def test_algorithms_with_pairs_of_keys_are_taken(
    checked: Checked, key: Any, alg: str
) -> None:
    if key is not None:
        checked.idp.rotate(key)
    assert await checked.claims(checked.idp.token(alg))
    assert await checked.claims(checked.idp.token(alg, header={"typ": "at+jwt"}))


FOREIGN = "This token is not for this server."
NOT_YET = "This token is not valid yet."
EXPIRED = "This token has expired: sign in again."
CLIENTS = "This token is for several audiences, of a client that this server does not know."


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"iss": "https://evil.example"}, FOREIGN),
        ({"iss": None}, FOREIGN),
        ({"iss": ["x"]}, FOREIGN),
        ({"aud": "somebody-else"}, FOREIGN),
        ({"aud": None}, FOREIGN),
        ({"aud": []}, FOREIGN),
        ({"aud": {"colloquy": 1}}, FOREIGN),
        ({"aud": "colloquy "}, FOREIGN),
        ({"aud": ["x", "y"], "azp": CLIENT}, FOREIGN),
        ({"aud": [AUDIENCE, "account"]}, CLIENTS),
        ({"aud": [AUDIENCE, "account"], "azp": "another"}, CLIENTS),
        ({"aud": [AUDIENCE, "account"], "azp": [CLIENT]}, CLIENTS),
        ({"exp": None}, FOREIGN),
        ({"exp": "tomorrow"}, FOREIGN),
        ({"exp": True}, FOREIGN),
        ({"iat": "yesterday"}, NOT_YET),
        ({"sub": None}, FOREIGN),
        ({"sub": 7}, FOREIGN),
        ({"typ": "Refresh"}, FOREIGN),
        ({"typ": "Logout"}, FOREIGN),
        ({"typ": ["Bearer"]}, FOREIGN),
        ({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}, FOREIGN),
        ({"cnf": {"jkt": "x"}}, FOREIGN),
    ],
)
async def test_what_a_token_says_has_to_be_right(
    checked: Checked, claims: dict[str, Any], said: str
) -> None:
    assert await checked.refusal(checked.idp.token(**claims)) == said
    assert not checked.idp.fetched, "such a token costs no fetch"


async def test_a_token_of_a_known_client_may_be_for_others_too(checked: Checked) -> None:
    for claims in (
        {"aud": [AUDIENCE]},
        {"aud": "api://other"},
        {"aud": [AUDIENCE, "account"], "azp": CLIENT},
        {"aud": [AUDIENCE, "account"], "client_id": AUDIENCE},
    ):
        assert await checked.claims(checked.idp.token(**claims))


async def test_clocks_may_be_a_minute_apart(checked: Checked) -> None:
    now = int(time.time())
    # By a margin of some minutes, so that no slow machine changes what is shown: the clock moves.
    token = checked.idp.token(exp=now + 600, nbf=now + 600, iat=now + 600)
    for gone, said in (
        (0, NOT_YET),
        (480, NOT_YET),
        (545, ""),
        (655 - 60, ""),
        (600 + 300, EXPIRED),
    ):
        checked.clock.gone = gone
        if said:
            assert await checked.refusal(token) == said
        else:
            assert await checked.claims(token)


UNREADABLE = "This token is not a JWT that is signed with an algorithm that is taken here."
UNSIGNED = "This token is not signed by a key of the identity provider."


async def test_a_token_without_a_signature_is_refused(checked: Checked) -> None:
    await checked.claims(checked.idp.token())
    head, payload, signature = checked.idp.token().split(".")
    for alg in ("none", "None", "NONE"):
        forged = encoded({"alg": alg, "typ": "JWT"})
        assert await checked.refusal(f"{forged}.{payload}.") == UNREADABLE
        assert await checked.refusal(f"{forged}.{payload}.{signature}") == UNREADABLE
    assert await checked.refusal(f"{head}.{payload}.") == UNSIGNED
    other = encoded({**json.loads(base64.urlsafe_b64decode(payload + "==")), "sub": "boss"})
    assert await checked.refusal(f"{head}.{other}.{signature}") == UNSIGNED


async def test_the_public_key_is_no_secret_to_sign_with(checked: Checked) -> None:
    await checked.claims(checked.idp.token())
    # joserfc refuses to make such a token; others do not.
    head = {"alg": "HS256", "kid": checked.idp.published[0]["kid"]}
    signed = f"{encoded(head)}.{checked.idp.token().split('.')[1]}"
    signature = hmac.digest(checked.idp.public_pem, signed.encode(), "sha256")
    assert await checked.refusal(f"{signed}.{encoded(signature)}") == UNREADABLE


async def test_what_a_header_may_say(checked: Checked) -> None:
    for header, said in (
        ({"typ": "logout+jwt"}, FOREIGN),
        ({"typ": "dpop+jwt"}, FOREIGN),
        ({"crit": ["b64"], "b64": True}, UNREADABLE),
    ):
        assert await checked.refusal(checked.idp.token(header=header)) == said
    assert await checked.claims(checked.idp.token(header={"typ": "JWT"}))
    assert await checked.claims(checked.idp.token(header={"typ": None}))


async def test_a_document_that_does_not_end_is_left(
    checked: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity_provider, "_MAX_BYTES", 1_000)
    checked.idp.published.extend({"kid": "x" * 100} for _ in range(50))
    with pytest.raises(IdentityProviderAway):
        await checked.claims(checked.idp.token())


async def test_a_secret_among_the_published_keys_is_not_used(checked: Checked) -> None:
    checked.idp.published.append(
        {"kty": "oct", "k": encoded(b"0" * 32), "kid": "shared", "alg": "HS256"}
    )
    secret = OctKey.import_key({"kty": "oct", "k": encoded(b"0" * 32)})
    token = checked.idp.token("HS256", header={"kid": "shared"}, key=secret)
    assert await checked.refusal(token) == UNREADABLE


async def test_a_key_is_used_for_what_it_is_meant(checked: Checked) -> None:
    idp = checked.idp
    idp.published.clear()
    idp.publish(use="enc")
    assert await checked.refusal(idp.token()) == UNSIGNED
    idp.published.clear()
    idp.publish(alg="RS512")
    checked.clock.gone = 20
    assert await checked.refusal(idp.token("RS256")) == UNSIGNED
    assert await checked.claims(idp.token("RS512"))
    curve = ECKey.generate_key("P-384")
    idp.rotate(curve)
    checked.clock.gone = 40
    assert await checked.claims(idp.token("ES384"))
    header = encoded({"alg": "ES256", "kid": idp.published[-1]["kid"]})
    assert await checked.refusal(f"{header}.{idp.token('ES384').partition('.')[2]}") == UNSIGNED


async def test_keys_that_cannot_be_used_are_left_out(checked: Checked) -> None:
    checked.idp.published[:0] = [
        {"kty": "RSA", "n": SHORT_RSA, "e": "AQAB", "kid": "short"},
        {"kty": "RSA", "n": "A" * 4_000, "e": "AQAB", "kid": "long"},
        {"kty": "EC", "crv": "P-256", "x": "", "y": "", "kid": "point"},
        {"kty": "OKP", "crv": "X25519", "x": encoded(b"1" * 32), "kid": "exchange"},
        {"kty": "XYZ", "kid": "unknown"},
        {"kid": 7, "kty": "RSA"},
        "text",  # type: ignore[list-item]
    ]
    assert await checked.claims(checked.idp.token())
    assert [key.kid for key in checked.provider._keys] == [checked.idp.published[-1]["kid"]]


async def test_a_token_that_names_no_key_is_tried_with_those_that_fit(checked: Checked) -> None:
    checked.idp.rotate()
    token = checked.idp.token(header={"kid": None})
    assert await checked.claims(token)


@pytest.mark.parametrize(
    "token",
    [
        "eyJ",
        "eyJ.eyJ",
        "eyJ..",
        "eyJ.eyJ.eyJ.eyJ",
        "eyJ.e30.é",
        encoded({"alg": "RS256"}) + ".e30.x",
        encoded({"alg": "RS256", "crit": ["b64"], "b64": False}) + ".{}.x",
        encoded({"alg": "RS256", "crit": ["exp"], "exp": 1}) + ".e30.x",
        encoded({"alg": ["RS256"]}) + ".e30.x",
        encoded({"alg": {}}) + ".e30.x",
        encoded({"alg": "RS256", "kid": 7}) + ".e30.x",
        encoded({"alg": "RS256", "typ": 7}) + ".e30.x",
        encoded(["alg"]) + ".e30.x",
        encoded("alg") + ".e30.x",
        encoded({"alg": "RS256"}) + "." + encoded([1]) + ".x",
        encoded({"alg": "RS256"}) + "." + encoded(b'{"iss": NaN}') + ".x",
        encoded({"alg": "RS256"}) + "." + encoded(b'{"iss": "\\ud800"}') + ".x",
        encoded({"alg": "RS256"}) + "." + encoded(b"[" * 9_000) + ".x",
        encoded(b"[" * 9_000) + ".e30.x",
        encoded(b'{"alg": ' + b"[" * 5_000) + ".e30.x",
        encoded(b"\xff") + ".e30.x",
        encoded({"alg": "RS256"}) + "." + encoded(b'{"exp": 1e999}') + ".x",
        encoded({"alg": "RS256"}) + "." + encoded(b'{"exp": ' + b"9" * 5_000 + b"}") + ".x",
    ],
)
async def test_whatever_comes_is_refused_in_words(checked: Checked, token: str) -> None:
    assert await checked.refusal(token) in (UNREADABLE, FOREIGN, UNSIGNED)
    assert not checked.idp.fetched


async def test_a_huge_token_is_not_looked_at(checked: Checked) -> None:
    token = checked.idp.token(groups=["g" * 100] * 200)
    assert len(token) > 16 << 10
    assert await checked.refusal(token) == "This token is too long."


async def test_an_unknown_key_is_fetched_once_it_was_rotated(checked: Checked) -> None:
    idp = checked.idp
    await checked.claims(idp.token())
    assert idp.fetched == {"/.well-known/openid-configuration": 1, "/keys": 1}
    await checked.claims(idp.token())
    assert idp.fetched["/keys"] == 1
    idp.rotate()
    checked.clock.gone += identity_provider.COOL_DOWN_SECONDS
    await checked.claims(idp.token())
    assert idp.fetched == {"/.well-known/openid-configuration": 1, "/keys": 2}


async def test_made_up_keys_cost_one_fetch(checked: Checked) -> None:
    idp = checked.idp
    await checked.claims(idp.token())
    checked.clock.gone += identity_provider.COOL_DOWN_SECONDS
    idp.hold = asyncio.Event()
    flood = [
        asyncio.create_task(checked.refusal(idp.token(header={"kid": f"made-up-{n}"})))
        for n in range(200)
    ]
    await idp.wait_for_keys(2)
    assert await checked.claims(idp.token()), "a known key does not wait for them"
    idp.hold.set()
    assert set(await asyncio.gather(*flood)) == {UNSIGNED}
    for n in range(200):
        await checked.refusal(idp.token(header={"kid": f"made-up-later-{n}"}))
    assert idp.fetched["/keys"] == 2


async def test_a_provider_that_is_down_breaks_no_token_whose_key_is_known(
    checked: Checked,
) -> None:
    idp = checked.idp
    await checked.claims(idp.token())
    await idp.stop()
    checked.clock.gone += identity_provider.REFRESH_SECONDS
    assert await checked.claims(idp.token(exp=int(time.time()) + 3_600))
    idp.rotate()
    later = idp.token(exp=int(time.time()) + 3_600)
    with pytest.raises(IdentityProviderAway) as caught:
        await checked.claims(later)
    assert caught.value.retry_after == identity_provider.COOL_DOWN_SECONDS
    await idp.start()
    checked.clock.gone += identity_provider.COOL_DOWN_SECONDS
    assert await checked.claims(later)


async def test_keys_that_the_provider_withdraws_are_forgotten(
    checked: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity_provider, "REFRESH_SECONDS", 0.01)
    checked.provider.start()
    token = checked.idp.token()
    assert await checked.claims(token)
    checked.idp.published.clear()
    await checked.idp.wait_for_keys(checked.idp.fetched["/keys"] + 2)
    assert await checked.refusal(token) == UNSIGNED


@pytest.mark.parametrize(
    "discovery",
    [
        {"issuer": "https://evil.example"},
        {"jwks_uri": "http://evil.example/keys"},
        {"jwks_uri": "http://0.0.0.0:{port}/keys"},
        {"jwks_uri": "http://127.0.0.1:{port}/moved?to=/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": None},
        {"jwks_uri": 7},
    ],
)
async def test_a_discovery_document_is_not_believed_blindly(
    checked: Checked, discovery: dict[str, Any]
) -> None:
    port = str(checked.idp.port)
    checked.idp.discovery = {
        name: value.replace("{port}", port) if isinstance(value, str) else value
        for name, value in discovery.items()
    }
    with pytest.raises(IdentityProviderAway):
        await checked.claims(checked.idp.token())
    assert checked.idp.fetched["/keys"] == 0


def test_the_short_key_could_be_imported() -> None:
    with pytest.warns(SecurityWarning, match="2048"):
        assert RSAKey.import_key({"kty": "RSA", "n": SHORT_RSA, "e": "AQAB"})

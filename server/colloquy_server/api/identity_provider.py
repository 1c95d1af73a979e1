"""The identity provider: its keys, found by its discovery document, kept, and fetched again; and
where people sign in.

What is fetched costs as much whoever calls: once every few minutes, and when a token names a key
that is not known, one fetch at a time and none within seconds of the last one. A provider that is
down leaves the keys that are known as they are.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote_plus

import aiohttp
import orjson
import structlog
from colloquy.operations.log_safety import name_error
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

from colloquy_server.errors import Unavailable
from colloquy_server.providers.connection import certificates, proxy_of
from colloquy_server.providers.errors import ProviderError
from colloquy_server.settings import is_safe_url

log = structlog.get_logger()

PublicKey = RSAKey | ECKey | OKPKey

DISCOVERY_PATH = "/.well-known/openid-configuration"

REFRESH_SECONDS = 300.0
"""How long a key that the provider has withdrawn may still count while the provider answers."""

COOL_DOWN_SECONDS = 10.0
"""Between two fetches: whoever sends tokens with made-up keys cannot ask for more."""

PATIENCE_SECONDS = 5.0
"""How long a call waits for a fetch that its token made necessary."""

_TIMEOUT = aiohttp.ClientTimeout(total=10)
_MAX_BYTES = 1 << 19
_MAX_KEYS = 100
_RSA_BITS = (2_048, 8_192)
"""Shorter ones are broken; longer ones cost milliseconds a token."""

_CURVES = frozenset({"P-256", "P-384", "P-521", "Ed25519"})


class IdentityProviderAway(Unavailable):
    """The identity provider, which this token's key has to come from, cannot be reached at the
    moment. Try again."""

    retry_after = COOL_DOWN_SECONDS


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where browsers go to sign in, and where their codes are exchanged; by `posts_secret` the
    client's secret goes into the form, as it is not taken in a header."""

    authorization: str
    token: str
    posts_secret: bool


class IdentityProvider:
    """One issuer. What it says is believed as far as TLS goes: its address is https, or of this
    machine, and so is that of its keys."""

    def __init__(self, issuer: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`issuer` as its tokens name it; `clock` is in seconds."""
        self._issuer = issuer
        self._clock = clock
        self._jwks_uri = ""
        self._endpoints: Endpoints | None = None
        self._keys: list[PublicKey] = []
        self._fetched_at = float("-inf")
        self._is_away = True
        self._fetching: asyncio.Task[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None

    def start(self) -> None:
        """Begins to fetch, and waits for nothing."""
        self._refreshing = asyncio.create_task(self._refresh_forever())

    async def stop(self) -> None:
        """Fetches no more."""
        tasks = [task for task in (self._refreshing, self._fetching) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def keys(self, key_id: str | None, algorithm: str) -> list[PublicKey]:
        """The keys by which a token of this header may be signed; none when it cannot be.

        Raises IdentityProviderAway when that cannot be known now.
        """
        found = self._fitting(key_id, algorithm)
        if found:
            return found
        await self._fetch_soon()
        found = self._fitting(key_id, algorithm)
        if not found and self._is_away:
            raise IdentityProviderAway
        return found

    async def endpoints(self) -> Endpoints:
        """Where people sign in. Raises IdentityProviderAway when that is not known, or the provider
        offers no such thing."""
        if self._endpoints is None:
            await self._fetch_soon()
        if self._endpoints is None:
            raise IdentityProviderAway
        return self._endpoints

    async def reach(self) -> int:
        """Fetches, and returns how many keys the provider has. Raises IdentityProviderAway."""
        await self._fetch_soon()
        if self._is_away:
            raise IdentityProviderAway
        return len(self._keys)

    async def exchange(
        self, form: Mapping[str, str], secret: str | None
    ) -> Mapping[str, object] | None:
        """The tokens for a code; None when the provider does not give any.

        Raises IdentityProviderAway.
        """
        endpoints = await self.endpoints()
        headers = {"Accept": "application/json"}
        if secret is not None and endpoints.posts_secret:
            form = {**form, "client_secret": secret}
        elif secret is not None:
            pair = f"{quote_plus(form['client_id'])}:{quote_plus(secret)}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        try:
            session = await self._open_session()
            async with session.post(
                endpoints.token,
                data=form,
                headers=headers,
                allow_redirects=False,
                proxy=proxy_of(endpoints.token),
            ) as response:
                if response.status >= 500:
                    raise ValueError(f"status {response.status}")
                document = await _json(response)
        except (aiohttp.ClientError, OSError, ValueError, ProviderError) as error:
            log.warning(
                "identity provider does not answer", issuer=self._issuer, error=name_error(error)
            )
            raise IdentityProviderAway from None
        if response.status == 200:
            return document
        log.warning(
            "identity provider gives no tokens",
            status=response.status,
            error=str(document.get("error"))[:64],
        )
        return None

    def _fitting(self, key_id: str | None, algorithm: str) -> list[PublicKey]:
        return [key for key in self._keys if key_id in (None, key.kid) and _fits(key, algorithm)]

    async def _fetch_soon(self) -> None:
        """Waits for the fetch that runs, or for one that is due; for none just after the last."""
        if self._fetching is None:
            if self._clock() - self._fetched_at < COOL_DOWN_SECONDS:
                return
            self._begin()
        assert self._fetching is not None
        await asyncio.wait([self._fetching], timeout=PATIENCE_SECONDS)

    def _begin(self) -> None:
        self._fetching = asyncio.create_task(self._fetch())

    async def _refresh_forever(self) -> None:
        while True:
            if self._fetching is None:
                self._jwks_uri = ""  # the address of the keys is looked up anew, too
                self._begin()
            assert self._fetching is not None
            await asyncio.wait([self._fetching])
            await asyncio.sleep(COOL_DOWN_SECONDS if self._is_away else REFRESH_SECONDS)

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT.total):
                await self._fetch_keys()
        except (aiohttp.ClientError, OSError, ValueError, ProviderError) as error:
            self._is_away = True
            log.warning(
                "identity provider does not answer", issuer=self._issuer, error=name_error(error)
            )
        finally:
            self._fetched_at = self._clock()
            self._fetching = None

    async def _fetch_keys(self) -> None:
        if not self._jwks_uri:
            document = await self._get(self._issuer.rstrip("/") + DISCOVERY_PATH)
            if document.get("issuer") != self._issuer:
                raise ValueError("the discovery document is of another issuer")
            address = document.get("jwks_uri")
            if not isinstance(address, str) or not is_safe_url(address):
                raise ValueError("the address of the keys is not https")
            self._jwks_uri = address
            self._endpoints = _endpoints(document)
        keys = (await self._get(self._jwks_uri)).get("keys")
        if not isinstance(keys, list):
            raise ValueError("the provider's keys are not a JWKS")
        self._keys = list(_usable(keys[:_MAX_KEYS]))
        self._is_away = False
        if not self._keys:
            log.warning("identity provider has no key that can be used", issuer=self._issuer)

    async def _get(self, url: str) -> Mapping[str, object]:
        session = await self._open_session()
        async with session.get(
            url,
            headers={"Accept": "application/json"},
            allow_redirects=False,  # it would lead to where nobody said that keys are
            proxy=proxy_of(url),
        ) as response:
            if response.status != 200:
                raise ValueError(f"status {response.status}")
            return await _json(response)

    async def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            ssl = await asyncio.to_thread(certificates)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=ssl),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=_TIMEOUT,
            )
        return self._session


async def _json(response: aiohttp.ClientResponse) -> Mapping[str, object]:
    body = await response.content.read(_MAX_BYTES)
    while not response.content.at_eof():
        if len(body) >= _MAX_BYTES:
            raise ValueError("the document is too long")
        body += await response.content.read(_MAX_BYTES)
    document = orjson.loads(body)
    if not isinstance(document, dict):
        raise ValueError("the document is not a JSON object")
    return document


def _endpoints(document: Mapping[str, object]) -> Endpoints | None:
    """None where nobody signs in with a browser, or what is said of it is not safe."""
    authorization = document.get("authorization_endpoint")
    token = document.get("token_endpoint")
    if not isinstance(authorization, str) or not isinstance(token, str):
        return None
    if not is_safe_url(authorization) or not is_safe_url(token):
        return None
    # By default the header alone is taken (OpenID Connect Discovery 1.0).
    ways = document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    listed = ways if isinstance(ways, list) else []
    posts = "client_secret_post" in listed and "client_secret_basic" not in listed
    return Endpoints(authorization, token, posts)


def _usable(documents: Iterable[object]) -> Iterable[PublicKey]:
    """The keys that can verify a signature. Others, secret ones among them, are left out."""
    for document in documents:
        if not isinstance(document, dict) or document.get("use") not in (None, "sig"):
            continue
        if document.get("kty") not in ("RSA", "EC", "OKP"):
            continue
        if not isinstance(document.get("kid"), str | None):
            continue
        if document["kty"] == "RSA" and not _has_good_length(document):
            continue  # before it is imported, which takes any and warns
        try:
            key = JWKRegistry.import_key(document)
        except (JoseError, ValueError, TypeError):
            continue
        if isinstance(key, ECKey | OKPKey) and key.curve_name not in _CURVES:
            continue
        if isinstance(key, RSAKey | ECKey | OKPKey) and not key.is_private:
            yield key


def _has_good_length(document: Mapping[str, object]) -> bool:
    modulus = document.get("n")
    bits = len(modulus.rstrip("=")) * 6 if isinstance(modulus, str) else 0
    return _RSA_BITS[0] <= bits <= _RSA_BITS[1] + 6


def _fits(key: PublicKey, algorithm: str) -> bool:
    """Whether an algorithm is one of a key's kind. Its curve, and an algorithm that the key is for
    alone, joserfc looks at when it verifies."""
    kind = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}[algorithm[:2]]
    return key.key_type == kind

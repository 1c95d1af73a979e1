"""A double of a company's identity provider: a real HTTP server with real keys.

    async with IdentityProviderDouble() as idp:
        token = idp.token(email="mia@acme.example", email_verified=True)
        idp.rotate()                       # signs by a new key from now on
        idp.answers.append("slow_down")    # to the next poll of a device
        await idp.stop()                   # and is down, until `start`

It publishes a discovery document and a JWKS, and signs people in on their devices (RFC 8628):
`approve` is what they do in their browser. In a browser they are signed in at once, as whom
`claims` say, by a code that it takes once, from the client that asked, with its PKCE verifier.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import time
import warnings
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode

from aiohttp import web
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from tests.postgres import free_port

AUDIENCE = "colloquy"
CLIENT = "colloquy-terminal"

Key = RSAKey | ECKey | OKPKey | OctKey

# Making RSA keys takes long: all tests of a process share these.
_RSA = [RSAKey.generate_key(2_048) for _ in range(2)]


class IdentityProviderDouble:
    """An issuer on this machine."""

    def __init__(self) -> None:
        self.port = free_port()
        self.fetched: Counter[str] = Counter()
        """How often each path was asked for."""
        self.requests: list[tuple[str, dict[str, str]]] = []
        """The forms that were posted, with their paths."""
        self.published: list[dict[str, Any]] = []
        """What the JWKS holds."""
        self.discovery: dict[str, Any] = {}
        """What the discovery document says otherwise."""
        self.answers: deque[str] = deque()
        """Errors that polls get before people sign in."""
        self.claims: dict[str, Any] = {}
        """What the tokens of those who sign in say."""
        self.lifetime = 300.0
        """Seconds, of those tokens."""
        self.interval = 1
        self.refreshes: set[str] = set()
        """The refresh tokens that hold: each once."""
        self.client_secret = ""
        """What the page's client has to show; none when it is empty."""
        self.id_claims: dict[str, Any] = {}
        """What the ID tokens of the code flow say otherwise."""
        self.hold: asyncio.Event | None = None
        """What the JWKS waits for."""
        self._codes: dict[str, dict[str, str]] = {}
        self._approved, self._asked = asyncio.Event(), asyncio.Event()
        self._spare = list(_RSA)
        self._key: Key
        self._kid = ""
        self._runner: web.AppRunner | None = None
        self.rotate()

    @property
    def issuer(self) -> str:
        """Its name and address."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Serves, on the port of the last time if there was one."""
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/keys", self._keys)
        app.router.add_post("/device", self._device)
        app.router.add_get("/authorize", self._authorize)
        app.router.add_post("/token", self._token)
        app.router.add_route("*", "/moved", self._moved)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Goes away."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def rotate(self, key: Key | None = None, *, is_published: bool = True) -> None:
        """Signs by another key, which is published beside those before."""
        self._key = key or self._spare.pop()
        self._kid = f"key-{secrets.token_hex(4)}"
        if is_published:
            self.publish()

    def publish(self, **more: Any) -> None:
        """Puts the key that it signs by into the JWKS."""
        public = self._key.as_dict(private=False)
        self.published.append({**public, "kid": self._kid, "use": "sig", **more})

    @property
    def public_pem(self) -> bytes:
        """The public key, as everybody can have it."""
        return self._key.as_pem(private=False)  # type: ignore[union-attr]

    def token(
        self,
        alg: str = "RS256",
        header: Mapping[str, Any] | None = None,
        key: Key | None = None,
        **claims: Any,
    ) -> str:
        """A token that is good unless `claims` say otherwise; None leaves a claim out."""
        now = int(time.time())
        said: dict[str, Any] = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": "subject-1",
            "iat": now,
            "exp": now + 300,
            **claims,
        }
        head = {"alg": alg, "kid": self._kid, **(header or {})}
        with warnings.catch_warnings():  # of EdDSA's name
            warnings.simplefilter("ignore", SecurityWarning)
            return jwt.encode(
                {name: value for name, value in head.items() if value is not None},
                {name: value for name, value in said.items() if value is not None},
                key or self._key,
                algorithms=[alg],
            )

    def approve(self, **claims: Any) -> None:
        """Somebody signs in."""
        self.claims = claims
        self._approved.set()

    async def wait_for_keys(self, times: int) -> None:
        """Until the JWKS was asked for so often."""
        while self.fetched["/keys"] < times:
            self._asked.clear()
            await self._asked.wait()

    async def _discovery(self, request: web.Request) -> web.Response:
        self.fetched[request.path] += 1
        return web.json_response(
            {
                "issuer": self.issuer,
                "jwks_uri": f"{self.issuer}/keys",
                "authorization_endpoint": f"{self.issuer}/authorize",
                "device_authorization_endpoint": f"{self.issuer}/device",
                "token_endpoint": f"{self.issuer}/token",
                **self.discovery,
            }
        )

    async def _keys(self, request: web.Request) -> web.Response:
        self.fetched[request.path] += 1
        self._asked.set()
        if self.hold is not None:
            await self.hold.wait()
        return web.json_response({"keys": self.published})

    async def _form(self, request: web.Request) -> dict[str, str]:
        form = dict(parse_qsl(await request.text()))
        self.requests.append((request.path, form))
        return form

    async def _device(self, request: web.Request) -> web.Response:
        form = await self._form(request)
        if form.get("client_id") != CLIENT:
            return web.json_response({"error": "invalid_client"}, status=401)
        return web.json_response(
            {
                "device_code": "the-device-code",
                "user_code": "WDJB-MJHT",
                "verification_uri": f"{self.issuer}/activate",
                "expires_in": 600,
                "interval": self.interval,
            }
        )

    async def _authorize(self, request: web.Request) -> web.Response:
        asked = dict(request.query)
        self.requests.append((request.path, asked))
        if asked["response_type"] != "code" or asked["code_challenge_method"] != "S256":
            return web.Response(status=400, text="unsupported")
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        answer = urlencode({"code": code, "state": asked["state"], "iss": self.issuer})
        raise web.HTTPFound(f"{asked['redirect_uri']}?{answer}")

    def _exchange(self, request: web.Request, form: dict[str, str]) -> web.Response:
        asked = self._codes.pop(form["code"], None)  # once
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        shown = request.headers.get("authorization", "")
        expected = base64.b64encode(f"{form['client_id']}:{self.client_secret}".encode()).decode()
        if self.client_secret and shown != f"Basic {expected}":
            return web.json_response({"error": "invalid_client"}, status=401)
        if (
            asked is None
            or asked["code_challenge"] != challenge
            or asked["redirect_uri"] != form["redirect_uri"]
            or asked["client_id"] != form["client_id"]
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        said = {"aud": asked["client_id"], "nonce": asked["nonce"], **self.claims}
        token = self.token(**{**said, **self.id_claims})
        return web.json_response(
            {"access_token": "opaque", "token_type": "Bearer", "id_token": token}
        )

    async def _token(self, request: web.Request) -> web.Response:
        form = await self._form(request)
        if form["grant_type"] == "authorization_code":
            return self._exchange(request, form)
        if form["grant_type"] == "refresh_token":
            if form["refresh_token"] not in self.refreshes:
                return web.json_response({"error": "invalid_grant"}, status=400)
            self.refreshes.remove(form["refresh_token"])
            return self._grant()
        if form.get("device_code") != "the-device-code":
            return web.json_response({"error": "invalid_grant"}, status=400)
        if self.answers:
            return web.json_response({"error": self.answers.popleft()}, status=400)
        await self._approved.wait()
        return self._grant()

    async def _moved(self, request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(request.query["to"])

    def _grant(self) -> web.Response:
        refresh = secrets.token_urlsafe(16)
        self.refreshes.add(refresh)
        expire = time.time() + self.lifetime
        return web.json_response(
            {
                "access_token": self.token(exp=int(expire), **self.claims),
                "token_type": "Bearer",
                "refresh_token": refresh,
                "expires_in": int(self.lifetime),
            }
        )

"""Signing in at the identity provider: the code flow with PKCE (RFC 6749, RFC 7636, OpenID Connect
Core 1.0), from the browser's first step to who it is.

What the server has to remember meanwhile is with the browser, in a cookie that lasts some minutes:
a secret, and what is asked of the provider is made of that. So a code that somebody else was given
leads nowhere in this browser, and the answer may come to any replica.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlencode, urlsplit

import structlog

from colloquy_server.api.identity_access import IdentityAccess
from colloquy_server.api.identity_tokens import IdentityTokens
from colloquy_server.database.models import KeyRole
from colloquy_server.errors import Unauthenticated
from colloquy_server.settings import Settings, names

log = structlog.get_logger()

CALLBACK_PATH = "/signin/callback"

LASTS_SECONDS = 600
"""For so long somebody may take to sign in at the provider."""

_KEPT = re.compile(r"[\w-]{43}\.([0-9]{1,12})\.([\w-]*)", re.ASCII)
"""What a browser keeps: the secret, when it began, and where it will be afterwards."""

_SCOPE = "openid profile email"
_MAX_CODE = 4_096
_MAX_PATH = 2_048


class SignInRefused(Unauthenticated):
    """Signing in was not completed. Begin again."""


class NotBegunHere(SignInRefused):
    """This browser did not begin this sign-in, or began another one since. Begin again."""


class IdentitySignIn:
    """The way to the provider and back."""

    def __init__(
        self,
        identity: IdentityAccess,
        settings: Settings,
        client_id: str,
        web_url: Callable[[], str],
        now: Callable[[], float] = time.time,
    ) -> None:
        """`client_id` is what this server is called at the provider, `web_url` where the provider
        sends browsers back to; `now` is in seconds since 1970."""
        assert settings.oidc_issuer is not None
        self._identity = identity
        self._provider = identity.provider
        self._issuer = settings.oidc_issuer
        self._client_id = client_id
        self._client_secret = settings.oidc_client_secret
        self._web_url = web_url
        self.now = now
        self._tokens = IdentityTokens(
            identity.provider, settings.oidc_issuer, [client_id], [client_id], lambda: self.now()
        )

    @classmethod
    def open(
        cls, identity: IdentityAccess | None, settings: Settings, web_url: Callable[[], str]
    ) -> IdentitySignIn | None:
        """None when tokens are not taken, or no client is named."""
        clients = names(settings.oidc_client_id)
        if identity is None or not clients:
            return None
        return cls(identity, settings, clients[0], web_url)

    async def begin(self, return_to: str) -> tuple[str, str]:
        """Where the browser goes to sign in, and what it keeps meanwhile; `return_to` is where it
        will be afterwards. Raises IdentityProviderAway."""
        endpoint = (await self._provider.endpoints()).authorization
        path = base64.urlsafe_b64encode(safe_path(return_to).encode()).decode().rstrip("=")
        kept = f"{secrets.token_urlsafe(32)}.{int(self.now())}.{path}"
        challenge = hashlib.sha256(_made_of(kept, "verifier").encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": self._web_url() + CALLBACK_PATH,
            "scope": _SCOPE,
            "state": _made_of(kept, "state"),
            "nonce": _made_of(kept, "nonce"),
            "code_challenge": base64.urlsafe_b64encode(challenge).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        joint = "&" if urlsplit(endpoint).query else "?"
        return f"{endpoint}{joint}{urlencode(asked)}", kept

    async def finish(self, kept: str, answer: Mapping[str, str]) -> tuple[str, str, KeyRole, str]:
        """Whom the provider says that the browser's user is: account, user, role, and where it is
        to go. `answer` is what the provider had the browser bring.

        Raises SignInRefused, Unauthenticated, PermissionDenied when it is good and gives no access,
        and Unavailable when the provider or the database is away.
        """
        return_to = self._check(kept, answer)
        code = answer.get("code", "")
        if not 0 < len(code) <= _MAX_CODE:
            raise SignInRefused
        tokens = await self._provider.exchange(
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": self._web_url() + CALLBACK_PATH,
                "client_id": self._client_id,
                "code_verifier": _made_of(kept, "verifier"),
            },
            self._client_secret,
        )
        token = tokens.get("id_token") if tokens is not None else None
        if not isinstance(token, str):
            raise SignInRefused("The identity provider did not take this sign-in. Begin again.")
        claims = await self._tokens.claims(token)
        nonce = claims.get("nonce")
        if not isinstance(nonce, str) or not _is_same(nonce, _made_of(kept, "nonce")):
            raise SignInRefused("This token is of another sign-in. Begin again.")
        digest = hashlib.sha256(token.encode()).hexdigest()
        account_id, user, role = await self._identity.admit(claims, digest)
        return account_id, user.id, role, return_to

    def _check(self, kept: str, answer: Mapping[str, str]) -> str:
        """That the browser is the one that began; returns where it is to go."""
        state = answer.get("state", "")
        found = _KEPT.fullmatch(kept)
        if found is None or not _is_same(state, _made_of(kept, "state")):
            raise NotBegunHere
        begun, path = found.groups()
        if not 0 <= self.now() - int(begun) <= LASTS_SECONDS:
            raise SignInRefused("This sign-in took too long. Begin again.")
        if answer.get("iss", self._issuer) != self._issuer:  # RFC 9207
            raise SignInRefused
        if error := answer.get("error"):
            log.info("identity provider refused a sign-in", error=error[:64])
            raise SignInRefused("The identity provider did not sign you in. Begin again.")
        try:
            return safe_path(base64.urlsafe_b64decode(path + "=" * (-len(path) % 4)).decode())
        except (binascii.Error, UnicodeDecodeError):
            return "/"


def safe_path(path: str) -> str:
    """A path of the page, or its first one for what could lead elsewhere: another origin by `//`
    or by a backslash, which browsers take for a slash, or no path at all."""
    is_path = path.startswith("/") and not path.startswith("//") and len(path) <= _MAX_PATH
    is_plain = path.isascii() and path.isprintable() and "\\" not in path and " " not in path
    return path if is_path and is_plain else "/"


def _made_of(kept: str, what: str) -> str:
    """A value for one purpose, which tells nothing of what the browser keeps."""
    digest = hmac.digest(kept.encode(), what.encode(), "sha256")
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _is_same(said: str, expected: str) -> bool:
    return hmac.compare_digest(said.encode(), expected.encode())

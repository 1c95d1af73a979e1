"""Tokens of the identity provider: whether one is genuine, meant for this server, and in its time.

Only signed JWTs (RFC 7519) with an asymmetric algorithm. What a token says is looked at before its
signature, because that costs less; what a refusal says is nothing that the sender does not know.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import orjson
from joserfc.errors import ExpiredTokenError, InvalidClaimError, JoseError
from joserfc.jws import CompactSignature, JWSRegistry, extract_compact, validate_compact
from joserfc.jwt import JWTClaimsRegistry

from colloquy_server.api.identity_provider import IdentityProvider
from colloquy_server.errors import Unauthenticated

MAX_BYTES = 16 << 10
"""Of a token. Of a call's metadata gRPC takes less than that."""

SKEW_SECONDS = 60
"""How far the provider's clock and this one's may be apart."""

ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"}
    | {"EdDSA", "Ed25519"}
)
"""Those whose keys are pairs: whoever can check a token cannot make one."""

_TYPES = frozenset({None, "jwt", "at+jwt", "application/jwt", "application/at+jwt"})
"""What a header's `typ` may be: others are logout tokens, proofs and events of the provider."""

_KINDS = ("Bearer", "ID")
"""The same in Keycloak's claim `typ`, which its refresh tokens have too."""

_MAX_TRIED = 4
"""Keys that are tried for a token that names none."""

Claims = Mapping[str, Any]


def looks_like_token(secret: str) -> bool:
    """Whether a bearer is a JWT, of whomever: base64 of `{"`, and dots, which no key has."""
    return secret.startswith("eyJ") and "." in secret


class _Algorithms(JWSRegistry):
    """joserfc's, without its list of recommended ones and its warning of EdDSA's name."""

    max_header_length = MAX_BYTES
    max_payload_length = MAX_BYTES

    def get_alg(self, name: str) -> Any:
        """One of ALGORITHMS: tokens that name others come no further than `_parsed`."""
        return self.algorithms[name]


_REGISTRY = _Algorithms(strict_check_header=False)


class IdentityTokens:
    """Checks tokens."""

    def __init__(
        self,
        provider: IdentityProvider,
        issuer: str,
        audiences: Collection[str],
        clients: Collection[str],
        now: Callable[[], float] = time.time,
    ) -> None:
        """`audiences` are this server's names at the provider; `clients` those whose tokens are
        taken although they are for others too. `now` is in seconds since 1970."""
        self._provider = provider
        self._issuer = issuer
        self._audiences = list(audiences)
        self._clients = frozenset({*clients, *audiences})
        self._now = now

    async def claims(self, token: str) -> Claims:
        """What a token says that is good now.

        Raises Unauthenticated, and IdentityProviderAway when its key has to be fetched and cannot
        be.
        """
        signature, claims = _parsed(token)
        header = signature.protected
        self._check(claims)
        keys = await self._provider.keys(header.get("kid"), header["alg"])
        for key in keys[:_MAX_TRIED]:
            try:
                if validate_compact(signature, key, registry=_REGISTRY):
                    return claims
            except (JoseError, ValueError, TypeError):
                continue
        raise Unauthenticated("This token is not signed by a key of the identity provider.")

    def _check(self, claims: Claims) -> None:
        registry = JWTClaimsRegistry(
            now=int(self._now()),
            leeway=SKEW_SECONDS,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "values": self._audiences},
            exp={"essential": True},
            sub={"essential": True},
        )
        try:
            registry.validate(dict(claims))
        except ExpiredTokenError:
            raise Unauthenticated("This token has expired: sign in again.") from None
        except InvalidClaimError as error:
            if error.claim in ("nbf", "iat"):
                raise Unauthenticated("This token is not valid yet.") from None
            raise _Foreign from None
        except JoseError:
            raise _Foreign from None
        audience = claims["aud"]
        if isinstance(audience, list) and len(set(audience)) > 1:
            # Any of them could send it on: it has to be of a client that is known.
            client = claims.get("azp", claims.get("client_id"))
            if not isinstance(client, str) or client not in self._clients:
                raise Unauthenticated(
                    "This token is for several audiences, of a client that this server does not"
                    " know."
                )
        kind = claims.get("typ", "Bearer")
        if kind not in _KINDS or "events" in claims or "cnf" in claims:
            # `events` is a logout token's; `cnf` binds a token to a key, which nobody shows here.
            raise _Foreign


class _Foreign(Unauthenticated):
    """This token is not for this server."""


def _parsed(token: str) -> tuple[CompactSignature, dict[str, Any]]:
    """A token's parts; nothing of them is checked. Raises Unauthenticated."""
    if len(token) > MAX_BYTES:
        raise Unauthenticated("This token is too long.")
    try:
        signature = extract_compact(token.encode("ascii"), registry=_REGISTRY)
        claims = orjson.loads(signature.payload)
    except (JoseError, ValueError, TypeError, RecursionError):
        raise _Unreadable from None
    header = signature.protected
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise _Unreadable
    kind, key_id, algorithm = header.get("typ"), header.get("kid"), header.get("alg")
    # `crit` names what has to be understood; here nothing is that a JWT would need.
    if "crit" in header or not isinstance(key_id, str | None):
        raise _Unreadable
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise _Unreadable
    if not isinstance(kind, str | None) or (kind and kind.lower()) not in _TYPES:
        raise _Foreign
    return signature, claims


class _Unreadable(Unauthenticated):
    """This token is not a JWT that is signed with an algorithm that is taken here."""

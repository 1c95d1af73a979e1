"""Callers with tokens of the company's identity provider: who they are here.

A token is checked once every few seconds, as a key is (`access.py` keeps it meanwhile), and its
holder becomes a user of the account at the first call. Nobody here can take a token back: what the
provider gave holds until it expires. Whose user or account is deleted is cut off nevertheless.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from colloquy_server.api.access import Principal
from colloquy_server.api.credentials import IdentifiedCaller
from colloquy_server.api.identity_provider import IdentityProvider
from colloquy_server.api.identity_rules import Identity, IdentityRules
from colloquy_server.api.identity_tokens import (
    SKEW_SECONDS,
    Claims,
    IdentityTokens,
    looks_like_token,
)
from colloquy_server.api.rate_limiter import RateLimiter
from colloquy_server.database.models import KeyRole
from colloquy_server.database.repository import access as rows
from colloquy_server.database.repository.users import is_up_to_date
from colloquy_server.database.rows import UserRow
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database
from colloquy_server.errors import ColloquyError, NotFound, PermissionDenied, Unauthenticated
from colloquy_server.settings import Settings, names

T = TypeVar("T")

log = structlog.get_logger()

_REMEMBERED = 10_000
"""Users whose rate is kept, and tokens of which it is known whose they are, or that they give no
access."""


class _NoAccess(PermissionDenied):
    """This token is good, but nothing here is open to its holder: ask whoever runs this server."""


class _UserDeleted(Unauthenticated):
    """The user of this token was deleted: sign in again."""


class IdentityAccess:
    """Makes callers of tokens."""

    def __init__(
        self,
        db: Database,
        settings: Settings,
        rules: IdentityRules,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`settings` name the provider; `now` is in seconds since 1970."""
        assert settings.oidc_issuer is not None
        self.now = now
        self.provider = IdentityProvider(settings.oidc_issuer)
        self._db = db
        self._rules = rules
        self._rate = settings.max_requests_per_second
        self._tokens = IdentityTokens(
            self.provider,
            settings.oidc_issuer,
            names(settings.oidc_audience),
            names(settings.oidc_client_id),
            lambda: self.now(),
        )
        self._interval = settings.key_check_interval
        self._refused: dict[str, tuple[float, type[ColloquyError]]] = {}
        self._rates: dict[str, RateLimiter] = {}
        self._holders: dict[str, str] = {}

    @classmethod
    def open(cls, db: Database, settings: Settings) -> IdentityAccess | None:
        """None when no rules are set. Raises SettingsError for rules that cannot be used."""
        if settings.oidc_rules is None:
            if settings.oidc_issuer is not None:
                log.info("no token of the identity provider is taken", remedy="set OIDC_RULES")
            return None
        return cls(db, settings, IdentityRules.load(settings.oidc_rules))

    def start(self) -> None:
        """Begins to fetch the provider's keys."""
        self.provider.start()

    async def stop(self) -> None:
        """Fetches no more."""
        await self.provider.stop()

    def takes(self, secret: str) -> bool:
        """Whether a bearer is a token, be it good or bad."""
        return looks_like_token(secret)

    async def identify(self, token: str, digest: str) -> IdentifiedCaller:
        """Who calls with a token; `digest` is its hash.

        Raises Unauthenticated, PermissionDenied when the token is good and gives no access, and
        Unavailable when the provider or the database is needed and away.
        """
        until, refusal = self._refused.get(digest, (0.0, _NoAccess))
        if until > self.now():
            raise refusal
        try:
            return await self._identify(token, digest)
        except (_NoAccess, _UserDeleted) as error:
            _remember(self._refused, digest, (self.now() + self._interval, type(error)))
            raise

    async def _identify(self, token: str, digest: str) -> IdentifiedCaller:
        claims = await self._tokens.claims(token)
        account_id, user, role = await self.admit(claims, digest)
        rate = self._rates.get(user.id) or RateLimiter(self._rate, self._rate)
        _remember(self._rates, user.id, rate)
        caller = Principal(account_id, "", role, user.id, user.external_id or "")
        return IdentifiedCaller(caller, claims["exp"] + SKEW_SECONDS, rate)

    async def admit(self, claims: Claims, digest: str) -> tuple[str, UserRow, KeyRole]:
        """The account, the user and the role of whom the provider says something that was checked;
        `digest` is the hash of the token.

        Raises Unauthenticated, PermissionDenied when it gives no access, and DatabaseUnavailable.
        """
        identity = self._rules.identify(claims)
        if identity is None:
            log.info("no rule takes a token", subject=claims["sub"])
            raise _NoAccess
        account_id, user = await self._user(identity, digest)
        return account_id, user, identity.role

    async def _user(self, identity: Identity, digest: str) -> tuple[str, UserRow]:
        """The account and the user of a token, added or brought up to date."""
        asked = (identity.account, identity.user)
        found = await self._db.read(EVERY_ACCOUNT, rows.find_identity, *asked)
        if found is None:
            log.warning("a rule names an account that is not there", account=identity.account)
            raise _NoAccess
        account_id, user = found
        holder = self._holders.get(digest)
        if holder is not None and (user is None or user.id != holder):
            # Deleted meanwhile: the same token makes nobody anew.
            raise _UserDeleted
        if user is None or not is_up_to_date(user, identity.user):
            try:
                user = await self._db.write(
                    EVERY_ACCOUNT, rows.keep_user, account_id, identity.user
                )
            except NotFound:  # deleted this moment
                raise _NoAccess from None
        _remember(self._holders, digest, user.id)
        return account_id, user


def _remember(kept: dict[str, T], key: str, value: T) -> None:
    """Keeps something as the newest, and forgets the oldest when there is too much."""
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > _REMEMBERED:
        del kept[next(iter(kept))]

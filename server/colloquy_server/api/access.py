"""Who calls, with an API key, a token or a session of a browser, and how often."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import structlog

from colloquy_server.api.callers import Principal as Principal
from colloquy_server.api.callers import principal as principal
from colloquy_server.api.credentials import Credential, Tokens
from colloquy_server.api.failures import Failures
from colloquy_server.api.key_lookups import KeyLookups, LookupsFull
from colloquy_server.api.key_uses import KeyUses
from colloquy_server.api.rate_limiter import RateLimiter
from colloquy_server.concurrency import KeyedLocks
from colloquy_server.database.models import KeyRole
from colloquy_server.database.repository import access as rows
from colloquy_server.database.repository import sessions
from colloquy_server.database.repository.users import present_users
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database, DatabaseUnavailable
from colloquy_server.errors import (
    PermissionDenied,
    RateLimited,
    TooManyFailures,
    Unauthenticated,
    Unavailable,
)

log = structlog.get_logger()

_KEY_PREFIX = "colloquy_"
_SECRET_BYTES = 32
_SECRET = re.compile(rf"{_KEY_PREFIX}[\w-]{{43}}", re.ASCII)
"""What a key looks like: so many bytes in URL-safe base64."""

_SESSION_SECRET = re.compile(r"[\w-]{43}", re.ASCII)
"""The same of a session, which can be no key."""

_SESSION = "session:"
"""Before the hashes of sessions: what is known of one is not known of a bearer."""

_REMEMBERED = 10_000
"""Keys, and users with sessions, whose rate is kept: those that called last."""

_CACHED = 1_024
"""Keys that are remembered between checks."""


def new_secret() -> str:
    """A new key: 256 random bits."""
    return _KEY_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def new_session_secret() -> str:
    """A new secret of a session or a link: as hard to guess, and no key."""
    return secrets.token_urlsafe(_SECRET_BYTES)


def hash_secret(secret: str) -> str:
    """What is stored of a secret. A plain hash will do: nobody can guess 256 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()


_LookUp = Callable[[bool], Awaitable[Credential]]
"""Looks up what a caller shows, at once or with others."""


class AccessControl:
    """Authenticates calls, limits their rate, and ends the streams of keys that end."""

    def __init__(
        self,
        db: Database,
        *,
        admin_keys: Iterable[str],
        provisioning_keys: Iterable[str],
        rate: int,
        max_failures: int,
        check_interval: float,
        session_lifetime: float,
        tokens: Tokens | None = None,
    ) -> None:
        """`rate` is in requests a second of one key, `max_failures` in failed authentications a
        minute from one address; `check_interval`, in seconds, is how long a key that was revoked
        elsewhere may still work. `session_lifetime`, in seconds, is how long a session lasts
        however much it is used. Without `tokens` none is taken."""
        self._tokens = tokens
        self._db = db
        self._platform = _unlimited(Principal(is_platform=True))
        self._provisioning = _unlimited(Principal(is_provisioning=True))
        self._admin_hashes = [hash_secret(key) for key in admin_keys]
        self._provisioning_hashes = [hash_secret(key) for key in provisioning_keys]
        self._rate = rate
        self._failures = Failures(max_failures)
        self._interval = check_interval
        self._cache: dict[str, Credential] = {}
        self._lookups = KeyLookups(db, rows.good_keys, _NO_KEY)
        self._session_lookups = KeyLookups(db, sessions.by_hash, _NO_SESSION)
        self._locks = KeyedLocks()
        self._uses = KeyUses(db, rows.store_uses)
        self._session_uses = KeyUses(db, partial(sessions.store_uses, lifetime=session_lifetime))
        self._rates: dict[str, RateLimiter] = {}
        self._loops: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to check the keys of open streams, and to store when keys were used."""
        # Apart, so that a check never waits for what is written.
        self._loops = [
            asyncio.create_task(self._repeat("check keys", self._end_streams)),
            asyncio.create_task(self._repeat("store uses of keys", self._uses.store)),
            asyncio.create_task(self._repeat("store uses of sessions", self._session_uses.store)),
        ]

    async def stop(self) -> None:
        """Ends that, and stores what is not stored."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self._lookups.stop()
        await self._session_lookups.stop()
        await _try("store uses of keys", lambda: self._uses.store(is_last=True))
        await _try("store uses of sessions", lambda: self._session_uses.store(is_last=True))

    async def authenticate(self, authorization: str, address: str) -> Credential:
        """What a caller shows in an `authorization` header, who calls from this address.

        Raises Unauthenticated, TooManyFailures, RateLimited and DatabaseUnavailable.
        """
        scheme, _, secret = authorization.partition(" ")
        secret = secret.strip() if scheme.lower() == "bearer" else ""
        digest = hash_secret(secret)
        # Both lists to their ends: how long it takes says nothing of a key.
        is_platform = _is_one_of(digest, self._admin_hashes)
        is_provisioning = _is_one_of(digest, self._provisioning_hashes)
        if is_platform or is_provisioning:
            return self._platform if is_platform else self._provisioning
        look_up = partial(self._look_up_once, secret, digest)
        return await self._admit(digest, bool(secret), look_up, address)

    async def authenticate_session(self, secret: str, address: str) -> Credential:
        """The same for who shows the secret of a session, as only a cookie does.

        A bearer never is a session's secret: what holds no cookies is in none.
        """
        digest = _SESSION + hash_secret(secret)
        look_up = partial(self._look_up_session_once, secret, digest)
        return await self._admit(digest, bool(secret), look_up, address)

    async def _admit(
        self, digest: str, has_secret: bool, look_up: _LookUp, address: str
    ) -> Credential:
        """A caller within its rate, whose use of what it shows is noted."""
        known = self._fresh(digest)
        if known is None:
            known = await self._identify(digest, has_secret, look_up, address)
        caller = known.principal
        wait = known.rate_limiter.acquire()
        if wait:
            subject = f"api_key:{caller.key_id}" if caller.key_id else f"user:{caller.user_id}"
            raise RateLimited(subject, self._rate, wait)
        if caller.key_id:
            self._uses.note(caller.key_id)
        if caller.session_id:
            self._session_uses.note(caller.session_id)
        return known

    def add(self, digest: str) -> None:
        """A key was made here, which works from now on."""
        self._lookups.add(digest)

    def forget(self, key_id: str) -> None:
        """A key was revoked here: ends its streams and looks it up again at its next call."""
        self._forget(lambda known: known.principal.key_id == key_id)

    def forget_session(self, session_id: str) -> None:
        """The same for a session that was revoked here."""
        self._forget(lambda known: known.principal.session_id == session_id)

    def forget_secret(self, secret: str) -> None:
        """The same for the session with this secret."""
        self._drop(_SESSION + hash_secret(secret))

    def attempt(self, address: str) -> RateLimiter:
        """Begins what somebody who is not known tries from an address, and is a failure until it
        is refunded. Raises TooManyFailures."""
        limiter = self._failures.of(address)
        if wait := limiter.acquire():
            raise TooManyFailures(self._failures.per_minute, wait)
        return limiter

    def forget_account(self, account_id: str) -> None:
        """The same for all keys, tokens and sessions of an account that was deleted."""
        self._forget(lambda known: known.principal.account_id == account_id)

    def forget_user(self, user_id: str) -> None:
        """The same for all keys, tokens and sessions of a user who was deleted."""
        self._forget(lambda known: known.principal.user_id == user_id)

    def _forget(self, is_meant: Callable[[Credential], bool]) -> None:
        for digest, known in list(self._cache.items()):
            if is_meant(known):
                del self._cache[digest]
                known.end()

    def _fresh(self, digest: str) -> Credential | None:
        known = self._cache.get(digest)
        return known if known is not None and known.until >= time.monotonic() else None

    async def _identify(
        self, digest: str, has_secret: bool, look_up: _LookUp, address: str
    ) -> Credential:
        """The key of a caller who is not known, or has to be looked at again.

        Whoever calls from an address with too many failures waits, and shares lookups: a good key
        may have the same address.
        """
        if digest in self._cache:  # it was good a moment ago
            return await look_up(True)
        limiter = self._failures.of(address)
        wait = limiter.acquire()
        try:
            if not has_secret:
                raise Unauthenticated
            known = await look_up(not wait)
        except (Unauthenticated, LookupsFull):
            if wait:
                raise TooManyFailures(self._failures.per_minute, wait) from None
            raise
        except (PermissionDenied, Unavailable):  # it is good, or nobody can tell
            if not wait:
                limiter.refund()
            raise
        # Not for a caller who goes away meanwhile: the lookup costs as much.
        if not wait:
            limiter.refund()
        return known

    async def _look_up_once(self, secret: str, digest: str, at_once: bool) -> Credential:
        if self._tokens is not None and self._tokens.takes(secret):
            async with self._locks.of(digest):
                return self._fresh(digest) or await self._look_up_token(
                    self._tokens, secret, digest
                )
        if not _SECRET.fullmatch(secret):
            raise Unauthenticated("This is no API key of this server.")
        self._lookups.check(digest)
        async with self._locks.of(digest):  # many calls at once look a key up once
            return self._fresh(digest) or await self._look_up(digest, at_once=at_once)

    async def _look_up(self, digest: str, *, at_once: bool) -> Credential:
        try:
            key, now = await self._lookups.find(digest, at_once=at_once)
        except Unauthenticated:
            self._drop(digest)
            raise
        lasts = self._interval
        if key.expire_time is not None:
            lasts = min(lasts, (key.expire_time - now) / 1e6)
        until = time.monotonic() + lasts
        current = self._cache.get(digest)
        if current is not None and not current.has_ended:
            current.until = until
            return current
        user = key.user
        caller = Principal(
            key.account_id,
            key.id,
            KeyRole(key.role),
            user.id,
            user.external_id or "",
            limited_key_id=key.id if key.quota else None,
        )
        return self._keep(digest, Credential(caller, until, self._limiter(key.id)))

    async def _look_up_session_once(self, secret: str, digest: str, at_once: bool) -> Credential:
        if not _SESSION_SECRET.fullmatch(secret):
            raise Unauthenticated(_NO_SESSION)
        stored = digest.removeprefix(_SESSION)
        self._session_lookups.check(stored)
        async with self._locks.of(digest):
            return self._fresh(digest) or await self._look_up_session(digest, stored, at_once)

    async def _look_up_session(self, digest: str, stored: str, at_once: bool) -> Credential:
        try:
            found, now = await self._session_lookups.find(stored, at_once=at_once)
        except Unauthenticated:
            self._drop(digest)
            raise
        until = time.monotonic() + min(self._interval, (found.expire_time - now) / 1e6)
        current = self._cache.get(digest)
        if current is not None and not current.has_ended:
            current.until = until
            return current
        session = found.session
        caller = Principal(
            session.account_id,
            session.api_key_id or "",
            KeyRole(session.role),
            session.user_id,
            found.external_id or "",
            limited_key_id=session.api_key_id if found.is_limited else None,
            session_id=session.id,
        )
        limiter = self._limiter(caller.key_id or caller.user_id)
        return self._keep(digest, Credential(caller, until, limiter))

    def _limiter(self, subject: str) -> RateLimiter:
        """The rate limiter of a key, with the sessions that stand on it, or of a user's others."""
        limiter = self._rates.pop(subject, None) or RateLimiter(self._rate, self._rate)
        self._rates[subject] = limiter
        if len(self._rates) > _REMEMBERED:
            del self._rates[next(iter(self._rates))]
        return limiter

    async def _look_up_token(self, tokens: Tokens, token: str, digest: str) -> Credential:
        try:
            found = await tokens.identify(token, digest)
        except (Unauthenticated, PermissionDenied):
            self._drop(digest)
            raise
        lasts = max(0.0, min(self._interval, found.expire_time - tokens.now()))
        until = time.monotonic() + lasts
        current = self._cache.get(digest)
        if current is not None and current.principal == found.principal and not current.has_ended:
            current.until = until
            return current
        if current is not None:
            current.end()
        known = Credential(found.principal, until, found.rate_limiter)
        known.expire_time = found.expire_time
        return self._keep(digest, known)

    def _drop(self, digest: str) -> None:
        """What was good is not any more."""
        if (known := self._cache.pop(digest, None)) is not None:
            known.end()

    def _keep(self, digest: str, known: Credential) -> Credential:
        if len(self._cache) >= _CACHED:
            self._forget_idle()
        if len(self._cache) >= _CACHED and known.expire_time is not None:
            # A person may have any number of tokens: the oldest is checked anew.
            tokens = (d for d, k in self._cache.items() if k.expire_time and not k.tasks)
            self._cache.pop(next(tokens, ""), None)
        self._cache[digest] = known
        return known

    def _forget_idle(self) -> None:
        now = time.monotonic()
        for digest, known in list(self._cache.items()):
            if not known.tasks and known.until < now:
                del self._cache[digest]

    async def _repeat(self, work: str, do: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await _try(work, do)

    async def _end_streams(self) -> None:
        self._forget(self._has_expired)
        streaming = [k.principal for k in self._cache.values() if k.tasks]
        if not streaming:
            return
        open_in = {caller.session_id for caller in streaming if caller.session_id}
        others = [caller for caller in streaming if not caller.session_id]
        keys = {caller.key_id for caller in others if caller.key_id}
        users = {caller.user_id for caller in others if not caller.key_id}
        valid = await self._db.read(EVERY_ACCOUNT, rows.valid_keys, keys)
        present = await self._db.read(EVERY_ACCOUNT, present_users, users)
        good = await self._db.read(EVERY_ACCOUNT, sessions.valid, open_in)
        for key_id in keys - valid:
            self.forget(key_id)
        for user_id in users - present:
            self.forget_user(user_id)
        for session_id in open_in - good:
            self.forget_session(session_id)
        for session_id in open_in & good:  # who watches is there
            self._session_uses.note(session_id)

    def _has_expired(self, known: Credential) -> bool:
        if known.expire_time is None or self._tokens is None:
            return False
        return known.expire_time <= self._tokens.now()


_NO_KEY = "This API key is unknown, revoked or expired."
_NO_SESSION = "This session is unknown, or has ended: sign in again."


def _unlimited(caller: Principal) -> Credential:
    """For a key of the settings: nothing ends it."""
    return Credential(caller, math.inf, RateLimiter(math.inf, 0))


def _is_one_of(digest: str, hashes: Iterable[str]) -> bool:
    """Whether a hash is one of these, by a comparison that takes as long either way."""
    return sum(hmac.compare_digest(digest, each) for each in hashes) > 0


async def _try(work: str, do: Callable[[], Awaitable[None]]) -> None:
    """Does what is done again later if it fails now."""
    try:
        await do()
    except DatabaseUnavailable:
        log.warning("database is away", work=work)
    except Exception:
        log.exception("failed", work=work)

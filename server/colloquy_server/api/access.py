"""Who calls: API keys, what their holders may do, and how often."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from colloquy_server.api.rate_limiter import RateLimiter
from colloquy_server.concurrency import KeyedLocks
from colloquy_server.database.models import ApiKey, KeyRole
from colloquy_server.database.repository import access as rows
from colloquy_server.database.repository.access import Author
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database, DatabaseUnavailable
from colloquy_server.errors import PermissionDenied, RateLimited, Unauthenticated

log = structlog.get_logger()

_KEY_PREFIX = "colloquy_"
_SECRET_BYTES = 32

_CACHED = 1_024
"""Keys that are remembered between checks."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a call: the holder of an account's key, or of the platform's (`is_platform`)."""

    account_id: str = ""
    key_id: str = ""
    role: KeyRole = KeyRole.SERVICE
    user_id: str = ""
    user_external_id: str = ""
    is_platform: bool = False

    def author(self, asked: Author) -> Author:
        """Whom the caller speaks as, when `asked` is whom it would like to speak as.

        Raises PermissionDenied when a member would speak as somebody else.
        """
        if self.role == KeyRole.SERVICE:
            # A service's key has the account's default user.
            return asked if asked.id or asked.external_id else replace(asked, id=self.user_id)
        is_other = asked.id not in ("", self.user_id)
        if is_other or asked.external_id not in ("", self.user_external_id):
            raise PermissionDenied(
                "A member's key speaks as its own user: leave `author` out, or use a service's key."
            )
        return Author(id=self.user_id)


principal: ContextVar[Principal] = ContextVar("principal")
"""Who makes the call that is being served."""


def new_secret() -> str:
    """A new key: 256 random bits."""
    return _KEY_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def hash_secret(secret: str) -> str:
    """What is stored of a key. A plain hash will do: nobody can guess 256 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(slots=True)
class _CachedKey:
    """A key that was looked up: good until `until` (monotonic seconds), then looked up again."""

    principal: Principal
    until: float
    rate_limiter: RateLimiter
    streams: set[asyncio.Task[Any]] = field(default_factory=set)
    has_ended: bool = False


class AccessControl:
    """Authenticates calls, limits their rate, and ends the streams of keys that end."""

    def __init__(
        self, db: Database, admin_api_key: str | None, *, rate: int, check_interval: float
    ) -> None:
        """`rate` is in requests a second of one key; `check_interval`, in seconds, is how long a
        key that was revoked elsewhere may still work."""
        self._db = db
        self._admin_hash = hash_secret(admin_api_key) if admin_api_key else ""
        self._rate = rate
        self._interval = check_interval
        self._cache: dict[str, _CachedKey] = {}
        self._lookups = KeyedLocks()
        self._checks: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to check the keys of open streams."""
        self._checks = asyncio.create_task(self._check_forever())

    async def stop(self) -> None:
        """Ends the checks."""
        if self._checks is not None:
            self._checks.cancel()
            await asyncio.gather(self._checks, return_exceptions=True)

    async def authenticate(self, authorization: str) -> Principal:
        """The caller behind an `authorization` header.

        Raises Unauthenticated and RateLimited.
        """
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise Unauthenticated
        digest = hash_secret(secret.strip())
        if self._admin_hash and hmac.compare_digest(digest, self._admin_hash):
            return Principal(is_platform=True)
        known = self._fresh(digest)
        if known is None:
            async with self._lookups.of(digest):  # many calls at once look a key up once
                known = self._fresh(digest) or await self._look_up(digest)
        wait = known.rate_limiter.acquire()
        if wait:
            raise RateLimited(f"api_key:{known.principal.key_id}", self._rate, wait)
        return known.principal

    def forget(self, key_id: str) -> None:
        """A key was revoked here: ends its streams and looks it up again at its next call."""
        for digest, known in list(self._cache.items()):
            if known.principal.key_id == key_id:
                del self._cache[digest]
                _end(known)

    def forget_account(self, account_id: str) -> None:
        """The same for all keys of an account that was deleted."""
        for known in list(self._cache.values()):
            if known.principal.account_id == account_id:
                self.forget(known.principal.key_id)

    @contextmanager
    def stream(self, caller: Principal) -> Iterator[_StreamEnd]:
        """Holds a stream of the running task open: when its key ends, the task is cancelled."""
        end = _StreamEnd()
        task = asyncio.current_task()
        known = next((k for k in self._cache.values() if k.principal is caller), None)
        if task is None or known is None:
            yield end
            return
        end.known = known
        known.streams.add(task)
        try:
            yield end
        finally:
            known.streams.discard(task)

    def _fresh(self, digest: str) -> _CachedKey | None:
        known = self._cache.get(digest)
        return known if known is not None and known.until >= time.monotonic() else None

    async def _look_up(self, digest: str) -> _CachedKey:
        found = await self._db.read(EVERY_ACCOUNT, rows.key_by_hash, digest)
        if found is None or not _is_valid(*found):
            raise Unauthenticated("This API key is unknown, revoked or expired.")
        key, now = found
        lasts = self._interval
        if key.expire_time is not None:
            lasts = min(lasts, (key.expire_time - now) / 1e6)
        until = time.monotonic() + lasts
        current = self._cache.get(digest)
        if current is not None and not current.has_ended:
            current.until = until
            return current
        if len(self._cache) >= _CACHED:
            self._forget_idle()
        user = key.user
        caller = Principal(
            key.account_id, key.id, KeyRole(key.role), user.id, user.external_id or ""
        )
        known = self._cache[digest] = _CachedKey(caller, until, RateLimiter(self._rate))
        return known

    def _forget_idle(self) -> None:
        now = time.monotonic()
        for digest, known in list(self._cache.items()):
            if not known.streams and known.until < now:
                del self._cache[digest]

    async def _check_forever(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            streaming = {k.principal.key_id for k in self._cache.values() if k.streams}
            if not streaming:
                continue
            try:
                valid = await self._db.read(EVERY_ACCOUNT, rows.valid_keys, streaming)
            except DatabaseUnavailable:
                log.warning("database is away", work="check keys")
                continue
            except Exception:
                log.exception("keys not checked")
                continue
            for key_id in streaming - valid:
                self.forget(key_id)


class _StreamEnd:
    """Why a stream's task was cancelled: `is_due` when its key has ended."""

    known: _CachedKey | None = None

    @property
    def is_due(self) -> bool:
        return self.known is not None and self.known.has_ended


def _end(known: _CachedKey) -> None:
    known.has_ended = True
    for task in known.streams:
        task.cancel()


def _is_valid(key: ApiKey, now: int) -> bool:
    return key.revoke_time is None and (key.expire_time is None or key.expire_time > now)

"""Signing browsers in and out: what each way asks for, and the session that comes of it.

A session is begun with a secret of its own each time, whatever the browser showed before, and the
one that it had ends. Nothing here knows of cookies: `web/sign_in.py` does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from colloquy_server.api.access import (
    AccessControl,
    Principal,
    hash_secret,
    new_session_secret,
)
from colloquy_server.api.audit import AuditTrail
from colloquy_server.database.models import KeyRole, SignInMethod
from colloquy_server.database.repository import audit, sessions
from colloquy_server.database.repository.audit import Event
from colloquy_server.database.repository.sessions import Holder, NewSession, SessionRow
from colloquy_server.database.transactions import (
    EVERY_ACCOUNT,
    Database,
    DatabaseUnavailable,
    Session,
)
from colloquy_server.errors import PermissionDenied, Unauthenticated

BEGIN = "CreateSession"
END = "RevokeSession"

IDENTITY_LIFETIME = 86_400.0
"""Seconds for which it is believed what the identity provider said: who was blocked there is out
after that, and others are signed in again without being asked for a password."""


@dataclass(frozen=True, slots=True)
class Browser:
    """Who asks to be signed in, as far as that can be told; `session` is the secret of the session
    in which the browser is, if it is in one."""

    address: str
    user_agent: str = ""
    session: str = ""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session that was begun, with the secret that the browser is to show."""

    secret: str
    session: SessionRow


class SignIn:
    """Begins and ends sessions."""

    def __init__(
        self, db: Database, access: AccessControl, trail: AuditTrail, lifetime: float
    ) -> None:
        """`lifetime`, in seconds, is how long a session lasts however much it is used."""
        self._db = db
        self._access = access
        self._trail = trail
        self._lifetime = lifetime

    async def by_key(self, api_key: str, browser: Browser) -> SignedIn:
        """Signs in the user of an account's key, in its role.

        Raises Unauthenticated, PermissionDenied for a key that is no account's, TooManyFailures,
        RateLimited and DatabaseUnavailable.
        """
        known = await self._access.authenticate(f"Bearer {api_key}", browser.address)
        caller = known.principal
        if caller.is_platform or caller.is_provisioning:
            raise PermissionDenied("The platform's keys only administer: take an account's key.")
        if not caller.key_id:
            raise Unauthenticated("This is no API key of this server.")
        holder = Holder(caller.account_id, caller.user_id, caller.key_id, caller.role)
        return await self._begin_as(holder, SignInMethod.API_KEY, browser)

    async def by_link(self, code: str, browser: Browser) -> SignedIn:
        """Signs in whom a link is for, and uses it up. Raises the same."""
        attempt = self._access.attempt(browser.address)
        digest = hash_secret(code)
        try:
            signed_in = await self._begin(
                lambda s, new: sessions.create_by_link(s, digest, new), SignInMethod.LINK, browser
            )
        except DatabaseUnavailable:  # nobody can tell
            attempt.refund()
            raise
        attempt.refund()
        return signed_in

    async def by_identity(
        self, account_id: str, user_id: str, role: KeyRole, browser: Browser
    ) -> SignedIn:
        """Signs in whom the identity provider has vouched for. Raises Unauthenticated for a user
        who was deleted this moment, and DatabaseUnavailable."""
        holder = Holder(account_id, user_id, None, role)
        return await self._begin_as(holder, SignInMethod.IDENTITY_PROVIDER, browser)

    async def end(self, caller: Principal, address: str) -> None:
        """Signs out. Raises DatabaseUnavailable."""
        event = Event(END, address=address)

        def revoke(s: Session) -> None:
            row = sessions.revoke(s, caller.account_id, caller.session_id, caller.user_id)
            if not s.is_undone:
                _say(s, event, row)

        await self._db.write(EVERY_ACCOUNT, revoke)
        self._access.forget_session(caller.session_id)
        if event.is_added:
            self._trail.note(event)

    async def _begin_as(self, holder: Holder, method: SignInMethod, browser: Browser) -> SignedIn:
        return await self._begin(lambda s, new: sessions.create(s, holder, new), method, browser)

    async def _begin(
        self,
        create: Callable[[Session, NewSession], SessionRow],
        method: SignInMethod,
        browser: Browser,
    ) -> SignedIn:
        secret = new_session_secret()
        is_vouched_for = method == SignInMethod.IDENTITY_PROVIDER
        new = NewSession(
            method,
            hash_secret(secret),
            browser.user_agent,
            min(self._lifetime, IDENTITY_LIFETIME) if is_vouched_for else self._lifetime,
            hash_secret(browser.session) if browser.session else "",
        )
        event = Event(BEGIN, address=browser.address)

        def begin(s: Session) -> SessionRow:
            row = create(s, new)
            _say(s, event, row)
            return row

        row = await self._db.write(EVERY_ACCOUNT, begin)
        self._trail.note(event)
        if browser.session:
            self._access.forget_secret(browser.session)
        return SignedIn(secret, row)


def _say(s: Session, event: Event, row: SessionRow) -> None:
    """Stores who it is, and which session, with what is done to it."""
    event.account_id = row.account_id
    event.actor = KeyRole(row.role).name.lower()
    event.user_id = "" if row.role == KeyRole.SERVICE else row.user_id
    event.api_key_id = row.api_key_id or ""
    event.target_id = row.id
    audit.add(s, [event])

"""The audit trail of a process: which calls are in it, what is noted of each, and when it is kept.

What was done is stored with what it did, where the code that does it says so (`audited` in
`database/repository/audit.py`). All else, sign-ins and refusals above all, waits here for a moment
and is stored together. So that nobody can fill the table, or make the server write with every call,
those are noted once an hour each, and only so many of them.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import structlog
from google.protobuf.message import Message

from colloquy_server.api.access import Principal
from colloquy_server.api.peers import network_of
from colloquy_server.database.models import MICROS
from colloquy_server.database.repository import audit
from colloquy_server.database.repository.audit import Event
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database, DatabaseUnavailable

log = structlog.get_logger()

SIGN_IN = "SignIn"

_PERIOD = 3_600.0
"""Seconds in which the same sign-in or refusal is noted once by a process."""

_EACH = 100
"""Notes in a period about one key."""

_ALL = 10_000
_ALL_UNKNOWN = 1_000
"""Notes in a period about all keys together, and about all addresses whose callers are not known:
apart, so that these cannot drown what is noted of others."""

_GATHERED = 1.0
"""Seconds for which notes wait to be stored together."""

_MAX_WAITING = 20_000
"""Notes that wait while the database is away; those that come then are in the log alone."""

_STORED_AT_ONCE = 1_000
_LAST_STORED = 5.0
"""Seconds that the notes which wait at the end may take to be stored."""

_SWEEP_INTERVAL = 3_600.0
"""Seconds between looks for events that are too old."""


def _always(_request: Any) -> bool:
    return True


def _is_noted(request: Any) -> bool:
    """Whether a conversation is changed in what may hide it from others, or have it deleted."""
    paths = list(request.update_mask.paths)
    paths = paths or [field.name for field, _ in request.conversation.ListFields()]
    return any(name in paths for name in ("visibility", "archived", "expire_time"))


@dataclass(frozen=True, slots=True)
class Audited:
    """What is noted of a call: the paths of what it is done to, and of the account that it is
    about, which is else the caller's. They begin with `request` or `response`."""

    target: str
    account: str = ""
    when: Callable[[Any], bool] = _always
    """Whether a request is noted."""


AUDITED = {
    "AddParticipants": Audited("request.conversation_id"),
    "CreateAccount": Audited("response.account.id", "response.account.id"),
    "CreateApiKey": Audited("response.api_key.id", "request.account_id"),
    "CreateSignInLink": Audited("response.user.id"),
    "CreateWebhook": Audited("response.webhook.id", "request.account_id"),
    "DeleteAccount": Audited("request.account_id", "request.account_id"),
    "DeleteBudget": Audited("request.budget_id"),
    "DeleteConversation": Audited("request.conversation_id"),
    "DeleteMessage": Audited("request.message_id"),
    "DeleteUser": Audited("request.user_id"),
    "DeleteWebhook": Audited("request.webhook_id"),
    "ExportUser": Audited("request.user_id"),
    "RemoveParticipant": Audited("request.conversation_id"),
    "RetryDeadLetter": Audited("request.delivery_id"),
    "RevokeApiKey": Audited("request.api_key_id", "response.api_key.account_id"),
    "RevokeSession": Audited("request.session_id"),
    "SetBudget": Audited("response.budget.id", "request.account_id"),
    "UpdateAccount": Audited("request.account_id", "request.account_id"),
    "UpdateConversation": Audited("request.conversation.id", when=_is_noted),
}
"""By the name of the RPC."""


class AuditTrail:
    """Notes events, and stores those that nothing else stores."""

    def __init__(self, db: Database, retention_days: int) -> None:
        """`retention_days` is how long events are kept."""
        self._db = db
        self._kept = retention_days * 86_400 * MICROS
        self._waiting: list[Event] = []
        self._has_waiting = asyncio.Event()
        self._callers = _News(_ALL)
        self._unknown = _News(_ALL_UNKNOWN)
        self._lost = 0
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to store what is noted, and to remove what is too old."""
        self._tasks = [
            asyncio.create_task(self._forever(self._store_soon)),
            asyncio.create_task(self._forever(self._sweep)),
        ]

    async def stop(self) -> None:
        """Stores what still waits, and ends."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            async with asyncio.timeout(_LAST_STORED):
                await self._store()
        except (TimeoutError, DatabaseUnavailable):
            log.warning("audit events not stored", count=len(self._waiting))

    # --- what is noted ------------------------------------------------------------------------

    def signed_in(self, caller: Principal, address: str) -> None:
        """Notes that a caller is here, if it is news."""
        who = caller.key_id or caller.user_id or actor_of(caller)
        if self._callers.is_new(who, SIGN_IN, address):
            self.note(_event(SIGN_IN, caller, address))

    def refused(self, caller: Principal | None, method: str, address: str, reason: str) -> None:
        """Notes that a call was refused, if it is news; without a caller the key was not known."""
        action = _name(method)
        if caller is None:
            address = network_of(address)
            if self._unknown.is_new(address, reason):
                self.note(Event(action, address=address, refusal=reason))
            return
        who = caller.key_id or caller.user_id or actor_of(caller)
        if self._callers.is_new(who, reason, action, address):
            event = _event(action, caller, address)
            event.refusal = reason
            self.note(event)

    def begin(self, caller: Principal, method: str, address: str, request: Message) -> Event | None:
        """The event of a call that is audited, to be noted when that is `done`. Until then it is
        what `audited` stores."""
        rule = AUDITED.get(_name(method))
        if rule is None or not rule.when(request):
            return None
        event = _event(_name(method), caller, address)
        event.target_id = _at(rule.target, "request", request)
        event.account_id = _at(rule.account, "request", request) or event.account_id
        audit.current.set(event)
        return event

    def done(self, event: Event, response: Message | None) -> None:
        """Notes that a call did what it was for; without a response its caller has gone."""
        if event.is_void:
            return
        rule = AUDITED[event.action]
        if response is not None:
            event.target_id = event.target_id or _at(rule.target, "response", response)
            event.account_id = event.account_id or _at(rule.account, "response", response)
        self.note(event)

    def note(self, event: Event) -> None:
        """Notes what was done, and has it stored if that is not done yet."""
        log.info("audit", **{name: value for name, value in event.fields().items() if value})
        if event.is_added:
            return
        if len(self._waiting) >= _MAX_WAITING:
            self._lost += 1
            return
        self._waiting.append(event)
        self._has_waiting.set()

    # --- keeping it ---------------------------------------------------------------------------

    async def _store_soon(self) -> None:
        await self._has_waiting.wait()
        await asyncio.sleep(_GATHERED)
        await self._store()

    async def _store(self) -> None:
        while batch := self._waiting[:_STORED_AT_ONCE]:
            try:
                await self._db.write(EVERY_ACCOUNT, audit.add, batch)
            except DatabaseUnavailable:
                raise
            except Exception:  # those behind them must not wait for ever
                log.exception("audit events not stored", count=len(batch))
            del self._waiting[: len(batch)]
        self._has_waiting.clear()
        if self._lost:
            log.warning("audit events not stored", count=self._lost)
            self._lost = 0

    async def _sweep(self) -> None:
        while await self._db.write(EVERY_ACCOUNT, audit.sweep, self._kept):
            pass
        await asyncio.sleep(_SWEEP_INTERVAL)

    async def _forever(self, work: Callable[[], Any]) -> None:
        while True:
            try:
                await work()
            except DatabaseUnavailable:
                log.warning("database is away", work="audit")
                await asyncio.sleep(_GATHERED)
            except Exception:
                log.exception("upkeep failed", work="audit")
                await asyncio.sleep(_GATHERED)


class _News:
    """Says what happens for the first time in a period, within bounds."""

    def __init__(self, most: int) -> None:
        """`most` is how many there may be in a period."""
        self._most = most
        self._until = 0.0
        self._known: set[Hashable] = set()
        self._by_subject: Counter[str] = Counter()

    def is_new(self, subject: str, *what: str) -> bool:
        """Whether this is the first time, of which `subject` has not had too many."""
        now = time.monotonic()
        if now >= self._until:
            self._until = now + _PERIOD
            self._known.clear()
            self._by_subject.clear()
        key = (subject, *what)
        if key in self._known:
            return False
        if len(self._known) >= self._most or self._by_subject[subject] >= _EACH:
            return False
        self._known.add(key)
        self._by_subject[subject] += 1
        return True


def actor_of(caller: Principal) -> str:
    """What kind of caller it is, as AuditEvent.actor has it."""
    if caller.is_platform or caller.is_provisioning:
        return "platform" if caller.is_platform else "provisioning"
    return caller.role.name.lower()


def _event(action: str, caller: Principal, address: str) -> Event:
    actor = actor_of(caller)
    return Event(
        action,
        account_id=caller.account_id,
        actor=actor,
        # A service's key has the account's default user, who is nobody.
        user_id="" if actor == "service" else caller.user_id,
        api_key_id=caller.key_id,
        address=address,
    )


def _name(method: str) -> str:
    return method.rpartition("/")[2]


def _at(path: str, whose: str, message: Message) -> str:
    """The id at a path of this message, as it is stored; empty where the path is of another."""
    beginning, *names = path.split(".")
    if beginning != whose:
        return ""
    found: Any = message
    for name in names:
        found = getattr(found, name)
    return str(found).lower()

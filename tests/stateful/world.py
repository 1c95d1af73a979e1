"""Processes without a clock, a network or a loop: each step of what they do is taken by hand.

What a process holds in memory is the server's own (`LiveReply`, `Feeds`, `Watcher` and the service
that streams), and its transactions are the repository's. What is played is time, the bus, and who
gets to run: a process that is stopped does nothing, one that crashed has forgotten everything.
"""

from __future__ import annotations

import asyncio
import json
from asyncio.events import _set_running_loop
from collections.abc import Callable, Coroutine, Generator
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from colloquy.api import conversation_service_pb2 as api
from colloquy_server.api.access import Principal, principal
from colloquy_server.api.conversations import ConversationService
from colloquy_server.context.builder import ContextBuilder
from colloquy_server.context.token_estimates import TokenEstimates
from colloquy_server.database.repository.changes import Change, Transition
from colloquy_server.database.repository.deletion import Deletion
from colloquy_server.database.repository.history import History
from colloquy_server.database.repository.leases import Outcome
from colloquy_server.database.repository.quotas import NO_LIMITS
from colloquy_server.database.repository.sending import Choice, Sent
from colloquy_server.database.rows import MessageRow
from colloquy_server.database.transactions import Database, Scope, Session, commit
from colloquy_server.errors import ColloquyError, Unavailable
from colloquy_server.providers.models import Model, Provider
from colloquy_server.replies.admission import Started
from colloquy_server.replies.bus import Bus, Event, Handler
from colloquy_server.replies.executor import keep_for_next
from colloquy_server.replies.feeds import Feeds
from colloquy_server.replies.live_reply import LiveReply
from sqlalchemy import Engine

P = ParamSpec("P")
T = TypeVar("T")

MODEL = Model("test-model", Provider("double"), frozenset(), 100_000, 1_000, 0, 0)

MAX_INBOX = 12
"""Events of the bus that wait for a process; older ones are lost."""


class Pause:
    """Where a coroutine lets others run."""

    def __await__(self) -> Generator[Pause, None, None]:
        yield self


class SteppedDatabase(Database):
    """Runs transactions at once, here."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.lingers = False
        """Whether a read gives others a chance before its reader sees what it read."""

    async def read(
        self,
        scope: Scope,
        fn: Callable[Concatenate[Session, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        result = self.run(scope, fn, *args, **kwargs)
        if self.lingers:
            await Pause()
        return result

    async def write(
        self,
        scope: Scope,
        fn: Callable[Concatenate[Session, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return self.run(scope, fn, *args, **kwargs)

    write_first = write

    def run(
        self,
        scope: Scope,
        fn: Callable[Concatenate[Session, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """One transaction."""
        with self.engine.connect() as connection:
            return commit(connection, scope, lambda s: fn(s, *args, **kwargs))

    async def erase_deleted(self) -> bool:
        return True

    async def close(self) -> None:
        """Nothing is open."""


class SteppedBus(Bus):
    """One process's end of a bus on which events wait until somebody delivers or loses them."""

    def __init__(self, publish: Callable[[Event], None]) -> None:
        self._publish = publish
        self.inbox: list[Event] = []
        self._handlers: list[Handler] = []

    def publish(self, event: Event) -> None:
        self._publish(event)

    def subscribe(self, handler: Handler) -> None:
        self._handlers.append(handler)

    def arrive(self, event: Event) -> None:
        self.inbox.append(event)
        del self.inbox[:-MAX_INBOX]

    def deliver(self, event: Event) -> None:
        for handler in self._handlers:
            handler(event)


class Stepper:
    """Runs a coroutine on no loop, as far as it goes."""

    def __init__(
        self,
        work: Coroutine[Any, Any, Any],
        loop: asyncio.AbstractEventLoop,
        caller: Principal | None = None,
    ) -> None:
        """`caller` is who calls, if that is not who does in the test."""
        self._work = work
        self._loop = loop
        self._context = copy_context()
        if caller is not None:
            self._context.run(principal.set, caller)
        self.result: Any = None
        self._waits_for: asyncio.Future[Any] | None = None
        self.is_done = False
        self.error: ColloquyError | None = None

    def run(self) -> None:
        """Up to the next pause, or until it waits for something."""
        if self.is_done or (self._waits_for is not None and not self._waits_for.done()):
            return
        _set_running_loop(self._loop)
        try:
            waits_for = self._context.run(self._work.send, None)
        except StopIteration as end:
            self.is_done, self.result = True, end.value
        except ColloquyError as error:
            self.is_done, self.error = True, error
        else:
            self._waits_for = waits_for if isinstance(waits_for, asyncio.Future) else None
        finally:
            _set_running_loop(None)

    @property
    def can_run(self) -> bool:
        return not self.is_done and (self._waits_for is None or self._waits_for.done())

    def close(self) -> None:
        """Goes away."""
        self._work.close()
        self.is_done = True


@dataclass
class Writing:
    """A gRPC call's side of the server: takes events as far as the client reads."""

    take: Callable[[api.ConversationEvent], None]
    room: int = 0

    async def write(self, data: bytes) -> None:
        while self.room <= 0:
            await Pause()
        self.room -= 1
        self.take(api.WatchConversationResponse.FromString(data).event)


@dataclass
class Flight:
    """Something a process has begun: a transaction that is to be committed, then what the process
    makes of its result. In between anything may happen."""

    commit: Callable[[], Callable[[], None]]
    is_upkeep: bool = False
    """Whether it is a checkpoint or a renewal, which a shutdown does not wait for."""
    land: Callable[[], None] | None = None

    def step(self) -> bool:
        """Goes on by one half; whether it is through."""
        if self.land is None:
            self.land = self.commit()
            return False
        self.land()
        return True


@dataclass(eq=False)
class Owner:
    """A reply that a process owns, and where its provider stands."""

    reply: LiveReply
    has_begun: bool
    """Whether what the provider says next belongs to the attempt in memory."""
    is_told: bool = False
    """Whether it was told to cancel."""
    is_busy: bool = False
    """Whether it waits for a transaction of its own."""


class Process:
    """One server process."""

    def __init__(
        self,
        name: str,
        engine: Engine,
        publish: Callable[[Process, Event], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.name = name
        self.is_stopped = False
        self.db = SteppedDatabase(engine)
        self.bus = SteppedBus(lambda event: publish(self, event))
        self.feeds = Feeds(self.db, self.bus)
        self.contexts = ContextBuilder(self.db, cast(Any, None), TokenEstimates())
        self.owners: dict[str, Owner] = {}
        self.flights: list[Flight] = []
        self.is_saving = False
        """Whether a checkpoint is under way."""
        self._loop = loop
        nothing = cast(Any, None)
        self._service = ConversationService(
            self.db, nothing, self.feeds, nothing, nothing, 15.0, NO_LIMITS
        )
        self.bus.subscribe(self._on_event)

    # --- owning -------------------------------------------------------------------------------

    def launch(self, row: MessageRow) -> None:
        """Begins to generate a reply that this process now owns."""
        before = self.owners.get(row.id)
        if before is not None:
            self.fence(before)
        is_new = row.epoch == 1
        reply = LiveReply.of(row, 0.0, is_new=is_new)
        self.owners[row.id] = Owner(reply, has_begun=is_new)
        self.feeds.live[row.conversation_id] = reply

    def choose(self, account_id: str, *_: object) -> Choice:
        """Whom a prompt is for, and how to read what that model may know."""
        return Choice(MODEL.id, self.contexts.reader(account_id, MODEL))

    def ask(
        self, account_id: str, message_id: str, known: History | None = None
    ) -> list[tuple[str, str]]:
        """Asks the provider for a reply that this process owns; returns what it is told, but for
        what it is told by us. Raises Fenced."""
        self.db.lingers = False
        stepper = Stepper(self.contexts.build(account_id, message_id, MODEL, known), self._loop)
        while not stepper.is_done:
            stepper.run()
        owner = self.owners.get(message_id)
        if owner is not None:
            owner.reply.request = stepper.result
        told = json.loads(stepper.result.messages)
        return [(said["role"], said["content"]) for said in told if said["role"] != "system"]

    def keep(self, owner: Owner, ended: Transition, outcome: Outcome) -> None:
        """Keeps what a reply that has ended was made of."""
        keep_for_next(self.contexts, owner.reply, ended, outcome)

    def forget(self, deleted: Deletion) -> None:
        """Passes on what its own transaction deleted."""
        for message_id in deleted.live:
            self.bus.publish({"kind": "cancel", "message": message_id})
            if owner := self.owners.get(message_id):
                self.fence(owner)
        self.feeds.apply(deleted.change)
        self.contexts.forget(deleted.change.conversation_id)

    def fence(self, owner: Owner) -> None:
        """Lets go of a reply."""
        reply = owner.reply
        if self.owners.get(reply.message_id) is owner:
            del self.owners[reply.message_id]
        if self.feeds.live.get(reply.conversation_id) is reply:
            del self.feeds.live[reply.conversation_id]

    def show(self, owner: Owner) -> None:
        """Lets watchers see what came, here and elsewhere."""
        reply = owner.reply
        reply.publish()
        self._send(reply, reply.mirrored)
        self.feeds.wake(reply.conversation_id)

    def _send(self, reply: LiveReply, offset: int) -> None:
        text = reply.text[offset:]
        if text:
            self.bus.publish(
                {
                    "kind": "text",
                    "conversation": reply.conversation_id,
                    "message": reply.message_id,
                    "attempt": reply.attempt,
                    "offset": offset,
                    "text": text,
                }
            )
        reply.mirrored = len(reply.text)

    def _on_event(self, event: Event) -> None:
        if event["kind"] == "deleted" or event.get("erases"):
            self.contexts.forget(event["conversation"])
        owner = self.owners.get(event.get("message", ""))
        if owner is None:
            return
        if event["kind"] == "cancel":
            owner.is_told = True
        elif event["kind"] == "want":
            is_same = event["attempt"] == owner.reply.attempt
            offset = min(event["offset"], len(owner.reply.text)) if is_same else 0
            self._send(owner.reply, offset)

    def known(self, conversation_id: str, message_id: str) -> tuple[str, int]:
        """The text of a live reply that watchers here may have seen, and its attempt."""
        live = self.feeds.live.get(conversation_id)
        if live is None or live.message_id != message_id:
            return "", 0
        return live.text, live.attempt

    # --- watching -----------------------------------------------------------------------------

    def stream(self, caller: Principal, sent: Sent, writing: Writing) -> Stepper:
        """The stream of a send or a regenerate."""
        started = Started(sent, self.feeds.open_at(caller.account_id, sent.change))
        work = self._service._stream_reply(started, cast(Any, writing))
        return Stepper(work, self._loop, caller)

    def watch(
        self, caller: Principal, conversation_id: str, token: str, writing: Writing
    ) -> Stepper:
        """The stream of a watch."""
        request = api.WatchConversationRequest(conversation_id=conversation_id, resume_token=token)
        work = self._service.WatchConversation(request, cast(Any, writing))
        return Stepper(work, self._loop, caller)

    def poll(self) -> None:
        """Looks for what the bus lost."""
        stepper = Stepper(self.feeds.poll(), self._loop)
        self.db.lingers = False
        while not stepper.is_done:
            stepper.run()

    def apply(self, change: Change) -> None:
        """Learns what its own transaction changed."""
        self.feeds.apply(change)

    def end_streams(self) -> None:
        """Shuts down."""
        self.feeds.end_streams(Unavailable())

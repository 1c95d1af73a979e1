"""The actors of a reply's life, played against each other in any order.

Several processes share a database. Each rule is a step of one actor; where the server awaits
something in between, a rule may leave its second half for later (`Flight`). After every step the
rows must be what the model says, and whatever clients are sent must be true.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeVar

from colloquy_server.api import convert
from colloquy_server.api.access import Principal, principal
from colloquy_server.database.models import (
    MICROS,
    CancelWish,
    Conversation,
    KeyRole,
    Message,
    Period,
    Reservation,
    Role,
    State,
    Unit,
    Visibility,
    db_now,
)
from colloquy_server.database.repository import (
    access,
    budgets,
    cancellation,
    conversations,
    deletion,
    feed,
    leases,
    messages,
    participants,
    queue,
    sending,
    titles,
)
from colloquy_server.database.repository.changes import Change, Fenced, Lease, Transition
from colloquy_server.database.repository.conversations import NewConversation
from colloquy_server.database.repository.deletion import Deletion
from colloquy_server.database.repository.leases import RELEASED, Checkpoint, Outcome
from colloquy_server.database.repository.sending import OnBusy, Prompt, Sent
from colloquy_server.database.repository.users import Author
from colloquy_server.database.transactions import EVERY_ACCOUNT, Viewer
from colloquy_server.errors import ColloquyError
from colloquy_server.replies.bus import Event
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import Engine, Select, Table, bindparam, case, select, update

from tests.stateful.model import FENCED, MAX_QUEUED, Held, Model, Placed, Refused, Said, Talk
from tests.stateful.readers import Client, Truth
from tests.stateful.world import Flight, Owner, Process, SteppedDatabase

T = TypeVar("T")
U = TypeVar("U")
F = TypeVar("F", bound=Callable[..., None])

NUMBERS = st.integers(0, 1 << 10)
"""To pick one of what there is."""

PACES = st.sampled_from(("at once", "at once", "lands late", "commits late"))
REQUESTS = st.sampled_from(("", "", "", "a", "b"))
WORDS = st.sampled_from(("x", "é", "\U0001f600!", "\n"))

OPTIONAL = st.sampled_from(
    (
        "regenerate",
        "cancel",
        "cancel_request",
        "change",
        "interrupt",
        "lease_ends",
        "provider_fails",
        "delete_message",
        "audience",
        "delete_user",
    )
)

WHO = st.sampled_from((0, 0, 1, 2))
"""Who calls: 0 is a service, the others are two members."""

_TTL = 3_600 * MICROS
_MAX_OPEN = 6


def pick(things: Sequence[T], number: int) -> T:
    return things[number % len(things)]


@dataclass(frozen=True)
class Action:
    """Something that can happen: how often, when, and with what."""

    name: str
    weight: int
    is_possible: Callable[[ReplyMachine], object]
    arguments: st.SearchStrategy[dict[str, Any]]


ACTIONS: list[Action] = []


def action(
    weight: int,
    is_possible: Callable[[ReplyMachine], object],
    **arguments: st.SearchStrategy[Any],
) -> Callable[[F], F]:
    """Has the machine play this method. Hypothesis' own rules come all equally often, and so most
    lives would be short: a start here, a look there, and hardly a word."""

    def register(method: F) -> F:
        ACTIONS.append(
            Action(method.__name__, weight, is_possible, st.fixed_dictionaries(arguments))
        )
        return method

    return register


class ReplyMachine(RuleBasedStateMachine):
    """See the module."""

    engine: ClassVar[Engine]

    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        possible = [
            action
            for action in ACTIONS
            if action.name not in self.absent and action.is_possible(self)
            for _ in range(action.weight)
        ]
        chosen = data.draw(st.sampled_from(possible), "action")
        arguments = data.draw(chosen.arguments, "arguments")
        shown = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        note(f"state.{chosen.name}({shown})")
        self.played.append((chosen.name, arguments))
        getattr(self, chosen.name)(**arguments)

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.db = SteppedDatabase(self.engine)
        self.truth = Truth()
        self.over: set[tuple[str, int]] = set()
        """Replies and epochs whose lease ran out by their owner's own clock."""
        self.clients: list[Client] = []
        self.names = 0
        self.setup: dict[str, int] = {}
        self.rows: dict[str, Said] = {}
        self.is_checked = True
        """Whether nothing was written since the rows were compared with the model."""
        self.played: list[tuple[str, dict[str, Any]]] = []
        """What was done, as `orders.Order` has it."""

    @initialize(
        processes=st.integers(2, 3),
        per_account=st.integers(1, 2),
        absent=st.sets(OPTIONAL),
        private=st.integers(0, 2),
    )
    def begin(self, processes: int, per_account: int, absent: set[str], private: int = 0) -> None:
        """`absent` is what does not happen this time; so many conversations are a member's own."""
        self.setup = {"processes": processes, "per_account": per_account, "private": private}
        self.absent = absent
        account = self.db.run(EVERY_ACCOUNT, access.create_account, "stateful", None)
        self.account_id = account.id
        limited = (account.id, "", "", "", Period.MONTH, Unit.REPLIES, 1e9, list)
        self.db.run(EVERY_ACCOUNT, budgets.set_budget, *limited)
        self._principal = principal.set(Principal(account_id=account.id))
        self.lease = Lease(_TTL, per_account)
        self.people = ["", *(self.new_person() for _ in range(2))]
        talks = []
        for number in range(2):
            creator, is_open = (self.people[1], False) if number < private else ("", True)
            new = NewConversation("", "", None, None, "", Author(creator), Visibility(2 - is_open))
            made = self.db.run(
                self.account_id, conversations.create, self.account_id, new, lambda: "test-model"
            )
            creator = creator or account.default_user_id
            talks.append(Talk(made.id, creator=creator, is_open=is_open))
        self.model = Model(talks, per_account, account.default_user_id)
        self.processes = [self.new_process(name) for name in "PQR"[:processes]]

    def new_process(self, name: str) -> Process:
        return Process(name, self.engine, self.publish, self.loop)

    def new_person(self) -> str:
        self.names += 1
        author = Author(external_id=f"person {self.names}")
        return self.db.run(self.account_id, access.keep_user, self.account_id, author).id

    def caller(self, who: int) -> Principal:
        role = KeyRole.MEMBER if who else KeyRole.SERVICE
        return Principal(self.account_id, role=role, user_id=self.people[who])

    def publish(self, sender: Process, event: Event) -> None:
        for process in self.processes:
            if process is not sender:
                process.bus.arrive(event)

    # --- what there is ------------------------------------------------------------------------

    @property
    def awake(self) -> list[Process]:
        return [process for process in self.processes if not process.is_stopped]

    @property
    def talks(self) -> list[Talk]:
        return [talk for talk in self.model.talks.values() if not talk.is_deleted]

    def owners(self, *, told: bool | None = None) -> list[tuple[Process, Owner]]:
        """Owners that can do something now."""
        return [
            (process, owner)
            for process in self.awake
            for owner in process.owners.values()
            if not owner.is_busy and told in (None, owner.is_told)
        ]

    def live(self, *held: Held) -> list[Said]:
        return [said for said in self.model.replies if said.is_live and said.held in held]

    @property
    def readable(self) -> list[Client]:
        return [c for c in self.clients if c.is_open and not c.process.is_stopped]

    def is_over(self, owner: Owner) -> bool:
        return (owner.reply.message_id, owner.reply.epoch) in self.over

    def new_text(self, process: Process, word: str) -> str:
        """Text that nobody else writes."""
        self.names += 1
        return f"{process.name}{self.names}{word}"

    # --- transactions -------------------------------------------------------------------------

    def both(self, real: Callable[[], T], ideal: Callable[[], U]) -> tuple[T, U] | None:
        """Runs a transaction and what the model says of it; None when both refuse, alike."""
        refused = expected = None
        self.is_checked = False
        result: T
        try:
            result = real()
        except ColloquyError as error:
            refused = error.reason
        except Fenced:
            refused = FENCED
        said: U
        try:
            said = ideal()
        except Refused as error:
            expected = error.reason
        assert refused == expected, f"refused: {refused}, expected: {expected}"
        return None if refused else (result, said)

    def run(self, process: Process, flight: Flight, pace: str) -> None:
        """Begins a step of a process, and takes it as far as `pace` says."""
        if pace != "commits late":
            flight.step()
        if pace == "at once":
            flight.step()
        else:
            process.flights.append(flight)

    # --- asking -------------------------------------------------------------------------------

    def place(
        self,
        process: Process,
        real: Callable[[Lease | None], Sent],
        ideal: Callable[[bool], Placed],
        *,
        has_place: bool,
        listens: bool,
        pace: str,
        who: int = 0,
    ) -> None:
        caller = self.caller(who)

        def commit() -> Callable[[], None]:
            done = self.both(
                lambda: real(self.lease if has_place else None), lambda: ideal(has_place)
            )
            if done is None:
                return nothing
            sent, placed = done
            if placed.is_new:
                placed.prompt.id, placed.reply.id = sent.prompt.id, sent.reply.id
                placed.reply.reply_to = sent.prompt.id
                self.note_ends()
            assert (sent.prompt.id, sent.reply.id) == (placed.prompt.id, placed.reply.id)
            assert sent.owned == placed.owned
            assert (sent.interrupted.id if sent.interrupted else None) == placed.interrupted
            given = self.model.given(placed.reply.id) if sent.owned else []

            def land() -> None:
                client = Client(
                    self.truth, caller, process, placed.prompt.conversation, sent.change.version
                )
                client.is_only = True
                client.stepper = process.stream(caller, sent, client.writing)
                self.clients.append(client)
                if sent.owned:
                    process.launch(sent.reply)
                    if sent.history is None:
                        self.ask(process, sent.reply.id)
                    else:  # it was read when the prompt was stored
                        assert given == process.ask(self.account_id, sent.reply.id, sent.history), (
                            "another history"
                        )
                if sent.interrupted is not None:
                    self.tell(process, sent.interrupted.id)
                if not listens:
                    client.read(1, lingers=False)
                    client.close()

            return land

        self.run(process, Flight(commit), pace)

    @action(
        5,
        lambda self: self.talks and sum(len(talk.queue) for talk in self.talks) < 5,
        p=NUMBERS,
        t=NUMBERS,
        words=st.sampled_from(("Hi", "Ho")),
        request=REQUESTS,
        on_busy=st.sampled_from((1, 1, 1, 2, 3, 3)),
        has_place=st.sampled_from((True, True, True, False)),
        listens=st.booleans(),
        pace=PACES,
        who=WHO,
    )
    def send(
        self,
        p: int,
        t: int,
        words: str,
        request: str,
        on_busy: int,
        has_place: bool,
        listens: bool,
        pace: str,
        who: int = 0,
    ) -> None:
        conversation_id = pick(self.talks, t).id
        process, member = pick(self.awake, p), self.people[who]
        scope, author = self.caller(who).scope, Author(member)
        prompt = Prompt(conversation_id, words, author, request or None, OnBusy(on_busy))

        self.place(
            process,
            lambda lease: self.db.run(
                scope,
                sending.send,
                self.account_id,
                prompt,
                lambda *_: process.choose(self.account_id),
                lease,
                MAX_QUEUED,
            ),
            lambda has_place: self.model.send(
                conversation_id,
                words,
                request or None,
                OnBusy(on_busy),
                has_place=has_place,
                member=member,
            ),
            has_place=has_place,
            listens=listens,
            pace=pace,
            who=who,
        )

    @action(
        1,
        lambda self: self.model.replies,
        p=NUMBERS,
        n=NUMBERS,
        request=REQUESTS,
        has_place=st.booleans(),
        listens=st.booleans(),
        pace=PACES,
    )
    def regenerate(
        self, p: int, n: int, request: str, has_place: bool, listens: bool, pace: str
    ) -> None:
        said = pick(self.model.replies, n)
        process = pick(self.awake, p)

        self.place(
            process,
            lambda lease: self.db.run(
                self.account_id,
                sending.regenerate,
                self.account_id,
                said.id,
                "",
                request or None,
                lambda *_: process.choose(self.account_id),
                lease,
                MAX_QUEUED,
            ),
            lambda has_place: self.model.regenerate(said.id, request or None, has_place=has_place),
            has_place=has_place,
            listens=listens,
            pace=pace,
        )

    @action(
        2,
        lambda self: self.model.replies,
        p=NUMBERS,
        n=NUMBERS,
        pace=PACES,
    )
    def cancel(self, p: int, n: int, pace: str) -> None:
        unfinished = [said for said in self.model.replies if not said.has_ended]
        said = pick(unfinished or self.model.replies, n)
        process = pick(self.awake, p)

        def commit() -> Callable[[], None]:
            done = self.both(
                lambda: self.db.run(self.account_id, cancellation.cancel, said.id),
                lambda: self.model.cancel(said.id),
            )
            return self.cancelled(process, *done) if done else nothing

        self.run(process, Flight(commit), pace)

    @action(
        1,
        lambda self: self.talks,
        p=NUMBERS,
        t=NUMBERS,
        request=st.sampled_from("ab"),
        is_old=st.sampled_from((False, False, True)),
        pace=PACES,
    )
    def cancel_request(self, p: int, t: int, request: str, is_old: bool, pace: str) -> None:
        """`is_old`: what came of it is a wish that is too old by the next request."""
        conversation_id = pick(self.talks, t).id
        process = pick(self.awake, p)

        def commit() -> Callable[[], None]:
            done = self.both(
                lambda: self.db.run(
                    self.account_id,
                    cancellation.cancel_request,
                    self.account_id,
                    conversation_id,
                    request,
                ),
                lambda: self.model.cancel_request(conversation_id, request),
            )
            if is_old and done and done[1] is None:
                self.outdate(conversation_id, request)
            return self.cancelled(process, *done) if done else nothing

        self.run(process, Flight(commit), pace)

    def outdate(self, conversation_id: str, request: str) -> None:
        """Lets the time go by in which a wish is kept."""
        with self.engine.begin() as connection:
            connection.execute(
                update(CancelWish)
                .where(
                    CancelWish.conversation_id == conversation_id, CancelWish.request_id == request
                )
                .values(expire_time=db_now() - MICROS)
            )
        self.model.talks[conversation_id].wishes[request] = False

    def cancelled(
        self, process: Process, asked: cancellation.CancelResult, is_live: bool | None
    ) -> Callable[[], None]:
        assert (asked.reply is None) == (is_live is None)
        assert asked.is_live == bool(is_live)
        self.note_ends()

        def land() -> None:
            if asked.change is not None:
                process.apply(asked.change)
            if asked.reply is not None and asked.is_live:
                self.tell(process, asked.reply.id)

        return land

    def tell(self, process: Process, message_id: str) -> None:
        """Has the owner of a reply know that it is cancelled."""
        owner = process.owners.get(message_id)
        if owner is not None:
            owner.is_told = True
        else:
            process.bus.publish({"kind": "cancel", "message": message_id})

    @action(
        3,
        lambda self: any(s.cancel_requested and s.is_live for s in self.model.replies),
        p=NUMBERS,
        n=NUMBERS,
        has_place=st.booleans(),
        pace=PACES,
    )
    def force_cancel(self, p: int, n: int, has_place: bool, pace: str) -> None:
        said = pick([s for s in self.model.replies if s.cancel_requested and s.is_live], n)
        process = pick(self.awake, p)
        known, attempt = process.known(said.conversation, said.id)

        def commit() -> Callable[[], None]:
            done = self.both(
                lambda: self.db.run(
                    self.account_id,
                    cancellation.force_cancel,
                    said.conversation,
                    said.id,
                    self.lease if has_place else None,
                    known,
                    attempt,
                ),
                lambda: self.model.force_cancel(said.id, known, attempt, has_place=has_place),
            )
            assert done is not None
            transition, expected = done
            assert (transition is None) == (expected is None)
            if transition is None or expected is None:
                return nothing
            owned = expected.owned.id if expected.owned else None

            def land() -> None:
                self.adopt(process, transition)
                owner = process.owners.get(said.id)
                if owner is not None:
                    process.fence(owner)

            self.expect_owned(transition, owned)
            return land

        self.run(process, Flight(commit), pace)

    @action(
        1,
        lambda self: True,
        what=st.sampled_from(("rate", "rate", "name by user", "name by model", "delete")),
        p=NUMBERS,
        n=NUMBERS,
        pace=PACES,
    )
    def change(self, what: str, p: int, n: int, pace: str) -> None:
        """What has nothing to do with the generation of replies."""
        if what == "rate":
            self.rate(p, n)
        elif what == "delete":
            self.delete(p, n, pace)
        else:
            self.name(p, n, by_user=what == "name by user")

    def delete(self, p: int, t: int, pace: str) -> None:
        if len(self.talks) < 2:
            return
        conversation_id = pick(self.talks, t).id
        process = pick(self.awake, p)

        def commit() -> Callable[[], None]:
            done = self.both(
                lambda: self.db.run(self.account_id, conversations.delete, conversation_id),
                lambda: self.model.delete(conversation_id),
            )
            if done is None:
                return nothing
            deleted, expected = Deletion(*done[0]), done[1]
            assert set(deleted.live) == expected
            return lambda: process.forget(deleted)

        self.run(process, Flight(commit), pace)

    @action(
        2,
        lambda self: any(self.model.messages),
        p=NUMBERS,
        n=NUMBERS,
        who=WHO,
        pace=PACES,
    )
    def delete_message(self, p: int, n: int, who: int, pace: str) -> None:
        prompts = [said for said in self.model.messages if said.role == Role.USER]
        kept = [said for said in prompts if not said.deleted]
        said = pick([*kept, *kept, *kept, *self.model.messages], n)
        process, scope, member = pick(self.awake, p), self.caller(who).scope, self.people[who]

        def commit() -> Callable[[], None]:
            done = self.both(
                lambda: self.db.run(scope, deletion.delete_message, said.id),
                lambda: self.model.delete_message(said.id, member),
            )
            deleted, expected = done or (None, None)
            assert (deleted is None) == (expected is None)
            if deleted is None:
                return nothing
            assert set(deleted.live) == expected
            return lambda: process.forget(deleted)

        self.run(process, Flight(commit), pace)

    # --- people -------------------------------------------------------------------------------

    @action(
        1,
        lambda self: self.talks,
        what=st.sampled_from(("open", "close", "close", "invite", "remove", "remove")),
        p=NUMBERS,
        t=NUMBERS,
        who=WHO,
        whom=st.sampled_from((1, 2)),
        pace=PACES,
    )
    def audience(self, what: str, p: int, t: int, who: int, whom: int, pace: str) -> None:
        """Somebody changes who sees a conversation."""
        process, scope, member = pick(self.awake, p), self.caller(who).scope, self.people[who]
        talk_id, user, is_open = pick(self.talks, t).id, self.people[whom], what == "open"

        def real() -> Change:
            if what == "invite":
                return self.db.run(
                    scope, participants.add, talk_id, [Author(user)], may_rename=False
                )
            if what == "remove":
                return self.db.run(scope, participants.remove, talk_id, user)[0]
            values = {"visibility": Visibility(2 - is_open)}
            return self.db.run(scope, conversations.change, talk_id, values)

        def ideal() -> None:
            if what == "invite":
                self.model.invite(talk_id, member, user)
            elif what == "remove":
                self.model.remove(talk_id, member, user)
            else:
                self.model.show_to_all(talk_id, member, is_open=is_open)

        def commit() -> Callable[[], None]:
            done = self.both(real, ideal)
            return (lambda: process.apply(done[0])) if done else nothing

        self.run(process, Flight(commit), pace)

    @action(
        1,
        lambda self: len(self.model.leaving) < 2,
        whom=st.sampled_from((1, 2)),
    )
    def delete_user(self, whom: int) -> None:
        """A person goes, and somebody else comes."""
        user = self.people[whom]
        self.db.run(EVERY_ACCOUNT, deletion.begin_leaving, user)
        self.model.leaving.append(user)
        self.model.gone.add(user)
        self.people[whom] = self.new_person()

    @action(
        4,
        lambda self: self.model.leaving,
        p=NUMBERS,
        n=NUMBERS,
        pace=PACES,
    )
    def erase(self, p: int, n: int, pace: str) -> None:
        """A part of what is left of a person who goes."""
        user = pick(self.model.leaving, n)
        found = self.db.run(self.account_id, deletion.conversation_of, user)
        left = [talk.id for talk in self.talks if self.model.has_part_in(talk, user)]
        assert (found in left) if left else found is None
        if found is None:
            assert self.db.run(self.account_id, deletion.finish_leaving, user)
            self.model.leaving.remove(user)
            return
        process = pick(self.awake, p)

        def commit() -> Callable[[], None]:
            done = self.both(
                lambda: self.db.run(self.account_id, deletion.delete_said, found, user),
                lambda: self.model.delete_said(found, user),
            )
            if done is None:
                return nothing
            deleted, expected = done
            assert set(deleted.live) == expected
            return lambda: process.forget(deleted)

        self.run(process, Flight(commit), pace)

    @action(
        1,
        lambda self: True,
        who=st.sampled_from((1, 2)),
    )
    def look(self, who: int) -> None:
        """A member sees what the model says, and nothing else."""
        scope, member = self.caller(who).scope, self.people[who]
        seen = [talk for talk in self.talks if talk.is_seen_by(member)]
        listed = self.db.run(scope, conversations.page, limit=10, after=None, participant=None)
        assert {row.id for row in listed} == {talk.id for talk in seen}
        for talk in self.model.talks.values():
            rows, _ = self.db.run(
                scope,
                messages.page,
                talk.id,
                limit=1 << 10,
                max_bytes=1 << 20,
                shape=lambda row: (row.content, 0),
                after=0,
            )
            told = [(row.id, text) for row, text in rows]
            assert told == [(said.id, said.content) for said in talk.kept if talk in seen]
            self.both(
                partial(self.db.run, scope, feed.snapshot, talk.id),
                partial(self.model.talk, talk.id, member),
            )

    def rate(self, p: int, n: int) -> None:
        if not self.model.replies:
            return
        said = pick(self.model.replies, n)
        rating = (said.rating + 1) % 3
        done = self.both(
            lambda: self.db.run(
                self.account_id, messages.rate, self.account_id, said.id, rating, "", Author()
            ),
            lambda: self.model.rate(said.id, rating),
        )
        if done is not None:
            pick(self.awake, p).apply(done[0][0])

    def name(self, p: int, t: int, by_user: bool) -> None:
        if not self.talks:
            return
        process, conversation_id = pick(self.awake, p), pick(self.talks, t).id
        title = self.new_text(process, " named")
        said = self.model.talks[conversation_id].messages
        if not (said or by_user):
            return  # there is nothing yet to name it after

        def real() -> Change | None:
            if by_user:
                return self.db.run(
                    self.account_id, conversations.change, conversation_id, {"title": title}
                )
            exchange = titles.Exchange(said[0].id, said[0].content, "")
            return self.db.run(
                self.account_id, titles.set_title, conversation_id, title, exchange, ()
            )

        prompt = None if by_user else said[0]
        done = self.both(real, lambda: self.model.name(conversation_id, title, prompt=prompt))
        assert done is not None
        change, is_set = done
        assert (change is not None) == is_set
        if change is not None:
            process.apply(change)

    # --- generating -------------------------------------------------------------------------------

    def adopt(self, process: Process, transition: Transition) -> None:
        process.apply(transition.change)
        if transition.owned is not None:
            process.launch(transition.owned)
            self.ask(process, transition.owned.id)

    def ask(self, process: Process, message_id: str) -> None:
        """A process that came to own a reply asks the provider: it is told what is there, and
        nothing that is deleted."""
        done = self.both(
            lambda: process.ask(self.account_id, message_id),
            lambda: self.model.given(message_id),
        )
        if done is None:
            process.fence(process.owners[message_id])
        else:
            assert done[0] == done[1], "another history"

    def expect_owned(self, transition: Transition, message_id: str | None) -> None:
        assert (transition.owned.id if transition.owned else None) == message_id
        self.note_ends()

    def note_ends(self) -> None:
        """Whatever has ended by now stays as it is."""
        for said in self.model.replies:
            if said.has_ended and not said.deleted:
                self.truth.ended.setdefault(said.id, (said.state, said.attempt, said.content))
                self.truth.show(said.id, said.attempt, said.content)

    @action(
        4,
        lambda self: any(talk.queue for talk in self.talks),
        p=NUMBERS,
        t=NUMBERS,
        pace=PACES,
    )
    def start(self, p: int, t: int, pace: str) -> None:
        conversation_id = pick([talk for talk in self.talks if talk.queue], t).id
        startable = self.db.run(EVERY_ACCOUNT, queue.startable, 1 << 10, self.lease.per_account)
        mine = [talk_id for account_id, talk_id in startable if account_id == self.account_id]
        free = {talk.id for talk in self.talks if talk.queue and not talk.live}
        assert free.issuperset(mine)
        assert len(mine) == min(len(free), self.model.room)
        process = pick(self.awake, p)

        def commit() -> Callable[[], None]:
            done = self.both(
                lambda: self.db.run(self.account_id, queue.start, conversation_id, self.lease),
                lambda: self.model.start(conversation_id),
            )
            assert done is not None
            transition, said = done
            if transition is None:
                assert said is None
                return nothing
            self.expect_owned(transition, said.id if said else None)
            return lambda: self.adopt(process, transition)

        self.run(process, Flight(commit), pace)

    @action(
        16,
        lambda self: self.owners(told=False),
        n=NUMBERS,
        word=WORDS,
        is_shown=st.booleans(),
        is_twice=st.booleans(),
        pace=PACES,
    )
    def text_comes(self, n: int, word: str, is_shown: bool, is_twice: bool, pace: str) -> None:
        process, owner = pick(self.owners(told=False), n)
        text = self.new_text(process, word)
        if not owner.has_begun:
            self.begin_attempt(process, owner, text, is_twice=is_twice, pace=pace)
            return
        owner.reply.pending.append(text)
        if is_shown or not owner.reply.text:
            self.show(process, owner)

    def show(self, process: Process, owner: Owner) -> None:
        if self.is_over(owner):
            process.fence(owner)
            return
        process.show(owner)
        self.truth.show(owner.reply.message_id, owner.reply.attempt, owner.reply.text)

    def begin_attempt(
        self, process: Process, owner: Owner, text: str, *, is_twice: bool = False, pace: str
    ) -> None:
        """`is_twice`: the database did it, but the connection broke before it could say so."""
        reply = owner.reply
        owner.is_busy = True

        def once() -> tuple[Transition, Said] | None:
            done = self.both(
                lambda: self.db.run(
                    self.account_id,
                    leases.begin_attempt,
                    reply.conversation_id,
                    reply.message_id,
                    reply.epoch,
                    text,
                    reply.asked_model,
                ),
                lambda: self.model.begin_attempt(reply.message_id, reply.epoch, text),
            )
            if done:
                self.truth.show(done[1].id, done[1].attempt, text)
            return done

        def commit() -> Callable[[], None]:
            done = once()
            if done and is_twice:
                done = once()
            if done is None:
                return lambda: process.fence(owner)
            transition = done[0]

            def land() -> None:
                assert transition.owned is not None
                owner.is_busy, owner.has_begun = False, True
                reply.begin(transition.owned.attempt, text)
                process.apply(transition.change)

            return land

        self.run(process, Flight(commit), pace)

    @action(
        2,
        lambda self: self.owners(),
        n=NUMBERS,
    )
    def provider_fails(self, n: int) -> None:
        _, owner = pick(self.owners(), n)
        owner.has_begun = False

    @action(
        4,
        lambda self: self.owners(),
        n=NUMBERS,
        state=st.sampled_from((3, 3, 4)),
        has_place=st.booleans(),
        is_twice=st.booleans(),
        pace=PACES,
    )
    def finish(self, n: int, state: int, has_place: bool, is_twice: bool, pace: str) -> None:
        process, owner = pick(self.owners(), n)
        if owner.is_told:
            state = State.CANCELLED
        if state == State.COMPLETED and not owner.has_begun:
            self.begin_attempt(process, owner, "", pace=pace)
        else:
            self.end(
                process, owner, State(state), has_place=has_place, is_twice=is_twice, pace=pace
            )

    def end(
        self,
        process: Process,
        owner: Owner,
        state: State,
        *,
        has_place: bool,
        is_twice: bool = False,
        pace: str,
    ) -> None:
        reply = owner.reply
        content = reply.whole_text()
        owner.is_busy = True

        def once() -> tuple[Transition, Said | None] | None:
            return self.both(
                lambda: self.db.run(
                    self.account_id,
                    leases.finish,
                    reply.conversation_id,
                    reply.message_id,
                    reply.epoch,
                    Outcome(state, content),
                    self.lease if has_place else None,
                ),
                lambda: self.model.finish(
                    reply.message_id, reply.epoch, state, content, has_place=has_place
                ),
            )

        def commit() -> Callable[[], None]:
            done = once()
            if done is None:
                return lambda: process.fence(owner)
            transition, following = done
            self.expect_owned(transition, following.id if following else None)
            if is_twice:
                assert once() is None

            def land() -> None:
                process.fence(owner)
                self.adopt(process, transition)
                process.keep(owner, transition, Outcome(state, content))

            return land

        self.run(process, Flight(commit), pace)

    # --- keeping ------------------------------------------------------------------------------

    @action(
        3,
        lambda self: self.owners(),
        p=NUMBERS,
        pace=PACES,
    )
    def checkpoint(self, p: int, pace: str) -> None:
        processes = [process for process in self.awake if process.owners]
        process = pick(processes, p)
        texts = self.checkpoints_of(process)
        if process.is_saving or not texts:
            return
        process.is_saving = True

        def commit() -> Callable[[], None]:
            done = self.both(
                lambda: self.db.run(EVERY_ACCOUNT, leases.save_checkpoints, texts),
                lambda: self.model.checkpoint([as_tuple(text) for text in texts]),
            )
            assert done is not None
            fenced, expected = done
            assert fenced == expected

            def land() -> None:
                process.is_saving = False
                for text in texts:
                    owner = process.owners.get(text.message_id)
                    if owner is None or owner.reply.epoch != text.epoch:
                        continue
                    if text.message_id in fenced:
                        process.fence(owner)
                    elif owner.reply.attempt == text.attempt:
                        owner.reply.saved = len(text.content)

            return land

        self.run(process, Flight(commit, is_upkeep=True), pace)

    def checkpoints_of(self, process: Process) -> list[Checkpoint]:
        return [
            Checkpoint(reply.message_id, reply.epoch, reply.attempt, reply.text)
            for owner in process.owners.values()
            if not self.is_over(owner)
            for reply in [owner.reply]
        ]

    @action(
        2,
        lambda self: self.owners(),
        p=NUMBERS,
        is_in_time=st.booleans(),
        pace=PACES,
    )
    def renew(self, p: int, is_in_time: bool, pace: str) -> None:
        """`is_in_time`: whether by its own clock the process still owned what it renewed."""
        process = pick([process for process in self.awake if process.owners], p)
        owned = [(o.reply.message_id, o.reply.epoch) for o in process.owners.values()]

        def commit() -> Callable[[], None]:
            done = self.both(
                lambda: self.db.run(EVERY_ACCOUNT, leases.renew, owned, _TTL),
                lambda: self.model.renew(owned),
            )
            assert done is not None
            renewed, expected = done
            assert renewed == expected
            if is_in_time:
                self.over -= {pair for pair in owned if pair[0] in renewed}

            def land() -> None:
                for message_id, epoch in owned:
                    owner = process.owners.get(message_id)
                    if owner is None or owner.reply.epoch != epoch:
                        continue
                    if message_id not in renewed or self.is_over(owner):
                        process.fence(owner)
                    elif renewed[message_id]:
                        owner.is_told = True

            return land

        self.run(process, Flight(commit, is_upkeep=True), pace)

    @action(
        3,
        lambda self: self.live(Held.HELD),
        n=NUMBERS,
    )
    def lease_ends(self, n: int) -> None:
        self.expire(pick(self.live(Held.HELD), n))

    def expire(self, said: Said) -> None:
        with self.engine.begin() as connection:
            connection.execute(
                update(Message).where(Message.id == said.id).values(lease_until=db_now() - MICROS)
            )
        said.held = Held.OVER
        self.over.add((said.id, said.epoch))

    @action(
        10,
        lambda self: self.live(Held.OVER, Held.RELEASED),
        p=NUMBERS,
        n=NUMBERS,
        pace=PACES,
    )
    def take_over(self, p: int, n: int, pace: str) -> None:
        said = pick(self.live(Held.OVER, Held.RELEASED), n)
        expired = self.db.run(EVERY_ACCOUNT, leases.expired, 1 << 10, _TTL)
        mine = {row.id for row in expired if row.account_id == self.account_id}
        assert mine == {said.id for said in self.live(Held.OVER, Held.RELEASED)}
        self.claim(pick(self.awake, p), said, pace)

    def claim(self, process: Process, said: Said, pace: str) -> None:
        known, attempt = process.known(said.conversation, said.id)

        def commit() -> Callable[[], None]:
            done = self.both(
                lambda: self.db.run(
                    self.account_id,
                    leases.take_over,
                    said.conversation,
                    said.id,
                    self.lease,
                    known,
                    attempt,
                ),
                lambda: self.model.take_over(said.id, known, attempt),
            )
            assert done is not None
            transition, expected = done
            assert (transition is None) == (expected is None)
            if transition is None or expected is None:
                return nothing
            self.expect_owned(transition, expected.owned.id if expected.owned else None)
            return lambda: self.adopt(process, transition)

        self.run(process, Flight(commit), pace)

    @action(
        5,
        lambda self: any(process.flights for process in self.awake),
        p=NUMBERS,
        n=NUMBERS,
    )
    def go_on(self, p: int, n: int) -> None:
        """Something that a process began goes on."""
        process = pick([process for process in self.awake if process.flights], p)
        flight = pick(process.flights, n)
        if flight.step():
            process.flights.remove(flight)

    # --- processes ----------------------------------------------------------------------------

    @action(
        2,
        lambda self: True,
        what=st.sampled_from(("stop", "stop", "crash", "drain")),
        p=NUMBERS,
    )
    def interrupt(self, what: str, p: int) -> None:
        """Something happens to a process."""
        if what == "stop" and len(self.awake) > 1:
            pick(self.awake, p).is_stopped = True
        elif what == "crash":
            self.replace(pick(self.processes, p))
        elif what == "drain":
            self.drain(pick(self.awake, p))

    @action(
        2,
        lambda self: len(self.awake) < len(self.processes),
        p=NUMBERS,
    )
    def wake(self, p: int) -> None:
        pick([process for process in self.processes if process.is_stopped], p).is_stopped = False

    def replace(self, process: Process) -> None:
        """A process is gone, and started anew."""
        for client in self.clients:
            if client.process is process:
                client.close()
        self.processes[self.processes.index(process)] = self.new_process(process.name)

    def drain(self, process: Process) -> None:
        """A process shuts down in good order; a checkpoint or a renewal of it may be late."""
        upkeep = [flight for flight in process.flights if flight.is_upkeep]
        while any(not flight.is_upkeep for flight in process.flights):
            flight = next(flight for flight in process.flights if not flight.is_upkeep)
            if flight.step():
                process.flights.remove(flight)
        for owner in list(process.owners.values()):
            if owner.is_told:
                self.end(process, owner, State.CANCELLED, has_place=False, pace="at once")
        texts = self.checkpoints_of(process)
        done = self.both(
            lambda: self.db.run(EVERY_ACCOUNT, leases.release, texts),
            lambda: self.model.checkpoint([as_tuple(text) for text in texts], releases=True),
        )
        assert done is not None
        for flight in upkeep:
            flight.step()
        process.end_streams()
        self.read_on([client for client in self.clients if client.process is process])
        self.replace(process)

    # --- the bus ------------------------------------------------------------------------------

    @action(
        6,
        lambda self: any(process.bus.inbox for process in self.awake),
        p=NUMBERS,
        n=NUMBERS,
        comes=st.sampled_from(("once", "once", "twice", "never")),
    )
    def event(self, p: int, n: int, comes: str) -> None:
        process = pick([process for process in self.awake if process.bus.inbox], p)
        event = pick(process.bus.inbox, n)
        if comes != "twice":
            process.bus.inbox.remove(event)
        if comes != "never":
            process.bus.deliver(event)

    @action(
        1,
        lambda self: True,
        p=NUMBERS,
    )
    def poll(self, p: int) -> None:
        pick(self.awake, p).poll()

    # --- watching -----------------------------------------------------------------------------

    @action(
        2,
        lambda self: self.talks and len(self.readable) < _MAX_OPEN,
        p=NUMBERS,
        t=NUMBERS,
        who=WHO,
    )
    def watch(self, p: int, t: int, who: int = 0) -> None:
        talk, caller = pick(self.talks, t), self.caller(who)
        client = Client(self.truth, caller, pick(self.awake, p), talk.id, talk.version)
        client.watch()
        client.read(1, lingers=False)
        self.clients.append(client)

    @action(
        2,
        lambda self: any(c.events for c in self.clients),
        p=NUMBERS,
        n=NUMBERS,
        e=NUMBERS,
    )
    def resume(self, p: int, n: int, e: int) -> None:
        parents = [client for client in self.clients if client.events]
        parent = pick(parents[-8:], n)
        process = pick(self.awake, p)
        if len(self.readable) >= _MAX_OPEN:
            parent.close()
        self.clients.append(parent.resume(process, e % len(parent.events)))

    @action(
        10,
        lambda self: self.readable,
        n=NUMBERS,
        room=st.sampled_from((1, 2, 100, 100)),
        lingers=st.booleans(),
    )
    def read(self, n: int, room: int, lingers: bool) -> None:
        pick(self.readable, n).read(room, lingers=lingers)

    # --- what must be true --------------------------------------------------------------------

    @invariant()
    def rows_are_as_the_model_says(self) -> None:
        if self.is_checked:
            return
        self.is_checked = True
        actual = {said.id: said for said in self.stored()}
        for said in actual.values():
            expected = self.model.find(said.id)
            assert expected is not None
            if said.has_ended:
                said.held = expected.held
            assert said == expected
        assert len(actual) == sum(1 for _ in self.model.messages)
        self.check_history(actual)
        with self.engine.connect() as connection:
            stored = {
                row.id: row
                for row in connection.execute(
                    select(Conversation.__table__).where(Conversation.account_id == self.account_id)
                )
            }
        for talk in self.model.talks.values():
            row = stored.get(talk.id)
            assert (row is None) == talk.is_deleted
            if row is not None:
                assert (row.version, row.info_version) == (talk.version, talk.info_version)
                assert (row.title, row.title_owed) == (talk.title, talk.title_owed)
                assert (row.message_count, row.last_position) == (
                    len(talk.kept),
                    len(talk.messages),
                )
                assert (row.title_of, row.creator_id) == (talk.title_of, talk.creator)
                assert (row.visibility == Visibility.ACCOUNT) == talk.is_open

    def check_books(self) -> None:
        """For each reply that has not ended something is reserved, and for no other; what budgets
        count is what was used."""
        with self.engine.connect() as connection:
            reserved = connection.execute(_RESERVED, {"account": self.account_id}).scalars()
            unfinished = [said.id for said in self.model.messages if not said.has_ended]
            assert sorted(reserved) == sorted(unfinished)
        wrong, _ = self.db.run(EVERY_ACCOUNT, budgets.wrong_counters, "", 1_000)
        assert wrong == []

    def check_history(self, rows: dict[str, Said]) -> None:
        """What is true of the rows whatever the model says."""
        live: set[str] = set()
        for row in rows.values():
            if row.is_live:
                assert row.conversation not in live, "two replies are being written"
                live.add(row.conversation)
            before = self.rows.get(row.id)
            if before is None:
                continue
            assert row.epoch >= before.epoch
            assert row.attempt >= before.attempt
            assert row.version >= before.version
            assert row.state >= before.state or row.deleted
            assert row.deleted or not before.deleted
            if row.deleted:
                assert not row.content
            elif before.has_ended:
                assert (row.state, row.content, row.error) == (
                    before.state,
                    before.content,
                    before.error,
                )
            elif row.attempt == before.attempt:
                assert row.content.startswith(before.content), "saved text was lost"
            if (row.state, row.attempt, row.superseded, row.rating, row.deleted) != (
                before.state,
                before.attempt,
                before.superseded,
                before.rating,
                before.deleted,
            ):
                assert row.version > before.version, "watchers are not told of a change"
        self.rows = rows

    def stored(self) -> list[Said]:
        """The messages of the account."""
        with self.engine.connect() as connection:
            rows = connection.execute(_STORED, {"account": self.account_id}).all()
        return [
            Said(
                id=row.id,
                conversation=row.conversation_id,
                position=row.position,
                role=Role(row.role),
                state=State(row.state),
                version=row.version,
                content=row.content,
                author=row.author_id,
                deleted=row.deleted,
                request_id=row.request_id,
                reply_to=row.reply_to,
                attempt=row.attempt,
                superseded=row.superseded,
                rating=row.rating,
                error=row.error_reason,
                epoch=row.epoch,
                strikes=row.strikes,
                cancel_requested=row.cancel_requested,
                rank=row.queue_rank,
                held=Held(row.held),
            )
            for row in rows
        ]

    # --- the end ------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if hasattr(self, "model") and sys.exc_info()[0] is None:
                self.settle()
        finally:
            self.close()

    def close(self) -> None:
        """Lets go of everything."""
        for client in self.clients:
            client.close()
        if hasattr(self, "_principal"):
            principal.reset(self._principal)
        self.loop.close()

    def settle(self) -> None:
        """Everybody does what is left to do; then every client knows what the database knows."""
        for process in self.processes:
            process.is_stopped = False
            while process.flights:
                if process.flights[0].step():
                    process.flights.pop(0)
        self.rows_are_as_the_model_says()
        self.check_books()
        process = self.processes[0]
        while self.model.leaving:
            self.erase(0, 0, "at once")
        self.rows_are_as_the_model_says()
        while any(talk.live or talk.queue for talk in self.talks):
            for talk in self.talks:
                self.write_one(process, talk)
        self.rows_are_as_the_model_says()
        self.check_books()
        for who in (1, 2):
            self.look(who)
        for client in [client for client in self.clients if client.events][-4:]:
            for number in {0, len(client.events) // 2, len(client.events) - 1}:
                self.clients.append(client.resume(process, number))
        self.read_all()

    def read_all(self) -> None:
        """Every client learns what it does not know yet, without the bus."""
        for process in self.processes:
            process.bus.inbox.clear()
            process.poll()
        self.read_on(self.clients)
        for client in self.clients:
            self.check_client(client)

    def read_on(self, clients: list[Client]) -> None:
        """These clients read all that there is; who waits for what another one reads of the
        database goes on after it."""
        for client in [*clients, *clients]:
            if client.is_open:
                client.read(1 << 10, lingers=False)

    def write_one(self, process: Process, talk: Talk) -> None:
        """Writes the next reply of a conversation to its end."""
        live = talk.live
        if live is None:
            done = self.both(
                lambda: self.db.run(self.account_id, queue.start, talk.id, self.lease),
                lambda: self.model.start(talk.id),
            )
            assert done is not None
            if done[0] is not None:
                self.adopt(process, done[0])
            return
        owner = process.owners.get(live.id)
        if owner is None or owner.reply.epoch != live.epoch:
            if live.held == Held.HELD:
                self.expire(live)
            self.claim(process, live, "at once")
            return
        if not owner.has_begun:
            text = self.new_text(process, "the end")
            self.begin_attempt(process, owner, text, pace="at once")
        self.end(process, owner, State.COMPLETED, has_place=True, pace="at once")

    def viewer(self, client: Client) -> str:
        scope = client.caller.scope
        return scope.user_id if isinstance(scope, Viewer) else ""

    def check_client(self, client: Client) -> None:
        talk = self.model.talks[client.conversation_id]
        held = client.transcript.messages
        if not talk.is_deleted and not talk.is_seen_by(self.viewer(client)):
            assert not client.is_open, "somebody follows who was removed"
            return
        if client.is_only and client.stepper and client.stepper.is_done:
            return
        if not client.is_open and not client.transcript.is_deleted and not talk.is_deleted:
            return
        if talk.is_deleted:
            assert client.transcript.is_deleted or not client.is_open
            return
        if client.is_only:
            return
        conversation, _ = self.db.run(self.account_id, feed.snapshot, talk.id)
        assert [user.id for user in conversation.participants] == talk.participants
        rows = self.db.run(self.account_id, messages.changed_since, talk.id, 0, 1 << 20)
        for row in rows:
            if row.version > client.base or row.id in held:
                assert held.get(row.id) == convert.message(row)
        if conversation.info_version > client.base or client.transcript.conversation:
            assert client.transcript.conversation is not None
            told = client.transcript.conversation
            assert (told.title, told.visibility) == (conversation.title, conversation.visibility)


def _stored() -> Select[Any]:
    table = Message.__table__
    assert isinstance(table, Table)
    lease = table.c.lease_until
    held = case(
        (table.c.state != State.GENERATING, Held.NONE.value),
        (lease == RELEASED, Held.RELEASED.value),
        (lease < db_now(), Held.OVER.value),
        else_=Held.HELD.value,
    )
    mine = table.c.account_id == bindparam("account")
    return select(table, held.label("held")).where(mine)


_STORED = _stored()
_RESERVED = select(Reservation.message_id).where(Reservation.account_id == bindparam("account"))


def nothing() -> None:
    """Lands a transaction that was refused, or found nothing to do."""


def as_tuple(text: Checkpoint) -> tuple[str, int, int, str]:
    return text.message_id, text.epoch, text.attempt, text.content

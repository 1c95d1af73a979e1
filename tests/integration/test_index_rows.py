"""What the index of conversations asks of the database, and what it finds there."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from colloquy_server.database.engine import sync_engine
from colloquy_server.database.models import (
    Conversation,
    ConversationRemoval,
    Message,
    PersonalState,
    Role,
    State,
    User,
    Visibility,
)
from colloquy_server.database.repository import (
    access,
    conversations,
    deletion,
    index,
    participants,
    personal,
    read_states,
    retention,
    sending,
)
from colloquy_server.database.repository.changes import lock
from colloquy_server.database.repository.conversations import NewConversation
from colloquy_server.database.repository.personal import Readable
from colloquy_server.database.repository.sending import OnBusy, Prompt
from colloquy_server.database.repository.users import Author
from colloquy_server.database.transactions import EVERY_ACCOUNT, Scope, Session, Viewer, commit
from sqlalchemy import Connection, Engine, event, insert, select, text, update

from tests.fakes.choices import own_model

T = TypeVar("T")
PEOPLE = ("mia", "noah", "zoe")


class World:
    """An account with some people and a conversation of Mia's."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        account = self.run(EVERY_ACCOUNT, lambda s: access.create_account(s, "A", None))
        self.account_id = account.id
        self.users = {
            name: self.run(
                self.account_id,
                lambda s, name=name: access.keep_user(s, self.account_id, Author(external_id=name)),
            ).id
            for name in PEOPLE
        }
        self.conversation_id = self.make()

    def make(self, visibility: Visibility = Visibility.ACCOUNT) -> str:
        author = Author(id=self.users["mia"])
        new = NewConversation("T", "", None, None, "", author, visibility)
        make = lambda s: conversations.create(s, self.account_id, new, lambda: "m")  # noqa: E731
        return self.run(self.account_id, make).id

    def run(self, scope: Scope, fn: Callable[..., T], *args: Any) -> T:
        with self.engine.connect() as connection:
            return commit(connection, scope, lambda s: fn(s, *args))

    def place(self) -> index.Place:
        return self.run(self.account_id, index.place, self.account_id)

    def news(self, since: index.Place) -> list[str]:
        """The ids of what changed since a place."""
        found = self.run(self.account_id, index.news, self.account_id, since, frozenset())
        return [item.conversation_id for item in found.items or ()]

    def touch(self, conversation_id: str = "") -> None:
        self.run(self.account_id, lock, conversation_id or self.conversation_id)

    def say(self, name: str = "mia") -> sending.Sent:
        author = Author(id=self.users[name])
        prompt = Prompt(self.conversation_id, "Hi", author, None, OnBusy.ENQUEUE)
        return self.run(
            self.account_id,
            lambda s: sending.send(s, self.account_id, prompt, own_model, None, 1_000),
        )


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    engine = sync_engine(database_url)
    yield World(engine)
    engine.dispose()


# --- what is unread -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_what_is_counted_is_what_it_is_said_to_be(world: World, seed: int) -> None:
    """By the database, and by the server from the newest ones, whatever was said and read."""
    choose = random.Random(seed)
    since = 1_000
    rows: list[dict[str, Any]] = [
        {
            "id": f"{seed} {position}",
            "account_id": world.account_id,
            "conversation_id": world.conversation_id,
            "position": position,
            "role": Role.USER if author else Role.ASSISTANT,
            "author_id": author and world.users[author],
            "state": State.COMPLETED if author else choose.choice(list(State)),
            "superseded": author is None and choose.random() < 0.2,
            "deleted": choose.random() < 0.2,
            "version": 1,
            "create_time": position * 10,
            "update_time": 0,
        }
        for position in range(1, choose.choice([5, 90, 300]))
        for author in [choose.choice([None, None, *PEOPLE[: choose.choice([2, 3])]])]
    ]
    generating = [row for row in rows if row["state"] == State.GENERATING]
    for row in generating[1:]:  # at most one is
        row["state"] = State.FAILED
    read_up_to = {"mia": 0, "noah": choose.randrange(len(rows) + 1)}
    with world.engine.begin() as connection:
        connection.execute(insert(Message), rows)
        connection.execute(update(User).values(unread_since=since))
        connection.execute(
            insert(PersonalState),
            {
                "account_id": world.account_id,
                "conversation_id": world.conversation_id,
                "user_id": world.users["noah"],
                "read_position": read_up_to["noah"],
                "change_mark": 1,
            },
        )

    def newest(s: Session) -> list[Readable]:
        found = s.run(personal.NEWEST, {"conversation": world.conversation_id})
        return [Readable._make(row) for row in found]

    for name, user_id in world.users.items():
        read = read_up_to.get(name, 0)
        own = [r["position"] for r in rows if r["author_id"] == user_id and not r["deleted"]]
        behind = max([read, *own])
        wanted = [
            row
            for row in rows
            if row["position"] > behind
            and row["state"] >= State.COMPLETED
            and not row["deleted"]
            and not row["superseded"]
            and row["create_time"] > since
        ]
        for scope in (world.account_id, Viewer(world.account_id, user_id)):
            (told,) = world.run(
                scope,
                lambda s, user_id=user_id: personal.told(
                    s, conversations.by_ids(s, [world.conversation_id]), user_id
                ),
            )
            assert told.unread_count == min(len(wanted), 100)
            is_replying = any(row["state"] <= State.GENERATING for row in rows)
            assert told.replying == is_replying
        said = world.run(world.account_id, newest)
        assert personal.unread(said, read, user_id, since) == min(len(wanted), 100)


def test_what_is_unread_is_counted_in_an_index_alone(world: World) -> None:
    world.say()
    plan = _plan(world, personal._TOLD, {"wanted": [world.conversation_id], "reader": ""})
    assert "ix_messages_readable" in plan
    assert "ix_messages_of_author" in plan


def test_what_is_to_be_deleted_is_found_by_its_time(world: World) -> None:
    # What was not run before is run where it can be explained.
    plan = _plan(world, retention._EXPIRED.limit(1), {"now": 1}, EVERY_ACCOUNT)
    assert "ix_conversations_expiring" in plan
    values = {"owner": world.account_id, "until": 1}
    plan = _plan(world, retention._INACTIVE.limit(1), values, EVERY_ACCOUNT)
    assert "ix_conversations_account_id_activity_time_id" in plan


def _plan(world: World, statement: Any, values: dict[str, Any], scope: str = "") -> str:
    """How the database would go about a statement: of the account's, if no scope is given."""
    plans: list[str] = []

    def explain(
        connection: Connection, cursor: Any, sql: str, parameters: Any, _context: Any, _many: bool
    ) -> tuple[str, Any]:
        if connection.dialect.name == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)
        else:
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute(f"EXPLAIN {sql}", parameters)
        plans.append("\n".join(str(row) for row in cursor.fetchall()))
        return sql, parameters

    with world.engine.connect() as connection, Session(connection, scope or world.account_id) as s:
        event.listen(world.engine, "before_cursor_execute", explain, retval=True)
        try:
            s.run(statement, values)
        finally:
            event.remove(world.engine, "before_cursor_execute", explain)
    return plans[-1]


# --- what has changed -----------------------------------------------------------------------------


def test_nothing_is_missed_of_what_is_committed_later(world: World) -> None:
    """On SQLite the second one waits; on Postgres it is committed first, with a later mark."""
    other = world.make()
    before = world.place()
    if world.engine.dialect.name == "sqlite":
        world.touch()
        assert world.news(before) == [world.conversation_id]
        return
    with world.engine.connect() as slow:
        transaction = slow.begin()
        with Session(slow, world.account_id) as s:
            lock(s, world.conversation_id)
            world.touch(other)
            assert world.news(before) == [other]
            here = world.place()  # seen: the other one alone
            transaction.commit()
    assert world.conversation_id in world.news(here)


def test_a_mark_that_goes_back_is_not_missed(world: World) -> None:
    """The transaction that began first may have waited for the row, and be the last to write it."""
    if world.engine.dialect.name == "sqlite":
        pytest.skip("one transaction writes at a time")
    with world.engine.connect() as slow, slow.begin() as transaction:
        slow.execute(text("SELECT pg_current_xact_id()"))
        world.touch()
        here = world.place()
        with Session(slow, world.account_id) as s:
            lock(s, world.conversation_id)
            transaction.commit()
    assert world.news(here) == [world.conversation_id]


def test_marks_grow_even_if_the_clock_stands_still(world: World) -> None:
    if world.engine.dialect.name == "postgresql":
        pytest.skip("a mark is no time there")
    with world.engine.begin() as connection:
        connection.execute(update(Conversation).values(change_mark=1 << 60))
    here = world.place()
    assert world.news(here) == []
    world.touch()
    assert world.news(here) == [world.conversation_id]
    deleted = world.place()
    world.run(world.account_id, conversations.delete, world.conversation_id)
    assert world.news(deleted) == [world.conversation_id]
    after = world.place()
    assert world.news(after) == []
    made = world.make()
    assert world.news(after) == [made], "though the largest mark was of what is gone"


DEEDS: dict[str, Callable[[World, Session], object]] = {
    "a new title": lambda w, s: conversations.change(s, w.conversation_id, {"title": "New"}),
    "archived": lambda w, s: conversations.change(s, w.conversation_id, {"archived": True}),
    "invited": lambda w, s: participants.add(
        s, w.conversation_id, [Author(external_id="zoe")], may_rename=False
    ),
    "removed": lambda w, s: participants.remove(s, w.conversation_id, w.users["mia"]),
    "pinned": lambda w, s: read_states.pin(s, w.conversation_id, w.users["noah"], pinned=True),
    "deleted": lambda w, s: conversations.delete(s, w.conversation_id),
}


@pytest.mark.parametrize("name", DEEDS)
def test_whatever_is_done_is_found(world: World, name: str) -> None:
    here = world.place()
    world.run(world.account_id, lambda s: DEEDS[name](world, s))
    assert world.news(here) == [world.conversation_id]
    assert world.news(world.place()) == []


def test_what_is_said_and_what_is_read_is_found(world: World) -> None:
    here = world.place()
    sent = world.say()
    assert world.news(here) == [world.conversation_id]
    here = world.place()
    author = Author(id=world.users["noah"])
    world.run(
        world.account_id,
        lambda s: read_states.mark_read(s, world.conversation_id, sent.reply.id, author),
    )
    assert world.news(here) == [world.conversation_id]
    here = world.place()
    world.run(
        world.account_id,
        lambda s: read_states.mark_read(s, world.conversation_id, sent.prompt.id, author),
    )
    assert world.news(here) == [], "it was read already"


def test_what_is_known_is_not_news_once_more(world: World) -> None:
    here = world.place()
    world.touch()
    first = world.run(world.account_id, index.news, world.account_id, here, frozenset())
    again = world.run(world.account_id, index.news, world.account_id, first.place, first.known)
    assert again.items == []
    # And from before, too, as long as it is kept in mind.
    known = frozenset({index.Touched(world.conversation_id, "", *_version(world))})
    assert world.run(world.account_id, index.news, world.account_id, here, known).items == []


def _version(world: World) -> tuple[int, int]:
    row = select(Conversation.version, Conversation.change_mark)
    found = world.run(world.account_id, lambda s: s.run(row).one())
    return found[0], found[1]


def test_of_a_conversation_that_few_saw_only_they_hear_that_it_is_gone(world: World) -> None:
    hidden = world.make(Visibility.PARTICIPANTS)
    guest = Author(id=world.users["noah"])
    world.run(world.account_id, lambda s: participants.add(s, hidden, [guest], may_rename=False))
    world.run(world.account_id, conversations.delete, hidden)
    world.run(world.account_id, conversations.delete, world.conversation_id)
    told: dict[str, set[str]] = {}
    for name, user_id in world.users.items():
        ids = select(ConversationRemoval.conversation_id)
        viewer = Viewer(world.account_id, user_id)
        told[name] = set(world.run(viewer, lambda s, ids=ids: s.run(ids).scalars()))
    both = {hidden, world.conversation_id}
    assert told == {"mia": both, "noah": both, "zoe": {world.conversation_id}}


# --- what is erased -------------------------------------------------------------------------------


def _states(world: World) -> list[str]:
    return list(world.run(EVERY_ACCOUNT, lambda s: s.run(select(PersonalState.user_id)).scalars()))


def _pinned_by_all(world: World) -> None:
    for user_id in world.users.values():
        world.run(
            world.account_id,
            lambda s, user_id=user_id: read_states.pin(
                s, world.conversation_id, user_id, pinned=True
            ),
        )


def test_what_it_was_to_people_goes_with_a_conversation(world: World) -> None:
    _pinned_by_all(world)
    viewer = Viewer(world.account_id, world.users["mia"])
    world.run(viewer, conversations.delete, world.conversation_id)
    assert _states(world) == []


def test_what_it_was_to_somebody_goes_with_them(world: World) -> None:
    _pinned_by_all(world)
    gone = world.users["zoe"]
    world.run(EVERY_ACCOUNT, deletion.begin_leaving, gone)
    assert world.run(world.account_id, deletion.finish_leaving, gone)
    assert set(_states(world)) == set(world.users.values()) - {gone}


def test_all_goes_with_an_account(world: World) -> None:
    _pinned_by_all(world)
    other = world.make()
    world.run(world.account_id, conversations.delete, other)
    world.run(EVERY_ACCOUNT, access.delete_account, world.account_id)
    removals = select(ConversationRemoval.conversation_id)
    assert world.run(EVERY_ACCOUNT, lambda s: s.run(removals).scalars()) == []
    assert _states(world) == []

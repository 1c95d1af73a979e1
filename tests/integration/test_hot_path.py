"""What a reply asks of the database, statement by statement: nothing may be added unseen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
from colloquy_server.database.engine import sync_engine
from colloquy_server.database.models import MICROS, State
from colloquy_server.database.repository import (
    access,
    conversations,
    feed,
    leases,
    sending,
)
from colloquy_server.database.repository import messages as message_rows
from colloquy_server.database.repository.access import Author
from colloquy_server.database.repository.changes import Lease
from colloquy_server.database.repository.conversations import NewConversation
from colloquy_server.database.repository.leases import Outcome
from colloquy_server.database.repository.sending import OnBusy, Prompt, Sent
from colloquy_server.database.transactions import EVERY_ACCOUNT, commit
from sqlalchemy import Engine, event

from tests.fakes.choices import own_model

T = TypeVar("T")

LEASE = Lease(10 * MICROS, 200)


class World:
    """An account with a conversation in which something was said."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        account = self.run(EVERY_ACCOUNT, lambda s: access.create_account(s, "A", None))
        self.account_id, self.user_id = account.id, account.default_user_id
        new = NewConversation("A title", "", None, None, "")
        self.conversation_id = self.run(
            self.account_id,
            lambda s: conversations.create(s, self.account_id, new, lambda: "model"),
        ).id
        self.finish(self.send())

    def run(self, account_id: str, fn: Callable[..., T], *args: object) -> T:
        with self.engine.connect() as connection:
            return commit(connection, account_id, lambda s: fn(s, *args))

    def send(self, request_id: str | None = None) -> Sent:
        author = Author(id=self.user_id)
        prompt = Prompt(self.conversation_id, "Hi", author, request_id, OnBusy.ENQUEUE)
        return self.run(
            self.account_id,
            lambda s: sending.send(s, self.account_id, prompt, own_model, LEASE, 100),
        )

    def finish(self, sent: Sent) -> None:
        outcome = Outcome(State.COMPLETED, "Hello.", "stop", receipt="{}")
        self.run(
            self.account_id,
            lambda s: leases.finish(s, self.conversation_id, sent.reply.id, 1, outcome, LEASE),
        )

    @contextmanager
    def counted(self) -> Iterator[list[str]]:
        """What is asked of the database meanwhile: the verb and the table of each statement."""
        asked: list[str] = []

        def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
            words = statement.replace("(", " ").split()
            if words[0] == "BEGIN":
                return
            before = {"INSERT": "INTO", "UPDATE": "UPDATE"}.get(words[0], "FROM")
            table = words[words.index(before) + 1]
            asked.append(f"{words[0]} {'' if table == 'SELECT' else table}".strip())

        event.listen(self.engine, "before_cursor_execute", note)
        try:
            yield asked
        finally:
            event.remove(self.engine, "before_cursor_execute", note)


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    engine = sync_engine(database_url)
    yield World(engine)
    engine.dispose()


def test_a_send_that_starts_at_once_is_four_statements(world: World) -> None:
    with world.counted() as asked:
        sent = world.send("request")
    assert asked == [
        "UPDATE conversations",  # the lock, the version and what is counted
        "SELECT messages",  # all that a send must know, in one
        "INSERT messages",  # prompt and reply
        "SELECT messages",  # the history
    ]
    assert sent.owned
    assert sent.history is not None
    assert [turn.prompt.content for turn in sent.history.turns] == ["Hi", "Hi"]


def test_what_is_stored_of_a_send_is_what_its_caller_holds(world: World) -> None:
    sent = world.send("request")
    for row in (sent.prompt, sent.reply):
        stored = world.run(world.account_id, message_rows.get, row.id)
        assert stored == row._replace(attachments=stored.attachments)


def test_an_end_is_four_statements(world: World) -> None:
    sent = world.send()
    with world.counted() as asked:
        world.finish(sent)
    assert asked == [
        "UPDATE conversations",
        "UPDATE messages",
        "INSERT receipts",
        "SELECT messages",  # the next in line
    ]


def test_a_page_of_messages_is_one_statement_and_a_conversation_three(world: World) -> None:
    with world.counted() as asked:
        world.run(
            world.account_id,
            lambda s: message_rows.page(
                s,
                world.conversation_id,
                limit=50,
                max_bytes=1 << 20,
                shape=lambda row: (row, 1),
                after=0,
            ),
        )
    assert asked == ["SELECT messages"]
    with world.counted() as asked:
        world.run(world.account_id, lambda s: feed.snapshot(s, world.conversation_id))
    assert asked == ["SELECT conversations", "SELECT memberships", "SELECT messages"]


def test_a_repeated_request_leaves_nothing_behind(world: World) -> None:
    sent = world.send("request")
    before = world.run(world.account_id, lambda s: feed.snapshot(s, world.conversation_id))[0]
    again = world.send("request")
    after = world.run(world.account_id, lambda s: feed.snapshot(s, world.conversation_id))[0]
    assert (again.prompt.id, again.reply.id, again.owned) == (sent.prompt.id, sent.reply.id, False)
    assert after == before
    # What that version changed is not this request's to say.
    assert (again.change.version, again.change.is_hint) == (before.version, True)

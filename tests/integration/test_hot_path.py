"""What a reply asks of the database, statement by statement: nothing may be added unseen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
from colloquy_server.database.engine import sync_engine
from colloquy_server.database.models import MICROS, Message, Period, State, Unit
from colloquy_server.database.repository import (
    access,
    conversations,
    feed,
    leases,
    queue,
    quotas,
    sending,
    webhooks,
)
from colloquy_server.database.repository import messages as message_rows
from colloquy_server.database.repository.budgets import set_budget
from colloquy_server.database.repository.changes import Lease
from colloquy_server.database.repository.conversations import NewConversation
from colloquy_server.database.repository.leases import Outcome
from colloquy_server.database.repository.queue import Backlog
from colloquy_server.database.repository.quotas import Limits
from colloquy_server.database.repository.sending import OnBusy, Prompt, Sent
from colloquy_server.database.repository.users import Author
from colloquy_server.database.transactions import EVERY_ACCOUNT, Scope, Viewer, commit
from sqlalchemy import Engine, event, update

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

    def run(self, scope: Scope, fn: Callable[..., T], *args: object) -> T:
        with self.engine.connect() as connection:
            return commit(connection, scope, lambda s: fn(s, *args))

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

    def change(self, message_id: str, **values: int) -> None:
        """Changes a message's row."""
        changed = update(Message).where(Message.id == message_id).values(**values)
        self.run(EVERY_ACCOUNT, lambda s: s.execute(changed))

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


def test_a_members_send_asks_once_more_whether_the_conversation_is_seen(world: World) -> None:
    prompt = Prompt(world.conversation_id, "Hi", Author(id=world.user_id), "r", OnBusy.ENQUEUE)
    with world.counted() as asked:
        sent = world.run(
            Viewer(world.account_id, world.user_id),
            lambda s: sending.send(s, world.account_id, prompt, own_model, LEASE, 100),
        )
    assert asked == [
        "UPDATE conversations",
        "SELECT conversations",  # of the row that is locked
        "SELECT messages",
        "INSERT messages",
        "SELECT messages",
    ]
    assert sent.owned


@pytest.mark.parametrize("is_limited", [False, True])
def test_a_reply_that_waits_costs_more_only_where_a_quota_says_how_many_may(
    world: World, is_limited: bool
) -> None:
    if is_limited:
        limits = Limits(queued_replies=1)
        world.run(EVERY_ACCOUNT, lambda s: quotas.change(s, world.account_id, limits))
    world.send()
    with world.counted() as asked:
        assert not world.send().owned
    assert asked == [
        "UPDATE conversations",
        "SELECT messages",
        "INSERT messages",
        # Who may know, held until the commit, and how many wait.
        *(["SELECT quotas", "SELECT"] if is_limited else []),
    ]


def test_what_is_stored_of_a_send_is_what_its_caller_holds(world: World) -> None:
    sent = world.send("request")
    for row in (sent.prompt, sent.reply):
        stored = world.run(world.account_id, message_rows.get, row.id)
        assert stored == row._replace(attachments=stored.attachments)


def test_an_end_is_five_statements(world: World) -> None:
    sent = world.send()
    with world.counted() as asked:
        world.finish(sent)
    assert asked == [
        "UPDATE conversations",
        "UPDATE messages",
        "SELECT messages",  # the next in line
        "INSERT receipts",
        "INSERT usage_days",  # with the commit
    ]


def test_only_accounts_with_budgets_pay_for_them(world: World) -> None:
    for unit in (Unit.REPLIES, Unit.TOKENS):
        world.run(
            EVERY_ACCOUNT, set_budget, world.account_id, "", "", "", Period.DAY, unit, 1e6, list
        )
    with world.counted() as asked:
        sent = world.send()
    assert asked[4:] == [
        "SELECT budgets",  # that apply
        "SELECT messages",  # what the conversation had so far
        "INSERT budget_periods",  # one each
        "INSERT budget_periods",
        "INSERT reservations",
    ]
    with world.counted() as asked:
        world.finish(sent)
    assert asked[5:] == [
        "DELETE reservations",
        "SELECT budgets",
        "INSERT budget_periods",
        "INSERT budget_periods",
    ]


def test_what_is_told_to_the_outside_is_a_statement_more_where_somebody_asked_for_it(
    world: World,
) -> None:
    world.run(
        EVERY_ACCOUNT, lambda s: webhooks.create(s, world.account_id, "https://x/", [], "whsec_")
    )
    sent = world.send()
    with world.counted() as asked:
        world.finish(sent)
    assert asked == [
        "UPDATE conversations",
        "UPDATE messages",
        "SELECT messages",
        "INSERT receipts",
        "INSERT deliveries",  # for all webhooks at once
        "INSERT usage_days",
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


def test_what_waits_is_found_by_one_statement_on_the_index(world: World) -> None:
    def found() -> Backlog:
        return world.run(EVERY_ACCOUNT, queue.backlog)

    assert found() == Backlog(queued=0, oldest=0, stuck=0)
    live, waiting = world.send(), world.send()
    assert (waiting.reply.state, found().queued, found().stuck) == (State.QUEUED, 1, 0)
    an_hour_ago = waiting.reply.create_time - 3_600 * MICROS
    world.change(waiting.reply.id, create_time=an_hour_ago)
    world.change(live.reply.id, lease_until=1)
    with world.counted() as asked:
        backlog = found()
    assert asked == ["SELECT messages"]
    assert (backlog.queued, backlog.stuck) == (1, 1)
    assert backlog.oldest >= 3_600 * MICROS
    if world.engine.dialect.name == "sqlite":  # Postgres reads so small a table as a whole
        compiled = queue._BACKLOG.compile(world.engine, compile_kwargs={"literal_binds": True})
        with world.engine.connect() as connection:
            plan = str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}").all())
        assert "ix_messages_unfinished" in plan

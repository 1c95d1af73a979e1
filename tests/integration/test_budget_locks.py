"""Budgets on Postgres, where transactions run beside each other: nobody waits in a circle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
from colloquy_server.database.engine import sync_engine
from colloquy_server.database.models import MICROS, Period, Unit
from colloquy_server.database.repository import (
    access,
    budget_counters,
    budgets,
    conversations,
    sending,
)
from colloquy_server.database.repository.changes import Lease
from colloquy_server.database.repository.sending import OnBusy, Prompt, Sent
from colloquy_server.database.repository.users import Author
from colloquy_server.database.transactions import EVERY_ACCOUNT, Session, commit
from sqlalchemy import Engine, text

from tests.fakes.choices import own_model

T = TypeVar("T")


class World:
    """An account with a budget, of which a reply has reserved."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.account_id = self.run(lambda s: access.create_account(s, "A", None)).id
        self.budget = self.run(
            lambda s: budgets.set_budget(
                s, self.account_id, "", "", "", Period.DAY, Unit.REPLIES, 9, lambda: None
            )
        )
        new = conversations.NewConversation("T", "", None, None, "h")
        self.talk = self.run(
            lambda s: conversations.create(s, self.account_id, new, lambda: "model"),
            self.account_id,
        ).id
        self.reply_id = self.send().reply.id

    def run(self, fn: Callable[[Session], T], scope: str = EVERY_ACCOUNT) -> T:
        with self.engine.connect() as connection:
            return commit(connection, scope, fn)

    def send(self) -> Sent:
        prompt = Prompt(self.talk, "Hi", Author(), None, OnBusy.ENQUEUE)
        return self.run(
            lambda s: sending.send(s, self.account_id, prompt, own_model, Lease(MICROS, 9), 100),
            self.account_id,
        )


@pytest.fixture
def world(postgres_url: str) -> Iterator[World]:
    engine = sync_engine(postgres_url)
    yield World(engine)
    engine.dispose()


def test_who_takes_a_budget_away_or_mends_it_waits_for_nobody_who_ends_a_reply(
    world: World,
) -> None:
    """Who ends one has its reservation's row before the counter's."""
    start = world.budget.row.start(world.budget.renew_time - 1)
    with world.engine.connect() as connection, Session(connection, world.account_id) as ends:
        ends.run(budget_counters._RETURN, {"reply": world.reply_id})

        def beside(fn: Callable[[Session], object]) -> None:
            def run(s: Session) -> None:
                s.execute(text("SET LOCAL lock_timeout = '50ms'"))
                fn(s)

            world.run(run)

        # Of a budget that is gone, of a reply that has ended, and of one that goes now.
        beside(lambda s: s.execute(text("UPDATE messages SET state = 3 WHERE state < 3")))
        beside(lambda s: budgets.mend(s, world.budget.id, start))
        beside(lambda s: budgets.delete_budget(s, world.budget.id))
        beside(lambda s: budgets.mend(s, world.budget.id, start))
        connection.rollback()
    world.run(lambda s: budgets.mend(s, world.budget.id, start))
    with world.engine.connect() as connection:
        left = connection.execute(text("SELECT count(*) FROM reservations")).scalar_one()
    assert left == 0

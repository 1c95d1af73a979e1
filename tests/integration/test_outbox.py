"""The outbox: who may try an event, for how long, and when it is forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
from colloquy_server.database.engine import sync_engine
from colloquy_server.database.models import MICROS, Delivery, Webhook
from colloquy_server.database.repository import access, deliveries, outbox, webhooks
from colloquy_server.database.repository.deliveries import Claimed
from colloquy_server.database.transactions import EVERY_ACCOUNT, Session, commit
from sqlalchemy import Engine, delete, select, text, update

T = TypeVar("T")

LEASE = 3_600 * MICROS
OVER = -MICROS
"""A lease that is over as it begins."""


class World:
    """An account with a webhook."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.account_id = self.run(lambda s: access.create_account(s, "A", None)).id
        made = self.run(lambda s: webhooks.create(s, self.account_id, "https://x/", [], "whsec_"))
        self.webhook_id = made.id

    def run(self, fn: Callable[[Session], T]) -> T:
        with self.engine.connect() as connection:
            return commit(connection, EVERY_ACCOUNT, fn)

    def record(self, conversation_id: str) -> None:
        self.run(
            lambda s: outbox.record(s, self.account_id, "reply.completed", conversation_id, {})
        )

    def claim(self, lease: int = LEASE) -> Claimed | None:
        return self.run(lambda s: deliveries.claim(s, self.webhook_id, lease))

    def claimed(self, lease: int = LEASE) -> Claimed:
        found = self.claim(lease)
        assert found is not None
        return found


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    engine = sync_engine(database_url)
    yield World(engine)
    engine.dispose()


def test_an_event_is_tried_by_one_at_a_time_and_what_stands_behind_it_by_nobody(
    world: World,
) -> None:
    for conversation_id in ("a", "a", "b"):
        world.record(conversation_id)
    first, other = world.claimed(), world.claimed()
    assert (first.conversation_id, other.conversation_id) == ("a", "b")
    assert world.claim() is None
    world.run(lambda s: deliveries.postpone(s, first, "Not now.", LEASE))
    assert world.claim() is None
    world.run(lambda s: deliveries.give_up(s, first, "Never."))
    second = world.claimed()
    assert (second.conversation_id, second.attempts) == ("a", 1)
    assert second.id not in (first.id, other.id)
    world.run(lambda s: deliveries.release(s, second))
    assert world.claimed().id == second.id


def test_an_event_whose_owner_is_gone_is_claimed_anew_and_the_one_before_says_no_more_of_it(
    world: World,
) -> None:
    world.record("a")
    before = world.claimed(OVER)
    owner = world.claimed()
    assert (before.id, before.attempts, owner.attempts) == (owner.id, 1, 2)
    for late in (
        lambda s: deliveries.postpone(s, before, "Late.", OVER),
        lambda s: deliveries.give_up(s, before, "Late."),
        lambda s: deliveries.release(s, before),
    ):
        world.run(late)
        assert world.claim() is None
    world.run(lambda s: deliveries.delivered(s, before.id))  # but that it arrived is true
    assert world.run(lambda s: s.run(select(Delivery.id)).all()) == []


def test_who_looks_for_work_waits_for_nobody_who_has_some(postgres_url: str) -> None:
    engine = sync_engine(postgres_url)
    world = World(engine)
    world.record("a")
    world.record("b")
    with engine.connect() as connection, connection.begin():
        first = deliveries.claim(Session(connection, EVERY_ACCOUNT), world.webhook_id, LEASE)

        def claim(s: Session) -> Claimed | None:
            s.run(text("SET LOCAL lock_timeout = '1ms'"))
            return deliveries.claim(s, world.webhook_id, LEASE)

        second = world.run(claim)
        assert first is not None
        assert second is not None
        assert {first.conversation_id, second.conversation_id} == {"a", "b"}
        assert world.run(claim) is None
    engine.dispose()


def give_up(world: World, age: int) -> None:
    """Makes the first event a dead letter, which is so many microseconds old."""
    dead = world.claimed()
    aged = update(Delivery).where(Delivery.id == dead.id)

    def store(s: Session) -> None:
        deliveries.give_up(s, dead, "")
        s.run(aged.values(dead_time=Delivery.dead_time - age))

    world.run(store)


def test_old_dead_letters_go_and_what_was_stored_beside_the_end_of_its_webhook(
    world: World,
) -> None:
    for conversation_id in ("old", "new", "live"):
        world.record(conversation_id)
    for age in (2, 1):
        give_up(world, age * 86_400 * MICROS)

    def left() -> list[str]:
        world.run(lambda s: deliveries.sweep(s, 3 * 43_200 * MICROS))
        query = select(Delivery.conversation_id).order_by(Delivery.position)
        return world.run(lambda s: s.run(query).scalars())

    assert left() == ["new", "live"]
    world.run(lambda s: s.run(delete(Webhook)))
    assert left() == []

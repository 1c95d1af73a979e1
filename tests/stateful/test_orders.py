"""The orders of events that are kept (see `orders.py`): on SQLite, where they were found, and with
TEST_FLEETS=all on Postgres too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import Engine

from tests import postgres
from tests.stateful.guard_list import GUARDS, STATEFUL
from tests.stateful.orders import Order, load
from tests.stateful.setting import few_changes_matter, machine_on, open_engine

ORDERS = load()

KINDS = ("sqlite", "postgres") if os.environ.get("TEST_FLEETS") == "all" else ("sqlite",)


@pytest.fixture(scope="session")
def shared_engines(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Engine]]:
    """One database of each kind for all orders, each of which has an account of its own."""
    with ExitStack() as stack:
        engines = {}
        for kind in KINDS:
            url = None
            if kind == "postgres":
                server = request.getfixturevalue("postgres_server")
                template = request.getfixturevalue("postgres_template")
                url = stack.enter_context(postgres.database(server, template))
            folder = tmp_path_factory.mktemp("orders")
            engines[kind] = stack.enter_context(open_engine(folder, url))
        yield engines


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ORDERS, ids=[order.guard for order in ORDERS])
def test_what_went_wrong_without_a_guard_goes_well_with_it(
    shared_engines: dict[str, Engine], kind: str, order: Order
) -> None:
    with few_changes_matter():
        order.play(machine_on(shared_engines[kind]))


def test_every_order_is_of_a_guard() -> None:
    guarded = [guard.name for guard in GUARDS if guard.tests == STATEFUL]
    named = [order.guard for order in ORDERS]
    assert named == [name for name in guarded if name in named]

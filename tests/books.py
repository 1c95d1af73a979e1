"""What tests ask of usage and budgets, and what must always be true of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import resources_pb2 as resources
from colloquy_server.database.repository import budgets
from colloquy_server.database.transactions import EVERY_ACCOUNT, Session
from sqlalchemy import text

from tests.harness import Caller, Colloquy

DAY, MONTH = resources.Budget.PERIOD_DAY, resources.Budget.PERIOD_MONTH
USD, TOKENS = resources.Budget.UNIT_USD, resources.Budget.UNIT_TOKENS
REPLIES = resources.Budget.UNIT_REPLIES
BY_DAY, BY_USER = resources.USAGE_GROUP_DAY, resources.USAGE_GROUP_USER
BY_KEY, BY_MODEL = resources.USAGE_GROUP_API_KEY, resources.USAGE_GROUP_MODEL


async def ask(colloquy: Colloquy, method: str, request: Any) -> Any:
    """A call with the platform's key."""
    admin = colloquy.admin
    return await getattr(admin.admin, method)(request, metadata=admin.metadata)


async def set_budget(
    colloquy: Colloquy, caller: Caller, limit: float, **fields: Any
) -> resources.Budget:
    """A budget of the caller's account; of replies a day, where nothing else is said."""
    given = {"period": DAY, "unit": REPLIES, "account_id": caller.account_id, **fields}
    answer = await ask(colloquy, "SetBudget", admin_api.SetBudgetRequest(limit=limit, **given))
    return answer.budget  # type: ignore[no-any-return]


async def budgets_of(colloquy: Colloquy, caller: Caller) -> list[resources.Budget]:
    request = admin_api.ListBudgetsRequest(account_id=caller.account_id)
    return list((await ask(colloquy, "ListBudgets", request)).budgets)


async def budget_of(colloquy: Colloquy, caller: Caller) -> resources.Budget:
    """The account's only budget."""
    (budget,) = await budgets_of(colloquy, caller)
    return budget


async def usage_of(
    colloquy: Colloquy, caller: Caller, *groups: resources.UsageGroup.ValueType, **fields: Any
) -> list[resources.UsageRow]:
    """What the caller's account used."""
    request = admin_api.AdminServiceGetUsageRequest(
        account_id=caller.account_id, group_by=groups, **fields
    )
    return list((await ask(colloquy, "GetUsage", request)).rows)


async def total(colloquy: Colloquy, caller: Caller) -> resources.UsageRow:
    """All that the caller's account used."""
    (row,) = await usage_of(colloquy, caller)
    return row


@contextmanager
def forgotten(colloquy: Colloquy, message_id: str) -> Iterator[None]:
    """Has the server forget that it owns a reply, as if its process had died: it renews the lease
    no more. In the end its task goes, too."""
    reply = colloquy.app.replies.ownership.live.pop(message_id)
    assert reply.generation is not None
    try:
        yield
    finally:
        reply.generation.cancel()


async def stored(colloquy: Colloquy, query: str, **values: Any) -> list[tuple[Any, ...]]:
    """Rows of the database."""

    def read(s: Session) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in s.execute(text(query), values)]

    return await colloquy.app.db.read(EVERY_ACCOUNT, read)


async def change(colloquy: Colloquy, statement: str, **values: Any) -> None:
    """Writes to the database."""

    def write(s: Session) -> None:
        s.execute(text(statement), values)

    await colloquy.app.db.write(EVERY_ACCOUNT, write)


async def balanced(colloquy: Colloquy) -> None:
    """Checks that the counters of all budgets are what was used and what is reserved."""
    wrong, _ = await colloquy.app.db.read(EVERY_ACCOUNT, budgets.wrong_counters, "", 1_000)
    assert wrong == []


async def settled(colloquy: Colloquy) -> None:
    """Checks the same when no reply is on its way: nothing stays reserved."""
    await balanced(colloquy)
    assert await stored(colloquy, "SELECT * FROM reservations") == []
    assert await stored(colloquy, "SELECT * FROM budget_periods WHERE reserved <> 0") == []

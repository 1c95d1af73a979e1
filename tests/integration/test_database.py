"""The way to the database, where it goes wrong."""

from __future__ import annotations

import time

import pytest
from colloquy_server.database.engine import open_database
from colloquy_server.database.transactions import EVERY_ACCOUNT, DatabaseUnavailable, Session
from sqlalchemy import text


def stall(s: Session) -> None:
    """Lets the transaction wait for longer than Postgres bears, as a stopped process does."""
    s.execute(text("SET LOCAL idle_in_transaction_session_timeout = 20"))
    time.sleep(0.2)  # the event loop stands still, too


async def test_a_transaction_that_was_stopped_until_postgres_ended_it_runs_again(
    postgres_url: str,
) -> None:
    db = open_database(postgres_url, 2)
    runs = 0

    def once(s: Session) -> int:
        nonlocal runs
        runs += 1
        if runs == 1:
            stall(s)
        return runs

    assert await db.write(EVERY_ACCOUNT, once) == 2
    await db.close()


async def test_a_transaction_that_is_always_stopped_says_that_the_database_is_away(
    postgres_url: str,
) -> None:
    db = open_database(postgres_url, 2)
    with pytest.raises(DatabaseUnavailable):
        await db.write(EVERY_ACCOUNT, stall)
    await db.close()


async def test_an_error_that_no_future_takes_is_told_all_the_same(database_url: str) -> None:
    db = open_database(database_url, 1)

    def stop(_: Session) -> None:
        raise StopIteration

    for run in (db.read, db.write, db.write_first):
        with pytest.raises(RuntimeError) as told:
            await run(EVERY_ACCOUNT, stop)
        assert isinstance(told.value.__cause__, StopIteration)
    assert await db.write(EVERY_ACCOUNT, lambda _: "goes on") == "goes on"
    await db.close()

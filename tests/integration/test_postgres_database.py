"""Transactions on Postgres, when their callers go away."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from server.database import EVERY_ACCOUNT, PostgresDatabase, Session


async def test_a_read_whose_caller_goes_away_leaves_a_connection_that_can_write(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a busy machine, where psycopg lets others run in the middle of everything.
    monkeypatch.setattr("psycopg.waiting.MAX_BUSY_TIME", 0.0)

    def read(s: Session) -> None:
        s.execute(text("SELECT 1"))

    def write(s: Session) -> None:
        s.execute(text("UPDATE conversations SET version = version + 1"))

    url = make_url(postgres_url).set(drivername="postgresql+psycopg")
    database = PostgresDatabase(url, pool_size=1)
    try:
        await database.read(EVERY_ACCOUNT, read)
        for steps in range(40):
            reading = asyncio.create_task(database.read(EVERY_ACCOUNT, read))
            for _ in range(steps):
                await asyncio.sleep(0)
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
            await database.write(EVERY_ACCOUNT, write)
    finally:
        await database.close()


async def test_what_still_runs_ends_before_the_connections_are_closed(postgres_url: str) -> None:
    url = make_url(postgres_url).set(drivername="postgresql+psycopg")
    database = PostgresDatabase(url, pool_size=1)
    runs = asyncio.Event()
    has_ended = False

    def write(s: Session) -> None:
        nonlocal has_ended
        runs.set()
        s.execute(text("SELECT pg_sleep(0.2)"))
        has_ended = True

    writing = asyncio.create_task(database.write(EVERY_ACCOUNT, write))
    await runs.wait()
    await database.close()
    assert has_ended
    await writing

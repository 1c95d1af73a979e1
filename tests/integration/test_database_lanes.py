"""What keeps replies alive does not wait behind requests."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

from colloquy_server.database.engine import open_database
from colloquy_server.database.transactions import EVERY_ACCOUNT, Session
from sqlalchemy import text


async def test_on_sqlite_it_goes_before_all_that_waits(tmp_path: Path) -> None:
    db = open_database(f"sqlite:///{tmp_path}/colloquy.db", 1)
    goes_on = threading.Event()
    order: list[str] = []

    def hold(_: Session) -> None:
        goes_on.wait()

    def note(_: Session, name: str) -> None:
        order.append(name)

    holding = asyncio.create_task(db.write(EVERY_ACCOUNT, hold))
    waiting = [asyncio.create_task(db.write(EVERY_ACCOUNT, note, "request")) for _ in range(5)]
    first = asyncio.create_task(db.write_first(EVERY_ACCOUNT, note, "renewal"))
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    goes_on.set()
    await asyncio.gather(holding, first, *waiting[1:])
    assert order == ["renewal", *["request"] * 4]
    await db.close()


async def test_on_postgres_it_has_connections_of_its_own(postgres_url: str) -> None:
    db = open_database(postgres_url, 1)
    has_renewed = False
    runs = threading.Event()

    def hold(s: Session) -> bool:
        runs.set()
        s.execute(text("SELECT pg_sleep(0.2)"))
        return has_renewed

    holding = asyncio.create_task(db.write(EVERY_ACCOUNT, hold))
    await asyncio.to_thread(runs.wait)
    await db.write_first(EVERY_ACCOUNT, lambda s: s.execute(text("SELECT 1")))
    has_renewed = True
    assert await holding
    await db.close()


async def test_it_is_told_how_long_a_transaction_waits_to_begin(database_url: str) -> None:
    told: list[tuple[str, float]] = []
    db = open_database(database_url, 1, lambda what, seconds: told.append((what, seconds)))
    begun, end = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    is_sqlite = database_url.startswith("sqlite")

    def hold(s: Session) -> None:
        loop.call_soon_threadsafe(begun.set)
        if is_sqlite:
            end.wait()
        else:  # which is on the loop, and steps aside
            s.execute(text("SELECT pg_sleep(0.2)"))

    holding = asyncio.create_task(db.write(EVERY_ACCOUNT, hold))
    await begun.wait()
    waiting = asyncio.create_task(db.write(EVERY_ACCOUNT, lambda _: None))
    await asyncio.sleep(0)  # it has asked
    asked = time.monotonic()
    await asyncio.sleep(0.05)
    at_least = time.monotonic() - asked if is_sqlite else 0.0
    end.set()
    await asyncio.gather(holding, waiting)
    await db.write_first(EVERY_ACCOUNT, lambda _: None)
    await db.read(EVERY_ACCOUNT, lambda _: None)
    assert [what for what, _ in told] == ["write", "write", "write_first", "read"]
    assert told[1][1] >= at_least
    await db.close()

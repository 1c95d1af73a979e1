"""What keeps replies alive does not wait behind requests."""

from __future__ import annotations

import asyncio
import threading
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

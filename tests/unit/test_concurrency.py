"""Who waits for whom."""

from __future__ import annotations

import asyncio

from server.concurrency import Turns


async def test_accounts_take_turns_and_have_one_place_at_a_time_each() -> None:
    turns = Turns(2)
    begun: list[str] = []
    ends: dict[str, asyncio.Event] = {}

    async def work(name: str) -> None:
        async with turns.place(name[0]):
            begun.append(name)
            await ends.setdefault(name, asyncio.Event()).wait()

    async def settled() -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    names = ["a1", "a2", "a3", "b1", "c1", "a4"]
    tasks = {name: asyncio.create_task(work(name)) for name in names}
    await settled()
    assert begun == ["a1", "b1"]
    tasks["a2"].cancel()  # who goes away holds nobody up
    ends["a1"].set()
    await settled()
    assert begun == ["a1", "b1", "c1"]
    ends["b1"].set()
    await settled()
    assert begun == ["a1", "b1", "c1", "a3"]
    ends["a3"].set()
    ends["c1"].set()
    await settled()
    assert begun[-1] == "a4"
    ends["a4"].set()
    await asyncio.wait(tasks.values())

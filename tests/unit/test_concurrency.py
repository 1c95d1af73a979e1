"""Who waits for whom."""

from __future__ import annotations

import asyncio

from colloquy_server.concurrency import FairSemaphore


async def test_accounts_take_turns_and_have_one_slot_at_a_time_each() -> None:
    semaphore = FairSemaphore(2)
    begun: list[str] = []
    ends: dict[str, asyncio.Event] = {}

    async def work(name: str) -> None:
        async with semaphore.slot(name[0]):
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


async def test_one_account_s_crowd_delays_another_by_those_that_have_slots() -> None:
    semaphore = FairSemaphore(slots=2, each=2)
    done: list[str] = []
    goes_on = asyncio.Event()

    async def work(account: str) -> None:
        async with semaphore.slot(account):
            await goes_on.wait()
            done.append(account)

    crowd = [asyncio.create_task(work("many")) for _ in range(20)]
    await asyncio.sleep(0)
    one = asyncio.create_task(work("one"))
    await asyncio.sleep(0)
    goes_on.set()
    await asyncio.gather(one, *crowd)
    assert done.index("one") <= 4


async def test_an_account_has_no_more_than_its_slots() -> None:
    semaphore = FairSemaphore(slots=4, each=2)
    running = most = 0

    async def work() -> None:
        nonlocal running, most
        async with semaphore.slot("account"):
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1

    await asyncio.gather(*(work() for _ in range(10)))
    assert most == 2

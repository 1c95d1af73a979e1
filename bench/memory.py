"""How much memory a live stream takes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import grpc

from bench import paced
from bench.client import ServerClient
from bench.floors import tokens as floor
from bench.report import Row
from bench.stage import Databases, open_stage, paced_provider
from bench.streams import FloorTarget, ServerTarget, Target, run

FULL, QUICK = (100, 400), (100,)
"""Live streams."""

_RATE = 2
_TOKENS = 1_000
"""Slow and long: none ends before all are open."""


async def measure(databases: Databases, counts: Sequence[int]) -> list[Row]:
    """A new server and a new floor that open as many streams; no row where memory is not known."""
    async with (
        paced_provider() as base_url,
        open_stage(databases, base_url, floor.__name__) as stage,
    ):
        client = await ServerClient.sign_up(stage.server.address)
        beside = await _each(FloorTarget(stage.floor), counts)
        server = await _each(ServerTarget(stage.server, client), counts)
        return [
            Row(
                *("memory", databases.kind, f"{count} live streams", "KiB a stream"),
                of_server,
                of_floor,
                of_server / of_floor if of_floor > 0 else None,
            )
            for count, of_server, of_floor in zip(counts, server, beside, strict=False)
        ]


async def _each(target: Target, counts: Sequence[int]) -> list[float]:
    """KiB a stream at each count, beside what the process had after a few streams."""
    await run(target, 10, 3.0)
    before = (await target.process.read()).memory
    await target.prepare(counts[-1])
    tasks: list[asyncio.Task[None]] = []
    found = []
    for count in counts:
        has_text = [asyncio.Event() for _ in range(len(tasks), count)]
        tasks += [
            asyncio.create_task(_hold(target, number, event))
            for number, event in enumerate(has_text, len(tasks))
        ]
        for event in has_text:
            await event.wait()
        now = (await target.process.read()).memory
        if before is not None and now is not None:
            found.append((now - before) / 1024 / count)
    for task in tasks:
        task.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks)
    await target.close()
    return found


async def _hold(target: Target, number: int, has_text: asyncio.Event) -> None:
    call = target.open(number, paced.orders(number, _TOKENS, _RATE))
    messages = 0
    while await call.read() is not grpc.aio.EOF:
        messages += 1
        if messages > target.messages_before_text:
            has_text.set()

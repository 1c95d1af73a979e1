"""What a reply costs when much was said before: in the account, and in its conversation."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence
from itertools import pairwise

from bench import instant
from bench.client import ServerClient
from bench.filling import fill_floor, fill_server
from bench.floors import replies as floor
from bench.replies import WARM_UP, FloorTarget, ServerTarget, Shape, run, talk
from bench.report import Row, compared
from bench.stage import Databases, open_stage

FULL, QUICK = (10, 1_000, 100_000), (10, 1_000)
"""Messages of the account, in other conversations."""

IN_CONVERSATION = (2, 400)
"""Exchanges of the conversation itself."""

_EXCHANGES = 5
"""Of each of the other conversations."""

_SHAPE = Shape("8 conversations", conversations=8, replies=64)


async def measure(databases: Databases, rounds: int, in_account: Sequence[int]) -> list[Row]:
    """The floor has no account to fill: there, what stands beside is the server's own cost when
    only little had been said."""
    rows = []
    kind = databases.kind
    async with (
        instant.serving() as base_url,
        open_stage(databases, base_url, floor.__name__) as stage,
    ):
        client = await ServerClient.sign_up(stage.server.address)
        server, beside = ServerTarget(stage.server, client), FloorTarget(stage.floor)
        for target in (beside, server):
            await run(target, WARM_UP)
        for exchanges in IN_CONVERSATION:
            costs = []
            for _ in range(rounds):
                count = _SHAPE.conversations
                beside.conversations = await asyncio.to_thread(
                    fill_floor, stage.floor_url, count, exchanges
                )
                server.conversations = await asyncio.to_thread(
                    fill_server, stage.server_url, count, exchanges
                )
                costs.append([await talk(target, _SHAPE) for target in (server, beside)])
            of_server, of_floor = zip(*costs, strict=True)
            rows.append(
                compared(
                    *("history", kind, f"after {exchanges} exchanges", "ms CPU a reply"),
                    [cost.cpu for cost in of_server],
                    [cost.cpu for cost in of_floor],
                )
            )
    async with (
        instant.serving() as base_url,
        open_stage(databases, base_url, floor.__name__) as stage,
    ):
        client = await ServerClient.sign_up(stage.server.address)
        server = ServerTarget(stage.server, client)
        await run(server, WARM_UP)
        first = 0.0
        for before, messages in pairwise((0, *in_account)):
            more = (messages - before) // (2 * _EXCHANGES)
            await asyncio.to_thread(fill_server, stage.server_url, more, _EXCHANGES)
            cost = statistics.median([(await run(server, _SHAPE)).cpu for _ in range(rounds)])
            first = first or cost
            what = f"{messages:,} messages in the account (beside: {in_account[0]})"
            rows.append(Row("history", kind, what, "ms CPU a reply", cost, first, cost / first))
    return rows

"""What a streamed token costs, and how long the first one takes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from bench.client import ServerClient
from bench.floors import tokens as floor
from bench.report import Limit, Row, compared
from bench.stage import Databases, open_stage, paced_provider
from bench.streams import (
    Disturbed,
    FloorTarget,
    Run,
    ServerTarget,
    Target,
    first_tokens,
    run,
    run_once,
)

STEADY_LIMIT = {"sqlite": Limit(1.25), "postgres": Limit(1.35)}
WHOLE_LIMIT = Limit(1.35)
"""Times the floor's CPU at the highest load."""

ALONE_LIMIT = Limit(2.0)
"""Times the floor's added time to the first token, of one stream at a time."""

P50_LIMIT, P99_LIMIT, WATCHED_P99_LIMIT = Limit(25), Limit(120), Limit(200)
"""Milliseconds to the first token that the server adds when 100 streams a second begin; the last
one where each conversation has a second watcher."""


@dataclass(frozen=True)
class Load:
    """Streams at once, for so many seconds."""

    streams: int
    seconds: float
    rounds: int


@dataclass(frozen=True)
class Plan:
    """How much is measured. The last load is the one that has limits."""

    loads: Sequence[Load]
    alone: int
    """Streams one after the other."""


FULL = Plan((Load(1, 4.0, 2), Load(50, 4.0, 1), Load(100, 6.0, 3)), alone=10)
QUICK = Plan((Load(100, 4.0, 1),), alone=5)


@dataclass
class _Pair:
    """The runs of the floor and of the server, one of each a round."""

    floor: list[Run] = field(default_factory=list)
    server: list[Run] = field(default_factory=list)

    def row(
        self, database: str, what: str, value: Callable[[Run], float], limit: Limit | None
    ) -> Row:
        return compared(
            *("tokens", database, what, "µs CPU a token"),
            [value(one) for one in self.server],
            [value(one) for one in self.floor],
            limit,
        )


async def measure(databases: Databases, plan: Plan) -> list[Row]:
    """Floor and server in turn, at each load."""
    kind = databases.kind
    async with (
        paced_provider() as base_url,
        open_stage(databases, base_url, floor.__name__) as stage,
    ):
        client = await ServerClient.sign_up(stage.server.address)
        targets: tuple[Target, Target] = (
            FloorTarget(stage.floor),
            ServerTarget(stage.server, client),
        )
        for target in targets:  # what is loaded or compiled at first use
            with suppress(Disturbed):
                await run_once(target, plan.loads[-1].streams, 2.0)
        alone = [await first_tokens(target, plan.alone) for target in targets]
        rows = [
            compared(
                *("tokens", kind, "first token, one stream alone", "ms added"),
                [statistics.median(alone[1])],
                [statistics.median(alone[0])],
                ALONE_LIMIT,
            )
        ]
        for load in plan.loads:
            pair = _Pair()
            for _ in range(load.rounds):
                pair.floor.append(await run(targets[0], load.streams, load.seconds))
                pair.server.append(await run(targets[1], load.streams, load.seconds))
            rows += _rows(kind, load, pair, is_last=load is plan.loads[-1])
        watched = ServerTarget(stage.server, client, watchers=1)
        top = plan.loads[-1]
        with_watcher = [await run(watched, top.streams, top.seconds)]
        what = f"{top.streams} streams, each with a second watcher"
        rows += [
            Row("tokens", kind, f"{what}: steady", "µs CPU a token", with_watcher[0].cpu),
            _first_token(kind, what, with_watcher, 0.99, WATCHED_P99_LIMIT),
        ]
        return rows


def _rows(kind: str, load: Load, pair: _Pair, *, is_last: bool) -> list[Row]:
    what = f"{load.streams} stream{'s' if load.streams > 1 else ''}"
    steady = STEADY_LIMIT[kind] if is_last else None
    rows = [pair.row(kind, f"{what}: steady", lambda one: one.cpu, steady)]
    if is_last:
        rows += [
            pair.row(kind, f"{what}: whole", lambda one: one.whole_cpu, WHOLE_LIMIT),
            _first_token(kind, what, pair.server, 0.5, P50_LIMIT, pair.floor),
            _first_token(kind, what, pair.server, 0.99, P99_LIMIT, pair.floor),
        ]
    return rows


def _first_token(
    kind: str,
    what: str,
    server: Sequence[Run],
    part: float,
    limit: Limit,
    beside: Sequence[Run] | None = None,
) -> Row:
    """A percentile of all streams of all rounds: the 99th, of a hundred, would be the slowest."""
    return Row(
        *("tokens", kind, f"{what}: first token p{part * 100:.0f}", "ms added"),
        _percentile(server, part),
        None if beside is None else _percentile(beside, part),
        limit=limit,
    )


def _percentile(runs: Sequence[Run], part: float) -> float:
    times = sorted(at for one in runs for at in one.first_token)
    return times[min(len(times) - 1, int(len(times) * part))]

"""What goes wrong during a run."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import psycopg

from tests.chaos.fleet import LEASE_TTL, Fleet, Replica

INTERVAL = 2.0  # seconds between two blows
_LAST = 0.3
"""How likely the last replica that runs is stopped too: mostly it is left to do some work, where
processes start so slowly that there would be none else."""


@dataclass(frozen=True)
class Blow:
    """Something that was done to a replica: `key` names the process; times are of time.time().

    `until` is when a stopped process went on, or the process had ended.
    """

    kind: str
    key: str
    began: float
    until: float


@dataclass
class Monkey:
    """Breaks a fleet, by a seed."""

    fleet: Fleet
    rng: random.Random
    blows: list[Blow] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """How long starts and drains took."""
    _bag: list[Callable[[Replica], Coroutine[Any, Any, None]]] = field(default_factory=list)

    async def run(self, seconds: float) -> None:
        """Every two seconds a replica; Postgres once, in the middle; the bus four times."""
        rounds = max(4, int(seconds / INTERVAL))
        restart = rounds // 2
        cuts = {max(1, rounds * part // 5) for part in range(1, 5)} - {restart}
        tasks: list[asyncio.Task[None]] = []
        for number in range(1, rounds + 1):
            await asyncio.sleep(INTERVAL)
            up = [replica for replica in self.fleet.replicas if replica.is_up]
            if len(up) > 1:
                tasks.append(asyncio.create_task(self._next_blow()(self.rng.choice(up))))
            elif up and self.rng.random() < _LAST:
                tasks.append(asyncio.create_task(self._stop(up[0])))
            if number == restart:
                tasks.append(asyncio.create_task(self._restart_postgres()))
            if number in cuts:
                tasks.append(asyncio.create_task(self._cut()))
        await asyncio.gather(*tasks)

    def _next_blow(self) -> Callable[[Replica], Coroutine[Any, Any, None]]:
        """Each kind in turn, in any order."""
        if not self._bag:
            self._bag = [self._kill, self._stop, self._drain]
            self.rng.shuffle(self._bag)
        return self._bag.pop()

    async def _kill(self, replica: Replica) -> None:
        key, began = replica.key, time.time()
        self.counts["kills"] += 1
        await self.fleet.end(replica, signal.SIGKILL)
        self.blows.append(Blow("kill", key, began, time.time()))
        await asyncio.sleep(self.rng.random())
        await self._start(replica)

    async def _stop(self, replica: Replica) -> None:
        key, began = replica.key, time.time()
        pause = LEASE_TTL + 0.5 + 2 * self.rng.random()
        self.counts["stops"] += 1
        replica.is_up = False
        replica.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(pause)
        self.blows.append(Blow("stop", key, began, time.time()))
        replica.process.send_signal(signal.SIGCONT)
        replica.is_up = True

    async def _drain(self, replica: Replica) -> None:
        key, began = replica.key, time.time()
        self.counts["drains"] += 1
        code = await self.fleet.end(replica, signal.SIGTERM)
        self.blows.append(Blow("drain", key, began, time.time()))
        if code != 0:
            self.problems.append(f"{key} ended its drain with {code}")
        self.seconds["a drain"].append(time.time() - began)
        await self._start(replica)

    async def _start(self, replica: Replica) -> None:
        began = time.time()
        await self.fleet.start(replica)
        self.seconds["a start"].append(time.time() - began)

    async def _restart_postgres(self) -> None:
        self.counts["restarts of Postgres"] += 1
        mode = self.rng.choice(("fast", "immediate"))
        await self.fleet.restart_postgres(mode, self.rng.random())

    async def _cut(self) -> None:
        with contextlib.suppress(psycopg.OperationalError):
            self.counts["connections of the bus cut"] += await self.fleet.cut_the_bus(
                self.rng.choice((0.5, 1.0))
            )

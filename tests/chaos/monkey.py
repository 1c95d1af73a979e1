"""What goes wrong during a run."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field

import psycopg

from tests.chaos.fleet import LEASE_TTL, Fleet, Replica

INTERVAL = 2.0  # seconds between two blows


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

    async def run(self, seconds: float) -> None:
        """Every two seconds a replica; Postgres once, in the middle; the bus four times."""
        rounds = max(4, int(seconds / INTERVAL))
        restart = rounds // 2
        cuts = {max(1, rounds * part // 5) for part in range(1, 5)} - {restart}
        tasks: list[asyncio.Task[None]] = []
        for number in range(1, rounds + 1):
            await asyncio.sleep(INTERVAL)
            up = [replica for replica in self.fleet.replicas if replica.is_up]
            # The last one that runs is only stopped: it is back sooner than one that starts anew.
            blows = (self._kill, self._stop, self._drain) if len(up) > 1 else (self._stop,)
            if up:
                tasks.append(asyncio.create_task(self.rng.choice(blows)(self.rng.choice(up))))
            if number == restart:
                tasks.append(asyncio.create_task(self._restart_postgres()))
            if number in cuts:
                tasks.append(asyncio.create_task(self._cut()))
        await asyncio.gather(*tasks)

    async def _kill(self, replica: Replica) -> None:
        key, began = replica.key, time.time()
        self.counts["kills"] += 1
        await self.fleet.end(replica, signal.SIGKILL)
        self.blows.append(Blow("kill", key, began, time.time()))
        await asyncio.sleep(self.rng.random())
        await self.fleet.start(replica)

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
        await self.fleet.start(replica)

    async def _restart_postgres(self) -> None:
        self.counts["restarts of Postgres"] += 1
        mode = self.rng.choice(("fast", "immediate"))
        await self.fleet.restart_postgres(mode, self.rng.random())

    async def _cut(self) -> None:
        with contextlib.suppress(psycopg.OperationalError):
            self.counts["connections of the bus cut"] += await self.fleet.cut_the_bus(
                self.rng.choice((0.5, 1.0))
            )

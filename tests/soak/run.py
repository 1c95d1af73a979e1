"""One soak: people come and go, servers are started again, and at last everybody leaves."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.fleet import Fleet
from tests.soak import served
from tests.soak.measures import Line, Sample, Sampler, judge, table
from tests.soak.people import Person, Town, town

_WARM_UP = 0.2
"""The share of a run after which it is steady: before, servers are killed and stopped, tables fill
and caches grow to what they are."""

_SAMPLES = 60
_COLLECTING = 5
"""How many samples are taken while it is steady, and each how many-th after a collection of
garbage."""

_RESTART = 20.0
"""Seconds between two restarts of the second server, where there are two."""

_PATIENCE = 120.0
"""Seconds for what people left behind to be cleared away, on a machine that has much to do."""


@dataclass
class Report:
    """What a soak counted, its table, and what was wrong."""

    counts: Counter[str] = field(default_factory=Counter)
    lines: list[Line] = field(default_factory=list)
    left: dict[str, tuple[float, float]] = field(default_factory=dict)
    """What the server held before anybody came, and after all had left."""
    problems: list[str] = field(default_factory=list)

    def text(self) -> list[str]:
        """For people."""
        lines = [f"{count:7,} {what}" for what, count in sorted(self.counts.items())]
        lines += table(self.lines)
        return lines + [
            f"{what}: {before:,.0f} before anybody came, {after:,.0f} after all had left"
            for what, (before, after) in self.left.items()
        ]


@asynccontextmanager
async def measured_fleet(
    folder: Path,
    environment: Mapping[str, str] = {},
    *,
    on_sqlite: bool = True,
    run: Callable[[], int] = served.run,
) -> AsyncIterator[Fleet]:
    """Servers that tell what they hold: one on SQLite, or two on Postgres."""
    async with Fleet(
        folder,
        1 if on_sqlite else 2,
        on_sqlite=on_sqlite,
        run=run,
        **{"MAX_REQUESTS_PER_SECOND": "10000", **environment},
    ) as fleet:
        try:
            yield fleet
        finally:
            (folder / "servers.log").write_text("\n".join(fleet.log_lines()))


async def run(
    seconds: float,
    seed: int,
    folder: Path,
    *,
    people: int = 8,
    on_sqlite: bool = True,
    judges: bool = True,
) -> Report:
    """Has so many people come and go for so long. Logs are kept in the folder. `judges` is whether
    what grows is a problem: in some seconds nothing is flat yet."""
    async with measured_fleet(folder, on_sqlite=on_sqlite) as fleet:
        report = await _Soak(fleet, seconds, seed, people).run()
    if judges:
        report.problems += [f"{line.name} grows" for line in report.lines if not line.is_flat]
    return report


class _Soak:
    def __init__(self, fleet: Fleet, seconds: float, seed: int, people: int) -> None:
        self._fleet = fleet
        self._seconds = seconds
        self._seed = seed
        self._people = people
        self._report = Report()
        self._town: Town | None = None
        self._sampler = Sampler(fleet, fleet.replicas[0], lambda: self._counts["replies"])

    @property
    def _counts(self) -> Counter[str]:
        return self._town.counts if self._town is not None else Counter()

    async def run(self) -> Report:
        before = await self._sampler.held()
        began = time.monotonic()
        async with town(self._fleet, self._seed, held=2 * self._people) as self._town:
            async with asyncio.TaskGroup() as group:
                for number in range(self._people):
                    name = f"person {number}"
                    rng = random.Random(f"{self._seed}/{name}")
                    person = Person(self._town, name, rng)
                    group.create_task(person.run(began + self._seconds))
                restarts = group.create_task(self._restart(began))
                if len(self._fleet.replicas) == 1:
                    await restarts  # one that is started again cannot be asked what it holds
                await self._watch_closely(began)
                await restarts
            while self._town.kept:
                await self._town.kept.popleft()()
        await self._wait_until_all_have_left(before)
        self._conclude()
        return self._report

    async def _restart(self, began: float) -> None:
        """One server is started again only before it is watched closely; a second one all the
        time."""
        *_, replica = self._fleet.replicas
        ends = [signal.SIGKILL, signal.SIGTERM]
        if len(self._fleet.replicas) == 1:
            pause, until = self._seconds * _WARM_UP / 6, began + self._seconds * _WARM_UP * 0.8
        else:
            pause, until = min(_RESTART, self._seconds / 5), began + self._seconds
        while time.monotonic() + pause < until:
            await asyncio.sleep(pause)
            number = ends[self._counts["restarts"] % 2]
            await self._fleet.end(replica, number)
            await self._fleet.start(replica)
            self._counts["restarts"] += 1

    async def _watch_closely(self, began: float) -> None:
        begins = max(time.monotonic(), began + self._seconds * _WARM_UP)
        ends = max(begins, began + self._seconds)
        for number in range(_SAMPLES):
            at = begins + (ends - begins) * number / _SAMPLES
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            await self._sampler.take(collects=number % _COLLECTING == 0)

    async def _wait_until_all_have_left(self, before: Sample) -> None:
        """Until the server holds no more than before anybody came, and nothing is stored of what
        was deleted."""
        until = time.monotonic() + _PATIENCE
        while True:
            sample = await self._sampler.take(collects=True)
            left = self._left(before, sample)
            if not left or time.monotonic() > until:
                break
            await asyncio.sleep(0.5)
        for name in ("tasks", "descriptors", "threads"):
            self._report.left[name] = before.values[name], sample.values[name]
        self._report.problems += left

    def _left(self, before: Sample, now: Sample) -> list[str]:
        found = [
            f"{now.values[name]:.0f} {name} when all have left, and {before.values[name]:.0f}"
            " before anybody came"
            for name, slack in _IDLE.items()
            if now.values[name] > before.values[name] + slack
        ]
        found += [
            f"{now.tables[name]} entries in {name} when all have left"
            for name in _EMPTY
            if now.tables.get(name)
        ]
        found += [
            f"{now.rows[name]} rows of {name} when all is deleted"
            for name in _EMPTY_TABLES
            if now.rows[name]
        ]
        if now.values["files"]:
            found.append(f"{now.values['files']:.0f} files when all is deleted")
        return found

    def _conclude(self) -> None:
        report = self._report
        report.counts = self._counts
        report.lines = judge(self._sampler.samples[:_SAMPLES])
        report.problems += self._town.problems if self._town is not None else []
        report.problems += errors_of(self._fleet)


_IDLE = {"tasks": 0, "descriptors": 16, "threads": 12}
"""What a server may have more when all have left than when it was new: connections to its database
and threads, which it opens when it needs them and keeps."""

_EMPTY = (
    "Feeds._feeds",
    "Feeds.live",
    "Ownership.live",
    "Publisher._dirty",
    "AccountFeeds._feeds",
)
_EMPTY_TABLES = (
    "conversations",
    "messages",
    "memberships",
    "receipts",
    "search_entries",
    "attachments",
    "message_attachments",
    "blobs",
    "removals",
    "readings",
    "personal_states",
)


def errors_of(fleet: Fleet) -> list[str]:
    """What servers said that they never should."""
    return [
        f"a server said: {_short(line)}"
        for line in fleet.log_lines()
        if '"level":"error"' in line or line.startswith("asyncio: ")
    ]


def _short(line: str) -> str:
    try:
        said = json.loads(line)
    except json.JSONDecodeError:
        return line[:300]
    exception = str(said.pop("exception", ""))
    return f"{json.dumps(said)} {exception[-1500:]}"

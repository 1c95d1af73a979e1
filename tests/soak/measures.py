"""What a server takes, noted again and again, and whether it stays the same."""

from __future__ import annotations

import asyncio
import signal
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.chaos.fleet import Fleet, Replica

_MEBI = 1 << 20


@dataclass(frozen=True)
class Measure:
    """One thing that is measured, and by how much its last third may be above the middle one: by
    `margin`, a share of it, and by `slack`, in its unit."""

    name: str
    unit: str
    slack: float
    margin: float = 0.1

    def is_flat(self, middle: float, last: float) -> bool:
        """Whether the last third is no more above the middle one than what may come by chance."""
        return last <= middle * (1 + self.margin) + self.slack


MEASURES = (
    Measure("memory", "MiB", 4, 0.03),
    Measure("descriptors", "", 15),
    Measure("threads", "", 4),
    Measure("tasks", "", 40),
    Measure("entries in tables", "", 200),
    Measure("Python objects, garbage collected", "", 8_000),
    Measure("database", "MiB", 2, 0.25),
    Measure("rows", "", 150),
    Measure("file store", "MiB", 1),
    Measure("files", "", 15),
)
"""Margins are for chance: how many people are there, and what they do, changes all the time."""

KEPT = {"audit_events", "conversation_removals", "cancel_wishes"}
"""Tables whose rows outlive what they tell of, for a promised time: a trail of 400 days, what was
removed from lists for those that come back, wishes of an hour."""


@dataclass
class Sample:
    """What one replica held at a time: values by the names of MEASURES, entries by table."""

    replies: int
    """How many replies had been made."""
    values: dict[str, float] = field(default_factory=dict)
    tables: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)


class Sampler:
    """Notes what a replica of a fleet takes."""

    def __init__(self, fleet: Fleet, replica: Replica, replies: Callable[[], int]) -> None:
        self._fleet = fleet
        self._replica = replica
        self._replies = replies
        self._names: list[str] = []
        self.samples: list[Sample] = []

    async def take(self, *, collects: bool = False) -> Sample:
        """Takes a sample; its Python objects only where it `collects` garbage before."""
        sample = await self.held(collects=collects)
        await self._measure_database(sample)
        self.samples.append(sample)
        return sample

    async def held(self, *, collects: bool = False) -> Sample:
        """What the process holds, without what is stored."""
        process = self._replica.process
        since = len(process.lines)
        process.send_signal(signal.SIGUSR2 if collects else signal.SIGUSR1)
        told = (await process.logged("measured", since=since))[0]
        proc = Path("/proc", str(process.pid))
        values = {
            "memory": _status(proc, "RssAnon") / 1_024,
            "threads": _status(proc, "Threads"),
            "descriptors": float(len(list((proc / "fd").iterdir()))),
            "tasks": float(told["tasks"]),
            "entries in tables": float(sum(told["tables"].values())),
        }
        if collects:
            values["Python objects, garbage collected"] = float(told["objects"])
        return Sample(self._replies(), values, told["tables"])

    async def _measure_database(self, sample: Sample) -> None:
        if not self._names:
            self._names = await self._fleet.tables()
        counts = ", ".join(f"(SELECT count(*) FROM {name}) AS {name}" for name in self._names)
        sample.rows = (await self._fleet.query(f"SELECT {counts}"))[0]
        kept = sum(count for name, count in sample.rows.items() if name not in KEPT)
        sample.values["rows"] = float(kept)
        sample.values["database"] = await self._fleet.database_bytes() / _MEBI
        files = await asyncio.to_thread(_sizes, self._fleet.folder / "files")
        sample.values["files"] = float(len(files))
        sample.values["file store"] = sum(files) / _MEBI


def _status(proc: Path, name: str) -> float:
    for line in (proc / "status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return float(line.split()[1])
    raise KeyError(name)


def _sizes(folder: Path) -> list[int]:
    found = []
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                found.append(path.stat().st_size)
        except FileNotFoundError:  # it was removed meanwhile
            continue
    return found


class Thirds:
    """The samples of the steady part of a run, in thirds."""

    def __init__(self, samples: list[Sample]) -> None:
        """Takes at least three samples."""
        size = len(samples) // 3
        self._thirds = samples[:size], samples[size : 2 * size], samples[2 * size :]
        self._first, self._last = samples[0], samples[-1]

    def medians(self, value_of: Callable[[Sample], float | None]) -> list[float]:
        """At the start, and in each third; none when it was not measured."""
        start = value_of(self._first)
        found = [[v for s in third if (v := value_of(s)) is not None] for third in self._thirds]
        if start is None or not all(found):
            return []
        return [start, *map(statistics.median, found)]

    @property
    def replies(self) -> int:
        """How many were made from the middle of the second third to that of the last."""
        middles = [third[len(third) // 2].replies for third in self._thirds]
        return middles[2] - middles[1]


@dataclass(frozen=True)
class Line:
    """A line of the soak's table."""

    name: str
    unit: str
    medians: list[float]
    is_flat: bool
    note: str = ""

    def cells(self) -> tuple[str, ...]:
        """As text, by HEADINGS."""
        verdict = "flat" if self.is_flat else "GROWS"
        name = f"{self.name} ({self.unit})" if self.unit else self.name
        return (name, *map(_number, self.medians), verdict, self.note)


HEADINGS = ("measure", "start", "first third", "middle third", "last third", "verdict", "")


def judge(samples: list[Sample]) -> list[Line]:
    """The table: all measures, and each table of the server or the database that grew."""
    thirds = Thirds(samples)
    lines = []
    for measure in MEASURES:
        medians = thirds.medians(partial(_value, name=measure.name))
        if not medians:
            continue
        note = ""
        if measure.name == "memory" and thirds.replies:
            growth = (medians[3] - medians[2]) * 1_024 / thirds.replies * 1_000
            note = f"{growth:+,.0f} KiB for 1,000 replies"
        is_flat = measure.is_flat(medians[2], medians[3])
        lines.append(Line(measure.name, measure.unit, medians, is_flat, note))
    lines += _grown("entries of", thirds, samples, lambda sample: sample.tables)
    lines += [
        line
        for line in _grown("rows of", thirds, samples, lambda sample: sample.rows)
        if line.name.rpartition(" ")[2] not in KEPT
    ]
    return lines


def _value(sample: Sample, name: str) -> float | None:
    return sample.values.get(name)


def _entries(sample: Sample, name: str, tables: Callable[[Sample], dict[str, int]]) -> float:
    return tables(sample).get(name, 0)


_TABLE = Measure("", "", 60, 0.3)
"""What is allowed to a single table."""


def _grown(
    what: str,
    thirds: Thirds,
    samples: list[Sample],
    tables: Callable[[Sample], dict[str, int]],
) -> Iterable[Line]:
    for name in sorted({name for sample in samples for name in tables(sample)}):
        medians = thirds.medians(partial(_entries, name=name, tables=tables))
        if medians and not _TABLE.is_flat(medians[2], medians[3]):
            yield Line(f"{what} {name}", "", medians, is_flat=False)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def table(lines: list[Line]) -> list[str]:
    """The lines of the table, as Markdown has it."""
    rows: list[tuple[Any, ...]] = [HEADINGS, tuple("---" for _ in HEADINGS)]
    rows += [line.cells() for line in lines]
    return [f"| {' | '.join(row)} |" for row in rows]

"""One run: the fleet, the monkey, talkers and watchers, then the checks."""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from colloquy.api import resources_pb2 as resources

from tests.chaos.checks import JUDGED, Judge, read_asks
from tests.chaos.fleet import Fleet
from tests.chaos.monkey import Monkey
from tests.chaos.talkers import Ledger, Talker, clients
from tests.chaos.watchers import Watcher

REPLICAS = 3
CONVERSATIONS = 30

_SAMPLE_INTERVAL = 0.25
_FINISH = 90.0
"""Seconds for everything to finish when the chaos is over, on a machine that has much to do."""


@dataclass
class Report:
    """What a run counted, how long what took (seconds), and what was wrong."""

    counts: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people."""
        lines = [f"{count:6} {what}" for what, count in self.counts.items()]
        for what, seconds in sorted(self.seconds.items()):
            ordered = sorted(seconds)
            p50, p95 = (ordered[int(len(ordered) * share)] for share in (0.5, 0.95))
            lines.append(
                f"{what}: p50 {p50:.2f} s, p95 {p95:.2f} s, max {ordered[-1]:.2f} s"
                f" ({len(ordered)})"
            )
        lines += [f"PROBLEM {problem}" for problem in self.problems]
        return lines


async def run(seconds: float, seed: int, folder: Path | None = None) -> Report:
    """Talks for so many seconds, and judges. With a folder, its logs are kept there."""
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="colloquy-chaos-") as temporary:
            return await run(seconds, seed, Path(temporary))
    async with Fleet(folder, REPLICAS) as fleet:
        try:
            return await _Run(fleet, seed).run(seconds)
        finally:
            (folder / "servers.log").write_text("\n".join(fleet.log_lines()))


class _Run:
    def __init__(self, fleet: Fleet, seed: int) -> None:
        self._fleet = fleet
        self._seed = seed
        self._report = Report()
        self._ledger = Ledger()
        self._watchers: list[Watcher] = []
        self._watching: list[asyncio.Task[None]] = []
        self._finals: dict[str, tuple[int, str]] = {}

    def _random(self, name: str) -> random.Random:
        return random.Random(f"{self._seed}/{name}")

    async def run(self, seconds: float) -> Report:
        sampling = asyncio.create_task(self._sample())
        monkey = Monkey(self._fleet, self._random("monkey"))
        try:
            async with clients(self._fleet) as library:
                talkers = []
                for number in range(CONVERSATIONS):
                    conversation = await library[0].create_conversation()
                    name = f"c{number:02}"
                    talkers.append(
                        Talker(conversation.id, name, library, self._random(name), self._ledger)
                    )
                    self._watch(conversation.id, name)
                async with asyncio.TaskGroup() as group:
                    group.create_task(monkey.run(seconds))
                    for talker in talkers:
                        group.create_task(talker.run(seconds))
            await self._finish()
        finally:
            for task in [sampling, *self._watching]:
                task.cancel()
            await asyncio.gather(sampling, *self._watching, return_exceptions=True)
        self._judge(await self._rows(), monkey)
        return self._report

    def _watch(self, conversation_id: str, name: str) -> None:
        for number in range(2):
            watcher = Watcher(
                self._fleet,
                conversation_id,
                f"watcher {number} of {name}",
                self._random(f"{name}/{number}"),
                self._report.counts,
                self._report.problems,
                is_patient=number == 1,
            )
            self._watchers.append(watcher)
            self._watching.append(asyncio.create_task(watcher.run()))

    async def _sample(self) -> None:
        """Looks again and again whether what must never be is."""
        while True:
            try:
                busy = await self._fleet.query(
                    "SELECT conversation_id FROM messages WHERE state = 2"
                    " GROUP BY conversation_id HAVING count(*) > 1"
                )
                finals = await self._fleet.query(
                    "SELECT id, state, content FROM messages"
                    " WHERE role = 2 AND state > 2 AND NOT deleted"
                )
            except psycopg.OperationalError:
                busy = finals = []
            for row in busy:
                self._report.problems.append(f"{row['conversation_id']} has two active replies")
            for row in finals:
                end = (row["state"], row["content"])
                if self._finals.setdefault(row["id"], end) != end:
                    self._report.problems.append(
                        f"reply {row['id']} ended as {self._finals[row['id']]}, and is now {end}"
                    )
                    self._finals[row["id"]] = end
            self._report.counts["samples of the database"] += 1
            await asyncio.sleep(_SAMPLE_INTERVAL)

    async def _finish(self) -> None:
        """Waits until nothing is left to do and every watcher knows all there is."""
        began = time.monotonic()
        while True:
            left = (await self._fleet.query("SELECT count(*) AS n FROM messages WHERE state < 3"))[
                0
            ]["n"]
            owed = await self._fleet.query("SELECT id FROM conversations WHERE title_owed > 0")
            if not left and not owed:
                break
            if time.monotonic() - began > _FINISH:
                if owed:
                    self._report.problems.append(f"{len(owed)} conversations wait for their title")
                break
            await asyncio.sleep(0.2)
        lacking: dict[str, str] = {}
        while time.monotonic() - began < _FINISH:
            lacking = await self._lacking()
            if not lacking:
                return
            await asyncio.sleep(0.5)
        self._report.problems += [f"{name}: {what}" for name, what in lacking.items()]

    async def _lacking(self) -> dict[str, str]:
        lacking = {}
        stored: dict[str, list[resources.Message]] = {}
        for watcher in self._watchers:
            if watcher.is_broken:
                continue
            if watcher.conversation_id not in stored:
                stored[watcher.conversation_id] = await self._fleet.history(watcher.conversation_id)
            what = watcher.lacks(stored[watcher.conversation_id])
            if what:
                lacking[watcher.name] = what
        return lacking

    async def _rows(self) -> list[dict[str, Any]]:
        return await self._fleet.query(
            f"SELECT {JUDGED} FROM messages ORDER BY conversation_id, position"
        )

    def _judge(self, rows: list[dict[str, Any]], monkey: Monkey) -> None:
        report = self._report
        asks = read_asks(self._fleet.asks())
        judge = Judge(rows, asks, self._ledger, self._watchers, monkey.blows)
        judge.judge()
        events = Counter[str]()
        for line in self._fleet.log_lines():
            if '"level": "error"' in line or line.startswith("asyncio: "):
                events["lines of errors in the servers' logs"] += 1
                report.problems.append(f"a server said: {_short(line)}")
        report.counts = Counter(
            {
                "conversations": CONVERSATIONS,
                "messages stored": len(rows),
                **self._ledger.counts,
                **judge.counts,
                "requests to the provider": len(asks),
                **monkey.counts,
                **report.counts,
                **events,
            }
        )
        report.seconds = {**judge.latencies, **monkey.seconds}
        report.problems += [*self._ledger.problems, *monkey.problems, *judge.problems]


def _short(line: str) -> str:
    try:
        said = json.loads(line)
    except json.JSONDecodeError:
        return line[:300]
    exception = str(said.pop("exception", ""))
    return f"{json.dumps(said)} {exception[-1500:]}"

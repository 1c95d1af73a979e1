"""The command `python -m bench`: measures server and floor in turn, and prints a table.

Beside this process, which is the load, there are three on this machine: a provider that sends each
stream 50 tokens a second, one by one; the server, as `colloquy serve` runs it, with SQLite in a
temporary folder; and the floor. CPU is that of the server's or the floor's process with all its
threads, without their start.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import uvloop

from bench.load import Disturbed, FloorTarget, Run, ServerTarget, Target, WrongText, run
from bench.processes import ProcessFailed, Stage
from bench.provider import RATE

LOADS = (1, 50, 100)
"""Streams at once."""

LIMIT = 1.6
"""Times the floor's CPU that the server may take at the highest load."""


@dataclass(frozen=True)
class Plan:
    """How much is measured: `rounds` of each load, each with streams of `seconds`."""

    rounds: dict[int, int]
    seconds: float
    watched: int


_DEFAULT = Plan({1: 2, 50: 2, 100: 4}, seconds=6.0, watched=1)
_QUICK = Plan({1: 1, 50: 1, 100: 2}, seconds=4.0, watched=1)

_TRIES = 4
"""Of a run that something else on the machine disturbs."""


@dataclass
class Results:
    """The runs of each path at each load, in the order in which they were made."""

    runs: dict[tuple[int, str], list[Run]] = field(default_factory=dict)

    def add(self, streams: int, path: str, measured: Run) -> None:
        """Takes in one run."""
        self.runs.setdefault((streams, path), []).append(measured)

    def median(self, streams: int, path: str, value: Callable[[Run], float]) -> float:
        """The median of a value over the runs."""
        return statistics.median(value(one) for one in self.runs[streams, path])

    def ratio(self, streams: int, value: Callable[[Run], float]) -> float:
        """The median over the rounds of server to floor, which were measured one after the
        other: what else the machine does then weighs the same on both."""
        pairs = zip(self.runs[streams, "server"], self.runs[streams, "floor"], strict=True)
        return statistics.median(value(server) / value(floor) for server, floor in pairs)

    def first_token(self, streams: int, path: str) -> tuple[float, float]:
        """The median and the 99th percentile of all streams of all rounds, in milliseconds."""
        times = sorted(at for one in self.runs[streams, path] for at in one.first_token)
        return statistics.median(times), times[min(len(times) - 1, int(len(times) * 0.99))]


async def measure(plan: Plan, folder: Path) -> Results:
    """All rounds: floor, server, floor, server …"""
    results = Results()
    async with Stage(folder) as stage:
        metadata = await ServerTarget.sign_up(stage.server)
        targets: dict[str, Target] = {
            "floor": FloorTarget(stage.floor),
            "server": ServerTarget(stage.server, metadata),
        }
        watched = ServerTarget(stage.server, metadata, watchers=1)
        for target in targets.values():  # what is loaded or compiled at first use
            await _run(target, LOADS[-1], 3.0)
        for streams, rounds in plan.rounds.items():
            for number in range(1, rounds + 1):
                for path, target in targets.items():
                    _progress(f"{streams} streams, round {number} of {rounds}: {path}")
                    results.add(streams, path, await _run(target, streams, plan.seconds))
        for number in range(1, plan.watched + 1):
            _progress(f"{LOADS[-1]} streams with a second watcher, round {number}")
            results.add(LOADS[-1], "watched", await _run(watched, LOADS[-1], plan.seconds))
        _progress("")
    return results


async def _run(target: Target, streams: int, seconds: float) -> Run:
    for left in reversed(range(_TRIES)):
        try:
            return await run(target, streams, seconds)
        except Disturbed as error:
            if not left:
                raise
            print(f"bench: {error}; once more", file=sys.stderr)
    raise AssertionError


def report(results: Results) -> list[str]:
    """The table and what it comes to."""
    lines = [
        f"{RATE} tokens a second a stream; all streams begin within a second; medians. CPU in µs a",
        "token: `steady` while all streams are open, `whole` with their beginning and end,",
        "`database` of steady in its threads. First token: milliseconds that the path adds, from",
        "the request to the first text. The floor stores nothing, sends plain bytes, and collects",
        "text in the same window as the server does at that load, so that messages compare.",
        "",
        "streams  path     steady  whole  database  first token p50   p99  messages/s  tokens each",
    ]
    for (streams, path), runs in results.runs.items():
        p50, p99 = results.first_token(streams, path)
        has_database = path != "floor" and all(one.database_cpu is not None for one in runs)
        database = (
            f"{results.median(streams, path, lambda one: one.database_cpu or 0):.0f}"
            if has_database
            else "-"
        )
        lines.append(
            f"{streams:7}  {path:7}"
            f"  {results.median(streams, path, lambda one: one.cpu):6.0f}"
            f"  {results.median(streams, path, lambda one: one.whole_cpu):5.0f}"
            f"  {database:>8}  {p50:15.1f} {p99:5.0f}"
            f"  {results.median(streams, path, lambda one: one.messages):10.0f}"
            f"  {results.median(streams, path, lambda one: one.tokens_a_message):11.2f}"
        )
    lines.append("")
    lines += [
        f"{streams} streams: {results.ratio(streams, lambda one: one.cpu):.2f} x the floor"
        f" while streaming, {results.ratio(streams, lambda one: one.whole_cpu):.2f} x with"
        " beginning and end"
        for streams in LOADS
    ]
    top = LOADS[-1]
    more = results.median(top, "watched", lambda one: one.cpu)
    more -= results.median(top, "server", lambda one: one.cpu)
    lines.append(f"A second watcher of each conversation adds {more:.0f} µs a token.")
    ratio = results.ratio(top, lambda one: one.cpu)
    verdict = "within" if ratio <= LIMIT else "over"
    lines.append(f"At {top} streams the server takes {ratio:.2f} x the floor: {verdict} {LIMIT} x.")
    return lines


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def main() -> int:
    """Runs the command; its exit code is 1 when the server takes more than LIMIT."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a rough answer in a minute")
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="colloquy-bench-") as folder:
        try:
            results = uvloop.run(measure(_QUICK if arguments.quick else _DEFAULT, Path(folder)))
        except (ProcessFailed, WrongText, Disturbed, grpc.aio.AioRpcError) as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
    lines = report(results)
    print("\n".join(lines[:-1]))
    print(f"Measured in {time.monotonic() - started:.0f} s.")
    print(lines[-1])
    return int("over" in lines[-1])


if __name__ == "__main__":
    sys.exit(main())

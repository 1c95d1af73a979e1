"""The command `python -m bench`: what the server costs beside floors of its own, on SQLite and on
Postgres.

A floor is the least that anything with the same job could cost, a small program without the
server's promises. Server and floor are measured in turn, in one run; what counts is their ratio.
Beside this process, which is the load, both run in processes of their own, as does the provider
where answers come at a steady pace. CPU is that of the server's or the floor's process with all its
threads, without their start.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import grpc
import uvloop

from bench import documents, history, memory, promises, reads, replies, tokens, watchers, workers
from bench.paced import WrongText
from bench.processes import ProcessFailed
from bench.report import Row, table
from bench.stage import Databases, postgres_server
from bench.streams import Disturbed


@dataclass(frozen=True)
class Part:
    """A measurement. `is_quick` says how much of it is done."""

    name: str
    measure: Callable[[Databases, bool], Awaitable[list[Row]]]
    kinds: Sequence[str] = ("sqlite", "postgres")


PLAN = (
    Part("tokens", lambda on, quick: tokens.measure(on, tokens.QUICK if quick else tokens.FULL)),
    Part("replies", lambda on, quick: replies.measure(on, rounds=1 if quick else 3)),
    Part("workers", lambda on, quick: workers.measure(on, rounds=1 if quick else 3), ["postgres"]),
    Part("watchers", lambda on, quick: watchers.measure(on, seconds=2.0 if quick else 4.0)),
    Part("reads", lambda on, quick: reads.measure(on, 1 if quick else 3, calls=300)),
    Part(
        "history",
        lambda on, quick: history.measure(
            on, *((1, history.QUICK) if quick else (3, history.FULL))
        ),
    ),
    Part(
        "promises",
        lambda on, quick: promises.measure(
            on, *((1, promises.QUICK) if quick else (3, promises.FULL))
        ),
        ["postgres"],
    ),
    Part("memory", lambda on, quick: memory.measure(on, memory.QUICK if quick else memory.FULL)),
)

_FAILURES = (ProcessFailed, WrongText, Disturbed, grpc.aio.AioRpcError)


def main() -> int:
    """Runs the command; its exit code is 1 when a limit is not kept, or a part failed."""
    arguments = _arguments()
    started = time.monotonic()
    rows: list[Row] = []
    failures = []
    with ExitStack() as stack:
        databases = {"sqlite": Databases("sqlite")}
        if "postgres" in arguments.database:
            url = stack.enter_context(postgres_server())
            databases["postgres"] = Databases("postgres", url)
        for part in PLAN:
            for kind in part.kinds:
                if part.name not in arguments.only or kind not in arguments.database:
                    continue
                _progress(f"{part.name} on {kind}")
                try:
                    rows += uvloop.run(_measure(part, databases[kind], arguments.quick))
                except* _FAILURES as group:
                    failures += [f"{part.name} on {kind}: {each}" for each in group.exceptions]
    _progress("")
    if arguments.write_docs and not failures:
        documents.write(rows)
    print("\n".join(table(rows)))
    print(f"Measured in {time.monotonic() - started:.0f} s.")
    failures += [
        f"over the limit: {row.part} on {row.database}, {row.what}, {row.unit}:"
        f" {row.server if row.ratio is None else row.ratio:.2f}, and not {row.limit}"
        for row in rows
        if row.is_over
    ]
    for failure in failures:
        print(f"bench: {failure}", file=sys.stderr)
    return int(bool(failures))


async def _measure(part: Part, databases: Databases, is_quick: bool) -> list[Row]:
    return await part.measure(databases, is_quick)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a rough answer, in a quarter of time")
    names = [part.name for part in PLAN]
    parser.add_argument(
        "--only", action="append", choices=names, help="this part; may be given again"
    )
    parser.add_argument(
        "--database", action="append", choices=["sqlite", "postgres"], help="on this one only"
    )
    parser.add_argument(
        "--write-docs",
        action="store_true",
        help="write what a full run says to docs/performance.md and docs/bench.svg",
    )
    arguments = parser.parse_args()
    if arguments.write_docs and (arguments.quick or arguments.only or arguments.database):
        parser.error("--write-docs goes with a full run only")
    arguments.only = arguments.only or names
    arguments.database = arguments.database or ["sqlite", "postgres"]
    return arguments


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

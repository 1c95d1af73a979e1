"""Writes what was measured to `docs/`: a page and a picture."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.report import HEADINGS, Row, cells
from bench.svg import Bar, Group, picture

_DOCS = Path(__file__).resolve().parents[1] / "docs"

_NAMES = {"sqlite": "SQLite", "postgres": "Postgres"}

_PAGE = """\
# What Colloquy costs

Written by `make bench ARGS=--write-docs` on {date}; do not edit, but for *Endurance*.

![The server's CPU beside its floor's]({picture})

## What was measured

Each part of the server's work stands beside a **floor**: a small program with the same job and none
of the server's promises, the least that anything could cost. Both are measured in turn in one run,
so the ratio says the same on a fast machine and on a slow one, and it is the ratio that is limited.
The numbers beside it are those of this machine: {machine}.

- **tokens**: answers of 50 tokens a second, *steady* while all streams are open, *whole* with their
  beginning and end. The floor is a bare grpc.aio stream over a bare aiohttp request; it stores
  prompt and answer as that of replies does, nothing in between, and collects text in the same
  window as the server.
- **replies**: answers of five tokens that come at once, so that only beginning and end count. The
  floor does the same with two durable transactions a reply, by sqlite3 or psycopg itself, and sends
  the whole history to the provider.
- **workers**: the same with `serve --workers 2`; beside it stands one worker. What a core for each
  would do follows from their CPU a reply.
- **watchers**: one reply sent to many; there is no floor. By HTTP each watcher has a
  connection, and beside it stands the same by gRPC.
- **reads**: calls that answer once. The floor asks the server's database the same by the bare
  driver, and answers with the rows as JSON.
- **history**: a reply when much was said before. For its conversation the floor is that of replies;
  for the rest of the account, the server itself with ten messages stands beside it.
- **promises**: times that are promised, from request to outcome, beside what is allowed.
- **memory**: live streams. The floor is that of tokens.

CPU is user and system time of the serving process with all its threads. All commits are durable:
SQLite with `synchronous = FULL`, Postgres with `synchronous_commit`. Load, provider, server, floor
and Postgres share the machine.

## What came out

{table}

Values are medians; *ratio* is the median of the ratios of each round. A limit is of the ratio where
there is one, else of the value.

## To repeat it

```sh
make bench                        # all of it, in some six minutes
make bench ARGS=--quick           # a rough answer
make bench ARGS="--only replies --database sqlite"
```

It exits with 1 and names each limit that is not kept. Other work on the machine
makes the numbers larger, the ratios hardly.
"""


_BY_HAND = "\n## Endurance\n"
"""Where the part of the page begins that is of `make soak`."""


def write(rows: Sequence[Row]) -> None:
    """Writes the page and the picture of a full run."""
    (_DOCS / "bench.svg").write_text(_picture(rows), "utf-8")
    page = _PAGE.format(
        date=datetime.now(UTC).date().isoformat(),
        picture="bench.svg",
        machine=_machine(),
        table="\n".join(_table(rows)),
    )
    file = _DOCS / "performance.md"
    _, heading, by_hand = file.read_text("utf-8").partition(_BY_HAND)
    file.write_text(page + heading + by_hand, "utf-8")


def _table(rows: Sequence[Row]) -> list[str]:
    lines = [HEADINGS, tuple("---" for _ in HEADINGS), *map(cells, rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _picture(rows: Sequence[Row]) -> str:
    groups = [
        Group(
            name,
            [
                Bar(f"{row.part}: {row.what}", row.ratio, row.limit.bound)
                for row in rows
                if row.database == kind
                and row.ratio is not None
                and row.limit is not None
                and not row.limit.at_least
                and "CPU" in row.unit
            ],
        )
        for kind, name in _NAMES.items()
    ]
    return picture(
        "CPU of the server, in times of its floor's",
        "The dashed line is the floor, the least that it could cost; the mark is the limit.",
        groups,
    )


def _machine() -> str:
    """What kind of machine this is, without its name."""
    return (
        f"{os.cpu_count()} processors ({_processor()}), {platform.system()},"
        f" Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()

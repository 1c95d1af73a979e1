"""The command `python -m bench`."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack

import uvloop

from bench import replies
from bench.report import table
from bench.stage import Databases
from tests import postgres


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a rough answer in a minute")
    parser.add_argument("--only")
    parser.add_argument("--database")
    arguments = parser.parse_args()
    started = time.monotonic()
    rows = []
    with ExitStack() as stack:
        for kind in ("sqlite", "postgres"):
            if arguments.database in (None, kind):
                url = stack.enter_context(postgres.server_url()) if kind == "postgres" else ""
                rows += uvloop.run(
                    replies.measure(Databases(kind, url), 1 if arguments.quick else 3)
                )
    print("\n".join(table(rows)))
    print(f"Measured in {time.monotonic() - started:.0f} s.")
    return int(any(row.is_over for row in rows))


if __name__ == "__main__":
    sys.exit(main())

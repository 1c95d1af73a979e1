"""`python -m tests.chaos`: one run, its counts, and what was wrong."""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
from pathlib import Path

from tests.chaos.run import Report, run


async def _run(arguments: argparse.Namespace) -> Report:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run(arguments.seconds, arguments.seed, arguments.folder)


def main() -> int:
    """Returns the exit code: 1 when something was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--folder", type=Path, help="keeps the logs here")
    arguments = parser.parse_args()
    if arguments.folder is not None:
        arguments.folder = arguments.folder.absolute()
        arguments.folder.mkdir(parents=True, exist_ok=True)
    report = asyncio.run(_run(arguments))
    sys.stdout.write(f"chaos of {arguments.seconds:g} s, seed {arguments.seed}\n")
    sys.stdout.write("\n".join(report.lines()) + "\n")
    sys.stdout.write(f"{len(report.problems)} problems\n")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.soak`: one soak, or a trial; its counts, and what was wrong."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.soak import crowds, faults
from tests.soak.crowds import Trial
from tests.soak.run import run

TRIALS: dict[str, Callable[[Path], Coroutine[Any, Any, Trial]]] = {
    "watchers": crowds.watchers,
    "slow-readers": crowds.slow_readers,
    "streams": crowds.streams,
    "full-disk": faults.full_disk,
    "clock": faults.clock_jumps,
}


async def _run(arguments: argparse.Namespace, folder: Path) -> tuple[list[str], list[str]]:
    """What is to be said, and what was wrong."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    if arguments.trial:
        trial = await TRIALS[arguments.trial](folder)
        return trial.lines, trial.problems
    report = await run(
        arguments.seconds,
        arguments.seed,
        folder,
        people=arguments.users,
        on_sqlite=not arguments.postgres,
    )
    return report.text(), report.problems


def main() -> int:
    """Returns the exit code: 1 when something was wrong, or grew."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--users", type=int, default=8, help="people who are there at a time")
    parser.add_argument("--postgres", action="store_true", help="two servers over a Postgres")
    parser.add_argument("--try", dest="trial", choices=TRIALS, help="one thing instead of a soak")
    parser.add_argument("--folder", type=Path, help="keeps the logs here")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="colloquy-soak-"))
        )
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        # What servers say goes to the folder; the harness also prints it, for failing tests.
        quiet = stack.enter_context(Path(os.devnull).open("w"))
        with contextlib.redirect_stdout(quiet):
            lines, problems = asyncio.run(_run(arguments, folder))
    name = f"soak of {arguments.seconds:g} s, seed {arguments.seed}"
    sys.stdout.write(f"{arguments.trial or name}\n")
    lines += [f"PROBLEM {problem}" for problem in problems]
    sys.stdout.write("\n".join(lines) + f"\n{len(problems)} problems\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

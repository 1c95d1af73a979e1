"""Processes that start with their modules loaded, in a hundredth of the time.

A server takes over a second to load, and the tests start one after another only to kill it. So one
process that does nothing else loads what they need, and each is forked from it: a process like any
other, with an environment, a folder and an output of its own, to be stopped and killed for real.
What `colloquy serve` does before that is shown by tests/integration/test_start.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Self

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["colloquy_server.process", "tests.slack_process"])


class Forked:
    """A process that runs a function of a module to its end."""

    def __init__(self, process: ForkServerProcess) -> None:
        assert process.pid is not None
        self.pid = process.pid
        self._process = process

    @classmethod
    async def start(
        cls,
        run: Callable[[], int | None],
        *,
        environment: Mapping[str, str],
        folder: Path,
        output: int,
    ) -> Self:
        """Starts one: `run` is its exit code, `output` the descriptor that it prints and logs to,
        which stays the caller's to close."""
        with Connection(os.dup(output), readable=False) as pipe:
            process = _context.Process(
                target=_run, args=(run, dict(environment), str(folder), pipe), daemon=True
            )
            await asyncio.to_thread(process.start)
        return cls(process)

    @property
    def returncode(self) -> int | None:
        """What it ended with, the negative number of a signal if that ended it; None before."""
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal, if it has not ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def wait(self) -> int:
        """Waits for its end; returns its exit code."""
        if self.returncode is None:
            loop, ended = asyncio.get_running_loop(), asyncio.Event()
            loop.add_reader(self._process.sentinel, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(self._process.sentinel)
        assert self.returncode is not None
        return self.returncode


def _run(
    run: Callable[[], int | None], environment: dict[str, str], folder: str, output: Connection
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for descriptor in (1, 2):
        os.dup2(output.fileno(), descriptor)
    output.close()
    sys.argv = [run.__module__]
    sys.exit(run())

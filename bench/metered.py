"""Runs another module as `python -m` would, and says on request what the process used.

For each line on standard input it answers one line of JSON on standard output; when its input
ends, so does the process. The clocks are those of the process and of its threads, exact to less
than a microsecond and the same on Linux and macOS. What only /proc knows, its memory and the CPU
of the processes that it started (in hundredths of a second), is null where there is none.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

_PROC = Path("/proc")


def main() -> None:
    """Runs the module that is named first, with the other arguments."""
    threading.Thread(target=_answer, name="meter", daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _answer() -> None:
    while os.read(0, 1_024):
        reading = {
            "time": time.monotonic_ns(),
            "cpu": time.process_time_ns(),
            "database": _cpu_of_threads("sqlite-"),
            "children": _cpu_of_children(),
            "memory": _memory(),
        }
        os.write(1, (json.dumps(reading) + "\n").encode())
    os._exit(0)


def _cpu_of_threads(prefix: str) -> int | None:
    """Nanoseconds of the threads whose names begin so; None where the system does not say."""
    clock_of: Any = getattr(time, "pthread_getcpuclockid", None)
    if clock_of is None:
        return None
    return sum(
        time.clock_gettime_ns(clock_of(thread.ident))
        for thread in threading.enumerate()
        if thread.name.startswith(prefix)
    )


def _cpu_of_children() -> int | None:
    """Nanoseconds of the processes below this one that still run."""
    below = _children(os.getpid())
    if below is None:
        return None
    ticks = 0
    while below:
        pid = below.pop()
        with suppress(OSError):  # it has ended
            fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
            below += _children(pid) or []
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int] | None:
    try:
        threads = list((_PROC / str(pid) / "task").iterdir())
        return [int(child) for each in threads for child in (each / "children").read_text().split()]
    except OSError:
        return None


def _memory() -> int | None:
    """Bytes of the process that are in memory."""
    try:
        pages = int((_PROC / "self" / "statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()

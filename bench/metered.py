"""Runs another module as `python -m` would, and says on request how much CPU the process used.

For each line on standard input it answers one line of JSON on standard output; when its input
ends, so does the process. The clocks are those of the process and of its threads, exact to less
than a microsecond and the same on Linux and macOS, where there is no /proc.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import threading
import time
from typing import Any


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


if __name__ == "__main__":
    main()

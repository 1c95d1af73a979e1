"""This process's own clock: it only decides when an owner fences itself. The database's clock
decides everything else."""

from __future__ import annotations

import time

# Counts the time in which the machine or the process was suspended, where the system has such a
# clock (Linux); the monotonic clock of macOS counts it already.
_SUSPENSION_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boottime() -> float:
    """Seconds from some fixed point; also runs while the process is suspended."""
    return time.clock_gettime(_SUSPENSION_CLOCK)

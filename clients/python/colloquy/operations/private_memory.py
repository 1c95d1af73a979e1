"""Memory that only this process reads."""

from __future__ import annotations

import ctypes
import sys

_PR_SET_DUMPABLE = 4


def keep_memory_private() -> None:
    """Closes this process's memory, environment and descriptors to other processes of its user,
    where the system is Linux: only root may trace it, and it leaves no core file. Programs that it
    starts are not closed by it. Raises OSError."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "the memory of this process cannot be kept private")

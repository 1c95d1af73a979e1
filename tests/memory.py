"""The memory of another process, as Linux counts it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HAS_PROC = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


class Memory:
    """What a process takes in memory more than it took when this was made."""

    def __init__(self, pid: int) -> None:
        self._folder = Path("/proc", str(pid))
        (self._folder / "clear_refs").write_text("5")  # the peak begins anew
        self._before = self._bytes("VmRSS")

    def peak(self) -> int:
        """The most that it took at any time since, in bytes."""
        return self._bytes("VmHWM") - self._before

    def _bytes(self, name: str) -> int:
        for line in (self._folder / "status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1_024
        raise KeyError(name)

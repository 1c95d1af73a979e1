"""Runs the tests side by side, with their files in memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SIDE_BY_SIDE = ("-n", "auto", "--dist", "load", "--maxschedchunk", "4")

MEMORY = Path("/dev/shm")
ROOM = 4 << 30
"""Bytes that the tests of all processes never need at once."""


def main(arguments: list[str]) -> int:
    """Runs pytest with these arguments; returns what it exits with."""
    command = [sys.executable, "-m", "pytest", *arguments, *SIDE_BY_SIDE]
    environment = {**temporary_folder(), **os.environ}
    # Every process of every test would compile all again.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return subprocess.call(command, env=environment)


def temporary_folder() -> dict[str, str]:
    """Memory, where there is enough: thousands of commits each wait for the disk, and no plug is
    pulled in a test."""
    has_room = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM
    return {"TMPDIR": str(MEMORY)} if has_room and os.access(MEMORY, os.W_OK) else {}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

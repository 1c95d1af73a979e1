"""Runs the tests: first, alone, those that measure time, then the others side by side.

What else the machine does shows in times; a limit that is kept by luck says nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ALONE = ("-m", "timed")
SIDE_BY_SIDE = ("-n", "auto", "--dist", "load", "--maxschedchunk", "4", "-m", "not timed")

MEMORY = Path("/dev/shm")
ROOM = 4 << 30
"""Bytes that the tests of all processes never need at once."""


def main(arguments: list[str]) -> int:
    """Runs pytest twice with these arguments; returns what it exits with: the first failure's
    code, or that of finding no test if neither run found one."""
    command = [sys.executable, "-m", "pytest", *arguments]
    environment = {**temporary_folder(), **os.environ}
    # What the first run compiled every process of the second one would compile again.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    codes = [subprocess.call([*command, *how], env=environment) for how in (ALONE, SIDE_BY_SIDE)]
    found = [code for code in codes if code != pytest.ExitCode.NO_TESTS_COLLECTED]
    return next((code for code in found if code), 0) if found else codes[0]


def temporary_folder() -> dict[str, str]:
    """Memory, where there is enough: thousands of commits each wait for the disk, and no plug is
    pulled in a test."""
    has_room = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM
    return {"TMPDIR": str(MEMORY)} if has_room and os.access(MEMORY, os.W_OK) else {}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

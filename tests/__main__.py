"""Runs the tests: first those that may run side by side, then, alone, those that measure time.

What else the machine does shows in times; a limit that is kept by luck says nothing.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

SIDE_BY_SIDE = ("-n", "auto", "--dist", "worksteal", "-m", "not timed")
ALONE = ("-m", "timed")


def main(arguments: list[str]) -> int:
    """Runs pytest twice with these arguments; returns what it exits with: the first failure's
    code, or that of finding no test if neither run found one."""
    command = [sys.executable, "-m", "pytest", *arguments]
    codes = [subprocess.call([*command, *how]) for how in (SIDE_BY_SIDE, ALONE)]
    found = [code for code in codes if code != pytest.ExitCode.NO_TESTS_COLLECTED]
    return next((code for code in found if code), 0) if found else codes[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Ask a service of the net for known vulnerabilities in what the locks pin.

python scripts/audit.py                   # fails when it cannot be asked
python scripts/audit.py --if-reachable    # says so and goes on, as `make check` does
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCK = "requirements-dev.lock"
_COMMAND = [
    *(sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes"),
    *("--requirement", LOCK, "--format", "json", "--progress-spinner", "off", "--timeout", "5"),
]
_TIMEOUT = 15.0
"""Seconds that `make check` waits: it is one request for each of 150 distributions."""


class Unreachable(Exception):
    """The service of known vulnerabilities cannot be asked; the message says why."""


def vulnerabilities(timeout: float | None) -> list[str]:
    """Return what is known to be wrong, one line each.

    Raises:
        Unreachable: when the service does not answer, or knows none of the distributions.
    """
    try:
        done = subprocess.run(
            _COMMAND, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unreachable("it takes too long") from None
    try:
        return known(json.loads(done.stdout)["dependencies"])
    except (ValueError, KeyError):
        last = done.stderr.strip().rpartition("\n")[2]
        raise Unreachable(last or f"pip-audit ended with {done.returncode}") from None


def known(dependencies: list[dict[str, Any]]) -> list[str]:
    """Return the vulnerabilities in pip-audit's answer.

    Raises:
        Unreachable: when all were skipped, as where a mirror has no such service.
    """
    asked = [found for found in dependencies if "skip_reason" not in found]
    if not asked:
        raise Unreachable("it knows none of them")
    return [
        f"{found['name']} {found['version']}: {one['id']}"
        f" (fixed in {', '.join(one['fix_versions']) or 'no version yet'})"
        for found in asked
        for one in found["vulns"]
    ]


def main() -> None:
    """Ask.

    Raises:
        SystemExit: when something is known to be vulnerable, or cannot be asked and has to be.
    """
    parser = argparse.ArgumentParser(description="Ask for known vulnerabilities.")
    parser.add_argument("--if-reachable", action="store_true", help="go on when it cannot be asked")
    may_be_away = parser.parse_args().if_reachable
    try:
        found = vulnerabilities(_TIMEOUT if may_be_away else None)
    except Unreachable as reason:
        line = f"the service of known vulnerabilities cannot be asked: {reason}"
        if not may_be_away:
            raise SystemExit(line) from None
        print(f"audit skipped: {line}")
        return
    if found:
        raise SystemExit("\n".join(["known to be vulnerable:", *found]))
    print("No known vulnerabilities.")


if __name__ == "__main__":
    main()

"""Takes the guards of a reply's life away, one at a time, and requires that a test fails.

    python -m tests.stateful.guards              all of them
    python -m tests.stateful.guards epoch wish   those whose names have one of these words

A guard is a piece of the server's code as it stands and what is put in its place. It is an error
when that code is not there any more: then the guard moved, and so must its entry here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.stateful.guard_list import GUARDS, Guard

_ROOT = Path(__file__).parents[2]
_TREES = ("server", "protos", "migrations", "config", "tests")
_PATIENCE = 900.0
"""Seconds for the tests of one guard."""


@dataclass(frozen=True)
class Verdict:
    """What became of the tests without a guard."""

    guard: Guard
    is_caught: bool
    how: str


def main(words: Sequence[str]) -> int:
    """Tries the guards; returns how many were not missed."""
    chosen = [guard for guard in GUARDS if not words or any(word in guard.name for word in words)]
    for guard in chosen:
        without(guard, _ROOT)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        verdicts = []
        for verdict in pool.map(try_without, chosen):
            verdicts.append(verdict)
            mark = "caught" if verdict.is_caught else "MISSED"
            say(f"{mark}  {verdict.guard.name:58} {verdict.how}")
    missed = sum(not verdict.is_caught for verdict in verdicts)
    say(f"{len(verdicts)} guards, {missed} not missed by any test")
    return missed


def say(line: str) -> None:
    """Shows a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def without(guard: Guard, root: Path) -> dict[Path, str]:
    """The files without this guard. Raises SystemExit when its code is not there."""
    changed: dict[Path, str] = {}
    for edit in guard.edits:
        path = root / edit.file
        text = changed.get(path) or path.read_text()
        if text.count(edit.code) != 1:
            raise SystemExit(
                f"{guard.name}: {edit.file} has this {text.count(edit.code)} times, not once:\n"
                f"{edit.code}"
            )
        changed[path] = text.replace(edit.code, edit.instead)
    return changed


def try_without(guard: Guard) -> Verdict:
    """Runs the tests on a copy of the code without this guard."""
    with tempfile.TemporaryDirectory(prefix="guard-") as folder:
        root = Path(folder)
        for tree in _TREES:
            shutil.copytree(_ROOT / tree, root / tree, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(_ROOT / "pyproject.toml", root)
        for path, text in without(guard, root).items():
            path.write_text(text)
        command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-q", "--tb=line", *guard.tests]
        try:
            done = subprocess.run(
                [*command, "-p", "no:cacheprovider", "-o", "log_level=CRITICAL"],
                cwd=root,
                env={**os.environ, "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1"},
                capture_output=True,
                text=True,
                timeout=_PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Verdict(guard, True, "the tests do not end")
    # 1: tests failed. Anything else, but 0, says that they could not run, which proves nothing.
    errors = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode not in (0, 1):
        return Verdict(guard, False, f"pytest ended with {done.returncode}: {done.stdout[-300:]}")
    how = errors[0].split("::", 1)[-1] if errors else ""
    return Verdict(guard, done.returncode == 1, how)


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))

"""Takes the guards of a reply's life and of transactions away, one at a time: a test must fail.

    python -m tests.stateful.guards              all of them
    python -m tests.stateful.guards epoch wish   those whose names have one of these words
    python -m tests.stateful.guards --find       looks for an order for each that has none yet

A guard is a piece of the server's code as it stands and what is put in its place. It is an error
when that code is not there any more: then the guard moved, and so must its entry here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.stateful.guard_list import GUARDS, STATEFUL, Guard
from tests.stateful.orders import Order, keep, load

_ROOT = Path(__file__).parents[2]
_TREES = ("server", "clients", "slack_bot", "migrations", "config", "tests")
_PATHS = ("clients/python", "server", "slack_bot")
_PATIENCE = 900.0
"""Seconds for the tests of one guard, or for the search of its order."""

_EXAMPLES = 600
"""Orders that are played in a search."""


@dataclass(frozen=True)
class Verdict:
    """What became of the tests without a guard."""

    guard: Guard
    is_caught: bool
    how: str


def main(words: Sequence[str]) -> int:
    """Tries the guards; returns how many no test misses."""
    chosen = named(words)
    for guard in chosen:
        without(guard, _ROOT)
    missed = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for verdict in pool.map(try_without, chosen):
            missed += not verdict.is_caught
            mark = "caught" if verdict.is_caught else "MISSED"
            say(f"{mark}  {verdict.guard.name:58} {verdict.how}")
    say(f"{len(chosen)} guards, {missed} not missed by any test")
    return missed


def find(words: Sequence[str]) -> int:
    """Looks for the orders that are not there yet; returns how many it did not find."""
    wanted = [guard for guard in GUARDS if guard.tests == STATEFUL]
    names = [guard.name for guard in wanted]
    kept = {order.guard: order for order in load() if order.guard in names}
    lacking = [guard for guard in named(words) if guard in wanted and guard.name not in kept]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for guard, order in zip(lacking, pool.map(find_order, lacking), strict=True):
            say(f"{len(order.steps) if order else 'no':>4} steps  {guard.name}")
            if order:
                kept[guard.name] = order
                keep([kept[name] for name in names if name in kept])
    return sum(guard.name not in kept for guard in lacking)


def named(words: Sequence[str]) -> list[Guard]:
    """The guards whose names have one of these words; all of them without words."""
    return [guard for guard in GUARDS if not words or any(word in guard.name for word in words)]


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


@contextmanager
def copied_without(guard: Guard) -> Iterator[Path]:
    """A copy of the code without this guard."""
    with tempfile.TemporaryDirectory(prefix="guard-") as folder:
        root = Path(folder)
        caches = shutil.ignore_patterns("__pycache__")
        for tree in _TREES:
            shutil.copytree(_ROOT / tree, root / tree, symlinks=True, ignore=caches)
        shutil.copy(_ROOT / "pyproject.toml", root)
        for path, text in without(guard, root).items():
            path.write_text(text)
        yield root


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a module of that copy. Raises TimeoutExpired."""
    paths = os.pathsep.join(str(root / path) for path in _PATHS)
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )


def find_order(guard: Guard) -> Order | None:
    """An order that shows that this guard is gone."""
    with copied_without(guard) as root:
        try:
            done = run(root, "tests.stateful.search", guard.name, str(_EXAMPLES))
        except subprocess.TimeoutExpired:
            return None
    lines = done.stdout.splitlines()
    return Order.of(lines[-1]) if done.returncode == 0 and lines else None


def try_without(guard: Guard) -> Verdict:
    """Runs the tests on a copy of the code without this guard."""
    options = ("-n", "0", "-x", "-q", "--tb=line", "-p", "no:cacheprovider")
    with copied_without(guard) as root:
        try:
            done = run(root, "pytest", *options, "-o", "log_level=CRITICAL", *guard.tests)
        except subprocess.TimeoutExpired:
            return Verdict(guard, True, "the tests do not end")
    # 1: tests failed. Anything else, but 0, says that they could not run, which proves nothing.
    errors = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode not in (0, 1):
        return Verdict(guard, False, f"pytest ended with {done.returncode}: {done.stdout[-300:]}")
    how = errors[0].split("::", 1)[-1] if errors else ""
    return Verdict(guard, done.returncode == 1, how)


if __name__ == "__main__":
    given = sys.argv[1:]
    lacks = find(given[1:]) if given[:1] == ["--find"] else main(given)
    sys.exit(min(lacks, 1))

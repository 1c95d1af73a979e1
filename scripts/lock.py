"""Make the lock files, or check that they hold what the pyproject.toml files ask for.

    python scripts/lock.py [--upgrade]    # resolves, keeping the locked versions unless told not to
    python scripts/lock.py --check        # needs no network

A lock holds exact versions with the hashes of all their files, for every platform, and no address:
whoever installs from it takes the files from the index that their pip is set up for.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
# The oldest Python that the locks are for; the same as requires-python.
OLDEST_PYTHON = "3.11"
# The distributions, each with the extras that the locks hold.
DISTRIBUTIONS = {"clients/python": ["cli"], "server": ["local"], "slack_bot": []}
RUNTIME = "requirements.lock"
DEVELOPMENT = "requirements-dev.lock"
MODEL = "requirements-model.lock"
INSTALLER = "requirements-uv.lock"
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)


def make(extra: list[str]) -> None:
    """Resolve and write each lock. The one for development is the one for running and more, so that
    both can be installed into one environment."""
    before = {DEVELOPMENT: RUNTIME, INSTALLER: DEVELOPMENT}
    for lock, requirements in wanted().items():
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal"]
        command += ["--python-version", OLDEST_PYTHON, "--generate-hashes"]
        command += ["--no-emit-index-url", "--no-emit-find-links"]
        command += ["--custom-compile-command", "make lock", *extra]
        if lock in before:
            command += ["--constraints", before[lock]]
        if lock == MODEL:
            command += ["--no-deps"]
        text = "\n".join(str(requirement) for requirement in requirements)
        subprocess.run(
            [*command, "-", "--output-file", lock], input=text.encode(), check=True, cwd=ROOT
        )


def wanted() -> dict[str, list[Requirement]]:
    """Return what each lock must hold."""
    runtime = []
    for folder, extras in DISTRIBUTIONS.items():
        project = described(ROOT / folder)["project"]
        runtime += project["dependencies"]
        for extra in extras:
            runtime += project["optional-dependencies"][extra]
    groups = described(ROOT)["dependency-groups"]
    runtime += groups["build"]
    model = (ROOT / "requirements-model.in").read_text("utf-8").split("\n")
    return {
        RUNTIME: needed(runtime),
        DEVELOPMENT: needed(runtime + groups["dev"] + groups["install"]),
        INSTALLER: needed(groups["install"]),
        MODEL: needed(line for line in model if line and not line.startswith("#")),
    }


def described(folder: Path) -> dict[str, Any]:
    """Return what the pyproject.toml of a folder says."""
    return tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))


def needed(lines: Iterable[str]) -> list[Requirement]:
    """Return requirements of others' distributions, each once."""
    found = {line: Requirement(line) for line in lines}
    return [one for one in found.values() if not one.name.startswith("colloquy")]


def problems() -> list[str]:
    """Return what is wrong with the locks, one sentence each."""
    found = []
    for lock, requirements in wanted().items():
        text = (ROOT / lock).read_text("utf-8")
        pinned = {canonicalize_name(name): version for name, version in _PINNED.findall(text)}
        for requirement in requirements:
            version = pinned.get(canonicalize_name(requirement.name))
            if version is None:
                found.append(f"{lock} lacks {requirement.name}")
            elif version not in requirement.specifier:
                found.append(f"{lock} has {requirement.name} {version}, not {requirement}")
        if re.search(r"^-|://", text, re.MULTILINE):
            found.append(f"{lock} names an index")
    return found


def main() -> None:
    """Make or check the locks.

    Raises:
        SystemExit: with --check, when a lock is stale.
    """
    parser = argparse.ArgumentParser(description="Make or check the lock files.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail when stale")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    arguments = parser.parse_args()
    if arguments.check:
        if found := problems():
            raise SystemExit("; ".join(found) + ": run `make lock`")
    else:
        make(["--upgrade"] if arguments.upgrade else [])


if __name__ == "__main__":
    main()

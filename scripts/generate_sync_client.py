"""Make the sync clients of the asyncio ones, or check that the committed ones are what they give.

python scripts/generate_sync_client.py            # writes colloquy.sync
python scripts/generate_sync_client.py --check    # writes nothing, fails when it is stale

`unasync` rewrites the code token by token; what it does not look into, docstrings and comments, is
rewritten by the same names here. Each package keeps a `transport` of its own, written by hand.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from unasync import Rule, unasync_files

PACKAGE = Path(__file__).resolve().parent.parent / "clients" / "python" / "colloquy"
SOURCE, TARGET = PACKAGE / "aio", PACKAGE / "sync"
# Each package has these of its own; all others are generated.
HAND_WRITTEN = {"__init__", "transport"}
MODULES = sorted({path.stem for path in SOURCE.glob("*.py")} - HAND_WRITTEN)
HEADER = "# Generated from aio/{}.py by scripts/generate_sync_client.py; do not edit.\n\n"
# The sync name of each asyncio name, beside those that unasync knows itself.
NAMES = {
    "aclose": "close",
    "aio": "sync",
    "anext": "next",
    "AsyncAdminClient": "AdminClient",
    "AsyncBaseClient": "BaseClient",
    "AsyncConversationClient": "ConversationClient",
    "AsyncEvents": "Events",
    "AsyncReply": "Reply",
    # What closing a generator raises while another task, or another thread, is in it.
    "RuntimeError": "ValueError",
}
# What a type that is awaited gives.
TYPES = re.compile(r"\b(?:Coroutine\[Any, Any, (\w+)\]|Awaitable\[(\w+)\])")
# The same for docstrings and comments, where no name is a token.
SAID = {**NAMES, "task": "thread"}
WORDS = re.compile(rf"\b(?:(?:async|await) |(?:{'|'.join(SAID)})\b)")
# What ruff puts right: imports that are not needed any more, remarks to linters about async code,
# loops that only yield.
FIXES = "F401,I,RUF100,UP028"


def generate(folder: Path) -> dict[str, str]:
    """Return the text of each sync module by its file's name; `folder` is for work that is thrown
    away."""
    source, target = folder / "aio", folder / "sync"
    source.mkdir()
    for name in MODULES:
        code = (SOURCE / f"{name}.py").read_text("utf-8")
        (source / f"{name}.py").write_text(TYPES.sub(r"\1\2", code), "utf-8")
    rule = Rule(fromdir="/aio/", todir="/sync/", additional_replacements=NAMES)
    unasync_files([str(source / f"{name}.py") for name in MODULES], [rule])
    made = {}
    for name in MODULES:
        code = (target / f"{name}.py").read_text("utf-8")
        code = HEADER.format(name) + WORDS.sub(lambda found: SAID.get(found[0], ""), code)
        path = TARGET / f"{name}.py"
        code = ruff(path, code, "check", "--fix-only", "--unsafe-fixes", "--fixable", FIXES)
        made[path.name] = ruff(path, code, "format")
    return made


def ruff(path: Path, code: str, *arguments: str) -> str:
    """Return code as ruff would leave it in the file `path`."""
    command = [sys.executable, "-m", "ruff", *arguments, "--quiet", "--stdin-filename", str(path)]
    done = subprocess.run([*command, "-"], input=code, capture_output=True, check=True, text=True)
    return done.stdout


def main() -> None:
    """Generate, or compare.

    Raises:
        SystemExit: with --check, when the committed code is not what the asyncio clients give.
    """
    parser = argparse.ArgumentParser(description="Make or check the sync clients.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail when stale")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        made = generate(Path(folder))
    old = {path.name: path.read_text("utf-8") for path in TARGET.glob("*.py")}
    old = {name: text for name, text in old.items() if text.startswith("# Generated ")}
    stale = sorted(name for name in {*old, *made} if old.get(name) != made.get(name))
    if check and stale:
        raise SystemExit(f"stale, run `make sync-client`: {', '.join(stale)}")
    if check:
        return
    for name in old.keys() - made.keys():
        (TARGET / name).unlink()
    for name, text in made.items():
        (TARGET / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main()

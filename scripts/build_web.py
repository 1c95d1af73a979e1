"""Build the page into the server's package, or check that what is committed is fresh.

python scripts/build_web.py            # writes server/colloquy_server/web/static
python scripts/build_web.py --check    # writes nothing there, fails when it is stale

The same sources give the same files on every machine: names are hashes of what is in them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "clients" / "web"
STATIC = ROOT / "server" / "colloquy_server" / "web" / "static"


def build(out: Path) -> None:
    """Build the page into a folder."""
    tools = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": os.pathsep.join([tools, os.environ.get("PATH", "")])}
    command = [f"{tools}/npm", "run", "--silent", "build", "--", "--logLevel", "warn"]
    command += ["--outDir", str(out), "--emptyOutDir"]
    subprocess.run(command, check=True, cwd=PAGE, env=environment)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder, by their paths in it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def main() -> None:
    """Build, or compare.

    Raises:
        SystemExit: with --check, when the committed page is not what its sources give.
    """
    parser = argparse.ArgumentParser(description="Build or check the page that the server serves.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail when stale")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "static"
        build(out)
        if not check:
            shutil.rmtree(STATIC, ignore_errors=True)
            shutil.copytree(out, STATIC)
            return
        new, old = contents(out), contents(STATIC)
    if stale := sorted(name for name in new.keys() | old.keys() if new.get(name) != old.get(name)):
        raise SystemExit(f"stale, run `make web`: {', '.join(stale)}")


if __name__ == "__main__":
    main()

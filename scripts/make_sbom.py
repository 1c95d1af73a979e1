"""Write the bill of materials, as CycloneDX, of what a server, a bot and their clients run.

    python scripts/make_sbom.py dist/sbom.cdx.json

It names what the locks pin, with the hashes of every file that may be installed: the same on every
machine.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("requirements.lock", "requirements-model.lock")


def write(path: Path) -> None:
    """Write it, checked against CycloneDX's schema."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pinned = "".join((ROOT / lock).read_text("utf-8") for lock in LOCKS)
    command = [
        # It warns that a list of requirements does not say which of them needs which.
        *(sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", "-"),
        *("--pyproject", str(ROOT / "server" / "pyproject.toml"), "--output-reproducible"),
        *("--validate", "--output-format", "JSON", "--output-file", str(path)),
    ]
    subprocess.run(command, input=pinned, text=True, check=True)


def main() -> None:
    """Write it where the argument says."""
    (path,) = sys.argv[1:]
    write(Path(path))


if __name__ == "__main__":
    main()

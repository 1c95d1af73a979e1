"""Look for keys and passwords in what Git tracks, as detect-secrets knows them.

    python scripts/scan_secrets.py

Whole files are looked through for what its detectors look for; only those that hold some are read
line by line, with its filters, which alone would take half a minute. A line that is meant says
`pragma: allowlist secret`.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.core.scan import scan_file
from detect_secrets.plugins.base import BasePlugin, RegexBasedDetector
from detect_secrets.settings import transient_settings

ROOT = Path(__file__).resolve().parent.parent
_MADE_UP = {"password", "made-up", "hush-hush", "secret", "word"}
"""Passwords in URLs of documentation and tests."""

_MAX_BYTES = 2_000_000
"""Of a file that a person wrote."""


def detectors() -> dict[str, list[re.Pattern[str]]]:
    """Return the detectors of tokens of a known form, with what each looks for. Not those that
    guess by a name or by how random something looks: tests and locks are full of both."""
    known: list[type[BasePlugin]] = list(get_mapping_from_secret_type_to_class().values())
    return {
        detector.__name__: list(detector().denylist)
        for detector in known
        if issubclass(detector, RegexBasedDetector)
    }


def tracked() -> Iterator[tuple[Path, str]]:
    """Return the text files that Git tracks."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)  # noqa: S607
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file() and path.stat().st_size <= _MAX_BYTES:
            try:
                yield path, path.read_text("utf-8")
            except UnicodeDecodeError:
                continue


def problems() -> list[str]:
    """Return where something looks like a secret; never the secret."""
    wanted = detectors()
    patterns = [pattern for patterns in wanted.values() for pattern in patterns]
    found = []
    with transient_settings({"plugins_used": [{"name": name} for name in wanted]}):
        for path, text in tracked():
            if not any(pattern.search(text) for pattern in patterns):
                continue
            found += [
                f"{path.relative_to(ROOT)}:{secret.line_number}: {secret.type}"
                for secret in scan_file(str(path))
                if secret.secret_value not in _MADE_UP
            ]
    return found


def main() -> None:
    """Look for secrets.

    Raises:
        SystemExit: when there are any.
    """
    if found := problems():
        raise SystemExit("\n".join(["these look like secrets:", *found]))


if __name__ == "__main__":
    main()

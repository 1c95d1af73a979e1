"""The bot's database with the present schema, made once for all tests of a process."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from colloquy_slack.database.engine import migrate


def make_slack_database(url: str) -> None:
    """Makes a SQLite database with the present schema, unless it is there; any other is the
    caller's to migrate."""
    scheme, _, path = url.partition(":///")
    file = Path(path)
    if scheme == "sqlite" and not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_bytes(_migrated())


@functools.cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        migrate(f"sqlite:///{folder}/slack.db")
        return Path(folder, "slack.db").read_bytes()

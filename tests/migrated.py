"""Databases with the present schema, which is made once for all tests of a process."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

from colloquy_server.database import migrate


def make_database(url: str, upgrade: Callable[[str], None] = migrate.upgrade) -> None:
    """Makes a SQLite database as `upgrade` would, the server's unless another is given, if it is
    not there; any other database is the caller's."""
    scheme, _, path = url.partition(":///")
    file = Path(path)
    if scheme == "sqlite" and not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_bytes(_migrated(upgrade))


@functools.cache
def _migrated(upgrade: Callable[[str], None]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        upgrade(f"sqlite:///{folder}/empty.db")
        return Path(folder, "empty.db").read_bytes()

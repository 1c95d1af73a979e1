"""Copies a SQLite database as it stands at one moment, while others write to it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from colloquy.operations.private_files import make_private_database

_WAIT = 30.0
"""Seconds to wait for who holds the whole file: a migration, or somebody who compacts it."""


def copy_database(source: Path, target: Path) -> None:
    """Copies all that is committed to a new file, which only this user may read.

    Who writes meanwhile is neither kept waiting nor seen. Raises FileExistsError, and OSError when
    the source is not there, cannot be read, is no database or a broken one, or the disk is full.
    """
    if target.exists():
        raise FileExistsError(f"{target} is there already")
    if not source.is_file():
        raise FileNotFoundError(f"{source} is not there")
    make_private_database(target)
    try:
        _copy(source, target)
    except sqlite3.Error as error:
        target.unlink()
        raise OSError(f"{source} cannot be copied to {target}: {error}") from None


def _copy(source: Path, target: Path) -> None:
    # Not `ro`: who reads a file in WAL mode may have to make its sidecar files.
    address = f"{source.resolve().as_uri()}?mode=rw"
    with (
        closing(sqlite3.connect(address, uri=True, timeout=_WAIT)) as reading,
        closing(sqlite3.connect(target, isolation_level=None)) as writing,
    ):
        reading.backup(writing)  # in one step: one moment's state
        # One file is all that there is to carry away.
        writing.execute("PRAGMA journal_mode = DELETE")
        [found] = writing.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)

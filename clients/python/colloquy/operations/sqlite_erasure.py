"""Takes what was deleted from a SQLite database out of its files.

`secure_delete` has SQLite overwrite what is deleted, but text stands in three more places:

- in the write-ahead log, until that is begun anew and cut off;
- in the unused room of pages between which rows were moved: only VACUUM takes it from there;
- in the segments of a full-text index, which notes of a term only that it is gone until segments
  are merged.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

SECURE_DELETE = "PRAGMA secure_delete = ON"
"""For every connection that writes."""

MAX_COMPACTED = 128 << 20
"""Bytes of the largest file that is compacted: nobody can write meanwhile, for some 10 ms a MiB."""

_WAIT_TO_WRITE = 5.0
_WAIT_FOR_READERS = 0.25
"""Seconds to wait for the one who writes; and, while nobody else can write, for those who read."""

_MERGED_AT_ONCE = -200
"""Pages of a full-text index that are merged in one transaction. Negative: all its segments into
one, whatever their number."""

_NO_MORE = 2
"""A merge that changes fewer rows has found nothing to do."""


def erase_deleted(file: Path, *, full_text: str = "") -> bool:
    """Takes what was deleted, and committed, out of the files of a database in WAL mode;
    `full_text` names its FTS5 table. Of one over MAX_COMPACTED bytes the unused room of pages stays
    as it is.

    False when somebody has read or written for too long meanwhile: then a part is left, and it is
    to be done again. Raises sqlite3.Error for anything else, as when the disk is full.
    """
    connection = sqlite3.connect(file, isolation_level=None, timeout=_WAIT_TO_WRITE)
    with closing(connection):
        try:
            connection.execute(SECURE_DELETE)
            if full_text:
                _merge(connection, full_text)
            if _size(connection) <= MAX_COMPACTED:
                connection.execute("VACUUM")
            connection.execute(f"PRAGMA busy_timeout = {int(_WAIT_FOR_READERS * 1_000)}")
            is_busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            return False
    return not is_busy


def _merge(connection: sqlite3.Connection, table: str) -> None:
    """Makes one segment of a full-text index, step by step: others write in between."""
    step = f"INSERT INTO {table}({table}, rank) VALUES ('merge', {_MERGED_AT_ONCE})"  # noqa: S608 - ours
    while True:
        before = connection.total_changes
        connection.execute(step)
        if connection.total_changes - before < _NO_MORE:
            return


def _size(connection: sqlite3.Connection) -> int:
    pages, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size")
    )
    return int(pages * size)

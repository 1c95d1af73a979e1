"""What a copy of a SQLite database needs beside it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

_STORED_KEYS = "SELECT key FROM blobs WHERE is_stored ORDER BY key"


def stored_keys(file: Path) -> list[str]:
    """The keys of all objects of the file store that a copy of a database knows. Raises OSError
    when it is no database of Colloquy's."""
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            return [key for (key,) in connection.execute(_STORED_KEYS)]
    except sqlite3.Error as error:
        raise OSError(f"{file} is no database of Colloquy's: {error}") from None

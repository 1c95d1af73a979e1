"""A server whose clocks are set: a file in its folder says by how many seconds. Only those that
clocks of the wall are: what counts how long something took goes on."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from tests.soak import served

FILE = "clock"

_UNIX_EPOCH = 2_440_587.5
"""1970-01-01T00:00Z as a Julian day."""

_true_time = time.time


def run() -> int:
    """Serves as `served` does."""
    vars(time)["time"] = _now
    event.listen(Engine, "connect", _set_clock)
    return served.run()


def _now() -> float:
    try:
        return _true_time() + float(Path(FILE).read_text())
    except FileNotFoundError:
        return _true_time()


def _set_clock(connection: Any, _record: object) -> None:
    """The database's own clock: `julianday('now')`."""
    assert isinstance(connection, sqlite3.Connection)
    connection.create_function("julianday", 1, lambda _now_: _UNIX_EPOCH + _now() / 86_400)

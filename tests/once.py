"""What is made once for all processes of tests, because making it takes seconds."""

from __future__ import annotations

import fcntl
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], T]) -> T:
    """What `make` made in a new folder, in whichever process came first; the others wait for it,
    and get a copy of what it returned."""
    base = factory.getbasetemp()
    of_all = base.parent if base.name.startswith("popen-") else base
    folder = of_all / f"once-{name}"
    made = of_all / f"once-{name}.pickle"
    with (of_all / f"once-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            folder.mkdir()
            made.write_bytes(pickle.dumps(make(folder)))
    result: T = pickle.loads(made.read_bytes())
    return result

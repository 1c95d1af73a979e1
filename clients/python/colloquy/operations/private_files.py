"""Files that only this user may read, and one process at a time may use."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DATA_FOLDER = Path("data")
"""Where databases, files and keys are by default, in the working folder."""

_OTHERS = 0o077

_ENDINGS = ("", "-wal", "-shm", "-journal", "-lock")
"""What the names of the files of a SQLite database end with."""


def make_private_folder(folder: Path) -> None:
    """Makes a folder, and those above it that are missing, for this user alone.

    One that is there stays as it is, as it may hold more than what is ours; but not `data`, which
    earlier versions left open.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
    if folder == DATA_FOLDER:
        close_to_others(folder)


def make_private_database(file: Path) -> None:
    """Makes a SQLite file if it is missing, in a folder of its own if that is, and takes it and
    its sidecar files from everybody but this user. SQLite gives new sidecars the file's mode."""
    make_private_folder(file.parent)
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    for ending in _ENDINGS:
        close_to_others(Path(f"{file}{ending}"))


def close_to_others(path: Path) -> None:
    """Takes a file or folder, if it is there, from everybody but its owner. One that belongs to
    somebody else stays as it is."""
    with suppress(FileNotFoundError, PermissionError):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & _OTHERS:
            path.chmod(mode & ~_OTHERS)


def hold_alone(file: Path) -> bool:
    """Takes a file for this process until it ends, however that happens; makes it if it is missing.

    Returns whether no other process has it. Where the file system knows no locks, nobody does.
    """
    descriptor = os.open(file, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS):
            raise
    return True  # the descriptor stays open: the lock goes with it


def write_private(file: Path, text: str) -> None:
    """Writes a file for this user alone, as a whole or not at all; makes its folder."""
    make_private_folder(file.parent)
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as written:
            written.write(text)
        os.replace(name, file)
    except BaseException:
        os.unlink(name)
        raise


@contextmanager
def held(file: Path) -> Iterator[None]:
    """Lets one process and thread at a time into the block, for the same file; the others wait."""
    make_private_folder(file.parent)
    descriptor = os.open(file.with_name(f"{file.name}-lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

"""A backup of a SQLite database and its local files, taken while a server serves from them, and
the way back.

A backup is a folder: the database as it stood at one moment, and all files that it knows. A file's
bytes are stored before the database knows them whole, and never change under their key; so the
database is copied first. With Postgres, `pg_dump` and the store's own copies do this: see
docs/operations.md.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from colloquy.operations.private_files import make_private_folder
from colloquy.operations.sqlite_copy import copy_database

from colloquy_server.database.backup import stored_keys
from colloquy_server.database.engine import database_file
from colloquy_server.errors import ColloquyError
from colloquy_server.files.files import picture_key
from colloquy_server.settings import Settings

_DATABASE = "conversations.db"
_FILES = "files"


def back_up(settings: Settings, target: Path) -> str:
    """Writes a backup to a new folder, which is there whole or not at all; returns what it has, for
    people.

    Raises ColloquyError when the settings name another kind of database or the folder is there, and
    OSError.
    """
    database = _database(settings)
    if target.exists():
        raise ColloquyError(f"{target} is there already: name a new folder")
    partial = target.with_name(f"{target.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)  # of a backup that was broken off
    make_private_folder(partial)
    copy_database(database, partial / _DATABASE)
    said = "the database"
    store = _local_store(settings)
    if store is None:
        said += f"; its files stay in {settings.storage_url}, which has copies of its own"
    else:
        keys = stored_keys(partial / _DATABASE)
        said += f" and {_copy_files(keys, store, partial / _FILES)}"
    os.rename(partial, target)
    _sync(target.parent)
    return f"{target} has {said}"


def restore(settings: Settings, source: Path) -> str:
    """Puts a backup where the settings say that database and files are, and where there must be no
    database yet; returns what it did, for people. A server that starts there then migrates it.

    Raises ColloquyError when the settings name another kind of database or one is there, and
    OSError.
    """
    database = _database(settings)
    if database.exists():
        raise ColloquyError(
            f"{database} is there already: stop the server, then move that file and those beside"
            " it that begin with its name out of the way"
        )
    if not (source / _DATABASE).is_file():
        raise ColloquyError(f"{source} is no backup: it has no {_DATABASE}")
    keys = stored_keys(source / _DATABASE)
    said = "the database"
    store = _local_store(settings)
    if store is not None and (source / _FILES).is_dir():
        said += f" and {_copy_files(keys, source / _FILES, store)}"
    # Last: while it is not there, nobody serves from files that are not all there.
    for ending in ("-wal", "-shm"):  # of another database, which SQLite would take for its own
        database.with_name(database.name + ending).unlink(missing_ok=True)
    partial = database.with_name(f"{database.name}.partial")
    partial.unlink(missing_ok=True)
    copy_database(source / _DATABASE, partial)
    os.rename(partial, database)
    _sync(database.parent)
    return f"restored from {source}: {said}"


def _database(settings: Settings) -> Path:
    file = database_file(settings.database_url)
    if file is None:
        raise ColloquyError(
            "DATABASE_URL is a Postgres: back it up and restore it with pg_dump and pg_restore, as"
            " docs/operations.md says"
        )
    return file


def _local_store(settings: Settings) -> Path | None:
    """The folder of a local store; None for one that is elsewhere."""
    scheme, _, folder = settings.storage_url.partition("://")
    return Path(folder) if scheme == "file" else None


def _copy_files(keys: list[str], source: Path, target: Path) -> str:
    """Copies files and the pictures made of them, unless they are there; says how many."""
    copied = 0
    for key in keys:
        copied += _copy_file(source / key, target / key)
        _copy_file(source / picture_key(key), target / picture_key(key))
    gone = len(keys) - copied
    return f"{copied} files" + (f"; {gone} were deleted meanwhile" if gone else "")


def _copy_file(source: Path, target: Path) -> bool:
    """Whether the file is there now."""
    if target.exists():
        return True
    make_private_folder(target.parent)
    partial = target.with_name(f"{target.name}#backup")
    try:
        with source.open("rb") as reading, partial.open("wb") as writing:
            shutil.copyfileobj(reading, writing, 1 << 20)
            writing.flush()
            os.fsync(writing.fileno())
    except FileNotFoundError:
        return False
    os.rename(partial, target)
    return True


def _sync(folder: Path) -> None:
    """Has the disk keep the names in a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

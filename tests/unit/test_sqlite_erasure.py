"""What is deleted from a SQLite database is not in its files any more."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest
from colloquy.operations import sqlite_erasure
from colloquy.operations.sqlite_erasure import SECURE_DELETE, erase_deleted

ROWS = 1_500


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "some.db"


@pytest.fixture
def db(file: Path) -> Iterator[sqlite3.Connection]:
    """Texts that grew as replies do, and their terms; two of three are deleted."""
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = OFF")
        db.execute(SECURE_DELETE)
        db.execute("CREATE TABLE said (id TEXT PRIMARY KEY, content TEXT)")
        db.execute("CREATE VIRTUAL TABLE terms USING fts5(words, tokenize = 'unicode61')")
        for number in range(ROWS):
            db.execute("BEGIN")
            db.execute("INSERT INTO said VALUES (?, '')", (f"{number * 7919 % ROWS:05}",))
            for length in (1, 20, number % 300):
                content = f"{word(number)} " * (length + 1)
                db.execute("UPDATE said SET content = ? WHERE rowid = ?", (content, number + 1))
            db.execute("INSERT INTO terms (rowid, words) VALUES (?, ?)", (number, word(number)))
            db.execute("COMMIT")
        for number in range(ROWS):
            if number % 3:
                db.execute("DELETE FROM said WHERE rowid = ?", (number + 1,))
                db.execute("DELETE FROM terms WHERE rowid = ?", (number,))
        yield db


def word(number: int) -> str:
    """A word that begins like few others: an index leaves out what the one before begins with."""
    return f"{sha256(b'%d' % number).hexdigest()[:6]}{number:05}word"


_SEARCH = """
import pathlib, re, sys
for path in pathlib.Path(sys.argv[1]).iterdir():
    print(*{found.decode() for found in re.findall(rb"[0-9]{5}(?=word)", path.read_bytes())})
"""


def in_files(folder: Path) -> set[int]:
    """The numbers of the words that stand in a file. Another process looks: one that opens and
    closes a database's file gives up all locks that it has on it."""
    command = [sys.executable, "-c", _SEARCH, str(folder)]
    return {int(found) for found in subprocess.check_output(command).split()}


GONE = {number for number in range(ROWS) if number % 3}
KEPT = {*range(ROWS)} - GONE


def test_nothing_is_left_and_what_is_kept_is_found(db: sqlite3.Connection, file: Path) -> None:
    assert in_files(file.parent) > KEPT
    assert erase_deleted(file, full_text="terms")
    assert in_files(file.parent) == KEPT
    found = "SELECT rowid FROM terms WHERE terms MATCH ?"
    for number in (0, 3, ROWS - 3):
        assert db.execute(found, (word(number),)).fetchall() == [(number,)]
    assert db.execute("SELECT count(*) FROM said").fetchone() == (len(KEPT),)


def test_who_reads_is_not_waited_for(db: sqlite3.Connection, file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM said").fetchone()
        assert not erase_deleted(file, full_text="terms")
        reader.execute("ROLLBACK")
    assert erase_deleted(file, full_text="terms")
    assert in_files(file.parent) == KEPT


def test_who_writes_for_long_is_told_of(
    db: sqlite3.Connection, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_erasure, "_WAIT_TO_WRITE", 0.0)
    db.execute("BEGIN IMMEDIATE")
    assert not erase_deleted(file, full_text="terms")
    db.execute("COMMIT")
    assert erase_deleted(file, full_text="terms")


def test_a_large_file_is_not_compacted(
    db: sqlite3.Connection, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_erasure, "MAX_COMPACTED", 0)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    pages = db.execute("PRAGMA page_count").fetchone()
    assert erase_deleted(file, full_text="terms")
    assert db.execute("PRAGMA page_count").fetchone() >= pages
    left = in_files(file.parent) - KEPT
    assert len(left) < len(GONE) / 20  # in the room between rows that were moved

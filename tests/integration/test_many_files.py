"""Removing a file takes as long however many others an account has."""

from __future__ import annotations

from pathlib import Path

import pytest
from colloquy_server.database.engine import sync_engine
from colloquy_server.database.models import Attachment, Blob
from colloquy_server.database.repository import access, attachments
from colloquy_server.database.transactions import EVERY_ACCOUNT, commit
from sqlalchemy import Connection, insert

from tests.migrated import make_database
from tests.steps import counted


def _fill(connection: Connection, others: int) -> str:
    """Files of an account; the first of them is to be removed."""
    account_id = commit(connection, EVERY_ACCOUNT, lambda s: access.create_account(s, "A", None).id)
    both = {"account_id": account_id, "byte_size": 1, "touch_time": 0}
    ids = [f"{number:036}" for number in range(others + 1)]
    connection.execute(
        insert(Blob), [{**both, "sha256": each, "key": each, "is_stored": True} for each in ids]
    )
    file = {**both, "uploader_id": "u", "filename": "f", "content_type": "t", "kind": 1}
    connection.execute(
        insert(Attachment), [{**file, "id": each, "sha256": each, "create_time": 0} for each in ids]
    )
    connection.commit()
    return ids[0]


def _removal(url: str, others: int) -> int:
    """The steps in which a file is removed."""
    make_database(url)
    with sync_engine(url).connect() as connection:
        file = _fill(connection, others)
        with counted(connection) as steps:
            commit(connection, EVERY_ACCOUNT, lambda s: attachments.remove_unused(s, [file]))
        assert connection.exec_driver_sql("SELECT count(*) FROM blobs").scalar_one() == others
    return steps.taken


def test_a_file_is_removed_in_as_many_steps_whatever_else_there_is(tmp_path: Path) -> None:
    alone, among_many = (
        _removal(f"sqlite:///{tmp_path}/{others}.db", others) for others in (0, 2_000)
    )
    assert among_many == pytest.approx(alone, rel=0.1)

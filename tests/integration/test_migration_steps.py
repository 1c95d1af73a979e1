"""Each migration goes back and forth on a database with rows in all tables, and loses nothing that
the older version knew; and servers of both may run meanwhile."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from colloquy_server import process as server
from colloquy_server.database import migrate
from colloquy_server.database.engine import sync_engine
from colloquy_server.database.migrate import Fit
from colloquy_server.database.models import Base, SchemaFloor
from colloquy_server.errors import ColloquyError
from colloquy_server.settings import SettingsError
from sqlalchemy import Column, Connection, Engine, MetaData, insert, select, text, update

Rows = dict[tuple[str, str], list[Any]]
"""The values of each column, by its table and name, in the order of the rows' keys."""

FIXED = {"state": 3, "role": 1, "visibility": 1, "superseded": False, "deleted": False}
FIXED |= {"features": 0}
"""What cannot be just any value: `features` says what there is in tables that come later."""


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "postgres":
        yield str(request.getfixturevalue("postgres_url"))
    else:
        yield f"sqlite:///{tmp_path}/conversations.db"


def value(column: Column[Any]) -> Any:
    """One for a row of a table in which it is the only one."""
    for key in column.foreign_keys:
        if key.column.table is not column.table:
            return value(key.column)
    if column.foreign_keys:
        return None
    if column.name == "account_id":
        return "a"
    if column.name in FIXED:
        return FIXED[column.name]
    kind = column.type.python_type
    if kind is str:
        return "a" if column.table.name == "accounts" and column.name == "id" else "x"
    return {int: 1, bool: True, float: 0.5, bytes: b"x", dict: {}, list: []}[kind]


def fill(connection: Connection) -> None:
    """A row in each table."""
    for table in Base.metadata.sorted_tables:
        if connection.execute(select(table).limit(1)).first() is None:
            connection.execute(insert(table), {one.name: value(one) for one in table.columns})


def rows(engine: Engine) -> Rows:
    """All that is in our tables, without those of the search, which each kind of database has of
    its own."""
    there = MetaData()
    known = set(Base.metadata.tables)
    found: Rows = {}
    with engine.connect() as connection:
        there.reflect(connection, only=lambda name, _: name in known)
        for table in there.sorted_tables:
            found |= {(table.name, column.name): [] for column in table.columns}
            key = list(table.primary_key.columns)
            for row in connection.execute(select(table).order_by(*key)).mappings():
                for name, one in row.items():
                    found[table.name, str(name)].append(one)
    return found


def differences(before: Rows, after: Rows) -> dict[tuple[str, str], tuple[Any, Any]]:
    return {
        place: (before[place], after[place])
        for place in before.keys() & after.keys()
        if before[place] != after[place]
    }


def revisions() -> list[str]:
    """All, the newest first."""
    return [script.revision for script in migrate._scripts().walk_revisions()]


def test_each_step_back_and_forth_keeps_what_the_older_version_knew(url: str) -> None:
    migrate.upgrade(url)
    engine = sync_engine(url)
    with engine.begin() as connection:
        fill(connection)
    known = {revision: Rows() for revision in revisions()}
    newest, *older = known
    known[newest] = now = rows(engine)
    assert all(now.values())
    assert set(Base.metadata.tables) == {table for table, _ in now}
    for revision in older:  # back
        before, now = now, rows_at(engine, url, revision)
        tables = {table for table, _ in now}
        assert {place for place in before if place[0] in tables} >= set(now), revision
        assert differences(before, now) == {}, f"back to {revision}"
        known[revision] = now
    for revision in reversed(list(known)):  # and forth
        before, now = now, rows_at(engine, url, revision)
        assert set(known[revision]) == set(now), revision
        assert differences(before, now) == {}, f"to {revision}"
    engine.dispose()


def rows_at(engine: Engine, url: str, revision: str) -> Rows:
    migrate.migrate_to(url, revision)
    return rows(engine)


def test_a_server_serves_from_a_newer_schema_unless_it_lost_what_the_server_needs(
    url: str,
) -> None:
    migrate.upgrade(url)
    engine = sync_engine(url)

    def newer(floor: str) -> None:
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
            connection.execute(update(SchemaFloor).values(revision=floor))

    newer(floor=migrate.head())
    assert migrate.fit(url) is Fit.NEWER
    server._check_schema(url)
    migrate.upgrade(url)  # which changes nothing
    assert migrate.revision(url) == "9999"
    with pytest.raises(SettingsError, match="use that one's command"):
        migrate.migrate_to(url, "0010")
    newer(floor="9998")
    assert migrate.fit(url) is Fit.TOO_NEW
    with pytest.raises(ColloquyError, match="newer version"):
        server._check_schema(url)
    with pytest.raises(SettingsError, match="--to REVISION"):
        migrate.upgrade(url)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE schema_floors"))
    assert migrate.fit(url) is Fit.TOO_NEW
    with pytest.raises(SettingsError, match="no revision 9997"):
        migrate.migrate_to(url, "9997")
    engine.dispose()


def test_a_migration_does_not_wait_long_for_a_table_that_is_in_use(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All who ask for the table after it would wait behind it."""
    monkeypatch.setattr(migrate, "_LOCK_TIMEOUT", "SET LOCAL lock_timeout = '50ms'")
    engine = sync_engine(postgres_url)
    with engine.connect() as dump, dump.begin():
        dump.execute(text("LOCK TABLE quotas IN ACCESS SHARE MODE"))
        with pytest.raises(SettingsError, match="lock timeout"):
            migrate.migrate_to(postgres_url, "0010")
    assert migrate.fit(postgres_url) is Fit.CURRENT
    migrate.migrate_to(postgres_url, "0010")
    assert migrate.fit(postgres_url) is Fit.OLDER
    engine.dispose()


def test_what_takes_something_away_says_how_old_a_server_may_be() -> None:
    for script in migrate._scripts().walk_revisions():
        if script.revision > "0016":
            way = inspect.getsource(script.module.upgrade)
            takes_away = re.search(r"drop_(column|table|constraint)|new_column_name|rename", way)
            assert not takes_away or "schema_floors" in way, script.revision

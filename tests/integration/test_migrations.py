"""Migrations: what they make is what the models say, and nothing that was said is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from colloquy_server.database import migrate
from colloquy_server.database.engine import open_database, sync_engine
from colloquy_server.database.models import Base
from colloquy_server.database.repository import indexing, search
from colloquy_server.database.transactions import EVERY_ACCOUNT
from colloquy_server.settings import SettingsError
from sqlalchemy import Engine, text


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path}/conversations.db"


def run(engine: Engine, direction: str, revision: str) -> None:
    with engine.begin() as connection:
        config: Config = migrate._config()
        config.attributes["connection"] = connection
        getattr(command, direction)(config, revision)


def test_the_migrations_make_what_the_models_say(url: str) -> None:
    migrate.upgrade(url)
    engine = sync_engine(url)
    known = set(Base.metadata.tables)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                # The words of the search are in a table of the database's own kind.
                "include_object": lambda _o, name, kind, *_: kind != "table" or name in known,
            },
        )
        found = compare_metadata(context, Base.metadata)
    engine.dispose()
    assert [change for change in found if "search_words" not in str(change)] == []


async def test_what_was_said_before_there_was_a_search_is_found(url: str) -> None:
    engine = sync_engine(url)
    migrate.upgrade(url)
    run(engine, "downgrade", "0001")
    said(engine)
    run(engine, "upgrade", "head")
    engine.dispose()
    assert await found(url, "saying") == ["An old saying"]


async def test_what_was_searchable_stays_so_and_is_not_entered_again(url: str) -> None:
    engine = sync_engine(url)
    migrate.upgrade(url)
    run(engine, "downgrade", "0001")
    said(engine)
    run(engine, "upgrade", "0003")
    with engine.begin() as connection:
        connection.execute(text("UPDATE conversations SET version = 7"))
    run(engine, "upgrade", "head")
    engine.dispose()
    assert (await due(url)).reached == {}
    assert await found(url, "saying") == ["An old saying"]


async def test_what_is_not_searchable_yet_is_entered_before_nobody_does_so_any_more(
    url: str,
) -> None:
    engine = sync_engine(url)
    migrate.upgrade(url)
    said(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE conversations SET version = 2"))
        connection.execute(text("UPDATE messages SET version = 2"))
    assert len((await due(url)).texts) == 1
    run(engine, "downgrade", "0003")
    run(engine, "upgrade", "head")
    engine.dispose()
    assert (await due(url)).reached == {}
    assert await found(url, "saying") == ["An old saying"]


def said(engine: Engine) -> None:
    """Stores a message in a conversation, in the schema of 0001 or a later one."""
    insert = """
        INSERT INTO {table} ({columns}) VALUES ({values})
    """
    rows = {
        "accounts": "id='a', name='A', default_user_id='u', create_time=1",
        "users": "id='u', account_id='a', display_name='A', avatar_url='', create_time=1",
        "conversations": (
            "id='c', account_id='a', title='', title_by_user=FALSE, title_owed=0,"
            " title_lease_until=0, model='m', system_prompt='', version=1, info_version=1,"
            " message_count=1, create_time=1, update_time=1, activity_time=1"
        ),
        "messages": (
            "id='m', account_id='a', conversation_id='c', position=1, role=1, author_id='u',"
            " content='An old saying', state=3, version=1, create_time=1, update_time=1,"
            " model='', attempt=0, superseded=FALSE, finish_reason='', error_reason='',"
            " error_message='', rating=0, rating_comment='', epoch=0, lease_until=0, strikes=0,"
            " cancel_requested=FALSE, queue_rank=0"
        ),
    }
    with engine.begin() as connection:
        for table, fields in rows.items():
            pairs = [field.strip().partition("=")[::2] for field in fields.split(",")]
            columns, values = (", ".join(part) for part in zip(*pairs, strict=True))
            connection.execute(text(insert.format(table=table, columns=columns, values=values)))


async def due(url: str) -> indexing.Batch:
    """What is not searchable yet."""
    db = open_database(url, 2)
    batch = await db.read(EVERY_ACCOUNT, indexing.due)
    await db.close()
    return batch


async def found(url: str, word: str) -> list[str]:
    """The messages in which a search finds the word."""
    db = open_database(url, 2)
    hits, has_more = await db.read(
        EVERY_ACCOUNT,
        search.find,
        "a",
        [[word]],
        "",
        limit=10,
        max_bytes=1_000,
        shape=lambda message: (message.content, len(message.content)),
        before=None,
    )
    await db.close()
    assert not has_more
    return [hit.message for hit in hits]


@pytest.mark.parametrize("open_", [migrate.upgrade, migrate.is_current])
def test_a_database_that_cannot_be_used_is_one_line_without_the_password(
    open_: Callable[[str], object], tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("This is no database. " * 100)
    for url in (
        f"sqlite:///{tmp_path}/folder",
        f"sqlite:///{tmp_path}/text",
        f"sqlite:///{tmp_path}/text/below.db",
        "postgresql://me:hush-hush@127.0.0.1:1/x",
        "postgresql://me:hush-hush@127.0.0.1:1/x?colour=red",
    ):
        with pytest.raises(SettingsError, match=r"^DATABASE_URL cannot be used: .") as caught:
            open_(url)
        assert "\n" not in caught.value.message
        assert "hush-hush" not in caught.value.message
        assert "sqlalche" not in caught.value.message

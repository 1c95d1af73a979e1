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


def test_what_the_slack_bot_made_is_provisioned_and_nothing_else(url: str) -> None:
    """It goes on to use that with a key that may touch nothing else."""
    engine = sync_engine(url)
    migrate.upgrade(url)
    said(engine)
    made = "INSERT INTO accounts (id, name, external_id, default_user_id, create_time) VALUES "
    key = (
        "INSERT INTO api_keys (id, account_id, name, role, user_id, secret_hash, create_time,"
        " last_used_time) VALUES ('k', 'a', 'K', 2, 'u', 'hash', 1, 2)"
    )
    with engine.begin() as connection:
        connection.execute(text(f"{made} ('t', 'T', 'slack:T1', 'v', 1), ('o', 'O', 'x', 'w', 1)"))
        connection.execute(text(key))
    for _ in range(2):
        run(engine, "downgrade", "0004")
        run(engine, "upgrade", "head")
    query = text("SELECT id FROM accounts WHERE is_provisioned ORDER BY id")
    with engine.begin() as connection:
        assert list(connection.scalars(query)) == ["t"]
        assert list(connection.scalars(text("SELECT last_used_time FROM api_keys"))) == [None]
    engine.dispose()


def test_what_is_deleted_stays_so_in_an_older_schema(url: str) -> None:
    engine = sync_engine(url)
    migrate.upgrade(url)
    run(engine, "downgrade", "0004")
    said(engine)
    run(engine, "upgrade", "head")
    counts = text("SELECT message_count, last_position FROM conversations")
    with engine.begin() as connection:
        assert connection.execute(counts).all() == [(1, 1)]
        connection.execute(text("UPDATE messages SET deleted = TRUE, content = ''"))
        connection.execute(text("UPDATE conversations SET message_count = 0"))
    run(engine, "downgrade", "0004")
    with engine.begin() as connection:
        assert connection.execute(text("SELECT id FROM messages")).all() == []
        # Positions are counted from here, and are not to be given twice.
        assert connection.execute(text("SELECT message_count FROM conversations")).all() == [(1,)]
    engine.dispose()


def test_what_accounts_hold_is_counted_once(url: str) -> None:
    engine = sync_engine(url)
    migrate.upgrade(url)
    run(engine, "downgrade", "0004")
    said(engine)
    with engine.begin() as connection:
        for account, sha256, byte_size in ("a", "x", 3), ("a", "y", 4):
            connection.execute(
                text(
                    "INSERT INTO blobs (account_id, sha256, key, byte_size, is_stored, touch_time)"
                    f" VALUES ('{account}', '{sha256}', '{sha256}', {byte_size}, TRUE, 1)"
                )
            )
        connection.execute(
            text(
                "INSERT INTO accounts (id, name, default_user_id, create_time)"
                " VALUES ('b', 'B', 'v', 1)"
            )
        )
    for _ in range(2):
        run(engine, "upgrade", "head")
        with engine.connect() as connection:
            rows = connection.execute(
                text("SELECT id, account_id, file_bytes, conversations FROM quotas ORDER BY id")
            )
            assert [tuple(row) for row in rows] == [("a", "a", 7, 1), ("b", "b", 0, 0)]
        run(engine, "downgrade", "0004")
    engine.dispose()


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
        after="",
    )
    await db.close()
    assert not has_more
    return hits


@pytest.mark.parametrize("open_", [migrate.upgrade, migrate.fit])
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


FILE = (
    "INSERT INTO attachments (id, account_id, sha256, filename, content_type, kind, byte_size,"
    " width, height, create_time, touch_time{column}) VALUES ({id}, 'a', 'x', 'f', '', 1, 1, 0, 0,"
    " 1, 1{uploader})"
)


def uploaded(engine: Engine) -> None:
    """Stores a file in the message of `said`, in the schema of 0004."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO blobs (account_id, sha256, key, byte_size, is_stored, touch_time)"
                " VALUES ('a', 'x', 'k', 1, TRUE, 1)"
            )
        )
        connection.execute(text(FILE.format(id="'f'", column="", uploader="")))
        connection.execute(
            text(
                "INSERT INTO message_attachments (message_id, position, attachment_id, account_id)"
                " VALUES ('m', 1, 'f', 'a')"
            )
        )


def ask(engine: Engine, query: str) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def test_what_there_was_stays_the_accounts_and_is_of_who_wrote_first(url: str) -> None:
    engine = sync_engine(url)
    migrate.upgrade(url)
    run(engine, "downgrade", "0004")
    said(engine)
    uploaded(engine)
    run(engine, "upgrade", "head")
    assert ask(engine, "SELECT visibility, creator_id FROM conversations") == [(1, "u")]
    assert ask(engine, "SELECT default_visibility FROM accounts") == [(1,)]
    assert ask(engine, "SELECT id, uploader_id FROM attachments") == [("f", "u")]
    assert ask(engine, "SELECT attachment_id FROM message_attachments") == [("f",)]
    engine.dispose()


def test_a_file_that_several_uploaded_is_one_again(url: str) -> None:
    engine = sync_engine(url)
    migrate.upgrade(url)
    run(engine, "downgrade", "0004")
    said(engine)
    uploaded(engine)
    run(engine, "upgrade", "head")
    with engine.begin() as connection:
        other = FILE.format(id="'e'", column=", uploader_id", uploader=", 'v'")
        connection.execute(text(other))
    run(engine, "downgrade", "0004")
    assert ask(engine, "SELECT id FROM attachments") == [("e",)]
    assert ask(engine, "SELECT attachment_id FROM message_attachments") == [("e",)]
    run(engine, "upgrade", "head")
    assert ask(engine, "SELECT id, uploader_id FROM attachments") == [("e", "u")]
    engine.dispose()


def test_who_was_there_is_found_by_their_names_and_has_nothing_unread(url: str) -> None:
    engine = sync_engine(url)
    migrate.upgrade(url)
    run(engine, "downgrade", "0008")
    said(engine)
    named = text(
        "INSERT INTO users (id, account_id, external_id, display_name, avatar_url, create_time)"
        " VALUES ('named', 'a', 'x.y@corp', 'Änne Ü', '', 1)"
    )
    with engine.begin() as connection:
        connection.execute(named)
    for _ in range(2):
        run(engine, "upgrade", "head")
        with engine.begin() as connection:
            found = connection.execute(
                text("SELECT words, unread_since FROM users WHERE id = 'named'")
            ).one()
            newest = connection.execute(text("SELECT max(create_time) FROM messages")).scalar_one()
            assert found[0] == " anne u x y corp"
            assert found[1] > newest
            connection.execute(
                text(
                    "INSERT INTO personal_states (account_id, conversation_id, user_id, pinned,"
                    " read_position, change_mark) VALUES ('a', 'c', 'named', TRUE, 1, 1)"
                )
            )
        run(engine, "downgrade", "0008")
    engine.dispose()

"""The bot's tables: what is stored once, who owns a lease, and that migrations make the tables."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from colloquy_slack.database import inbox, leases, outbox, preferences, retention
from colloquy_slack.database.engine import Database, migrate
from colloquy_slack.database.inbox import NewRequest
from colloquy_slack.database.models import Base, State
from colloquy_slack.incoming import routing
from sqlalchemy import create_engine, inspect
from sqlalchemy.exc import SQLAlchemyError


@pytest.fixture
def url(slack_url: str) -> str:
    """A database that was migrated twice."""
    migrate(slack_url)
    return slack_url


@pytest.fixture
async def db(url: str) -> Database:
    return Database(url)


def new_request(ts: str = "1.0", **more: object) -> NewRequest:
    values = {"thread_ts": ts, "external_id": f"slack:T1:C1:{ts}", "user_id": "U1", **more}
    return NewRequest(team_id="T1", channel_id="C1", ts=ts, received_at=1.0, **values)  # type: ignore[arg-type]


async def test_a_request_is_stored_once(db: Database) -> None:
    assert await db.run(inbox.store, new_request(text="first"))
    assert not await db.run(inbox.store, new_request(text="again"))
    (row,) = await db.run(inbox.unfinished, "T1", (), 10)
    assert (row.text, row.state, row.content) == ("first", State.NEW, None)
    assert await db.run(inbox.is_engaged, "T1", "slack:T1:C1:1.0")
    assert not await db.run(inbox.is_engaged, "T2", "slack:T1:C1:1.0")
    await db.close()


async def test_unfinished_is_what_is_not_done(db: Database) -> None:
    for ts in ("1.0", "2.0", "3.0"):
        await db.run(inbox.store, new_request(ts))
    first, second, third = await db.run(inbox.unfinished, "T1", (), 10)
    await db.run(inbox.set_fields, second.id, state=State.DONE)
    rows = await db.run(inbox.unfinished, "T1", {first.id}, 10)
    assert [row.id for row in rows] == [third.id]
    assert await db.run(inbox.mark_stopped, "T1", second.id) is None
    assert await db.run(inbox.mark_stopped, "T2", third.id) is None
    assert await db.run(inbox.mark_stopped, "T1", third.id) is not None
    await db.close()


async def test_text_is_deleted_and_deliveries_still_known(db: Database) -> None:
    await db.run(inbox.store, new_request("1.0", text="old"))
    await db.run(inbox.store, new_request("2.0", text="live"))
    first, _ = await db.run(inbox.unfinished, "T1", (), 10)
    await db.run(inbox.set_fields, first.id, state=State.DONE, content="old", reply_id="r")
    await db.run(retention.delete_text, 2.0, 0.0)
    kept = await db.run(inbox.get, "T1", first.id)
    assert kept is not None
    assert (kept.text, kept.content) == ("", "")
    assert [row.text for row in await db.run(inbox.unfinished, "T1", (), 10)] == ["live"]
    assert await db.run(inbox.store, new_request("1.0", text="old")) is None
    await db.close()


async def test_text_that_a_button_still_needs_is_kept_longer(db: Database) -> None:
    offered = await db.run(inbox.store, new_request("1.0/2.0", text="edited", state=State.OFFERED))
    refused = await db.run(inbox.store, new_request("2.0", text="refused", state=State.DONE))
    await db.run(retention.delete_text, 2.0, 0.5)
    for row_id, words in ((offered, "edited"), (refused, "refused")):
        kept = await db.run(inbox.get, "T1", row_id or 0)
        assert kept is not None
        assert kept.text == words
    await db.run(retention.delete_text, 2.0, 2.0)
    for row_id in (offered, refused):
        kept = await db.run(inbox.get, "T1", row_id or 0)
        assert kept is not None
        assert kept.text == ""
    await db.close()


async def test_a_post_is_intended_once_and_then_recorded(db: Database) -> None:
    await db.run(inbox.store, new_request())
    (row,) = await db.run(inbox.unfinished, "T1", (), 10)
    await db.run(outbox.intend, row.id, 0)
    await db.run(outbox.record, row.id, 0, ts="5.0")
    await db.run(outbox.intend, row.id, 0)
    (post,) = await db.run(outbox.posts, row.id)
    assert (post.number, post.ts) == (0, "5.0")
    found = await db.run(outbox.request_of_post, "T1", "C1", "5.0")
    assert found is not None
    assert found.id == row.id
    assert await db.run(outbox.recorded_ts, "T1", "C1", ["5.0", "6.0"]) == {"5.0"}
    await db.close()


async def test_a_lease_has_one_owner_until_it_ends(db: Database) -> None:
    assert await db.run(leases.claim, "T1", "a", 100, 10)
    assert not await db.run(leases.claim, "T1", "b", 105, 10)
    assert await db.run(leases.claim, "T1", "a", 105, 10)
    assert not await db.run(leases.claim, "T1", "b", 114, 10)
    assert await db.run(leases.claim, "T1", "b", 115, 10)
    assert not await db.run(leases.claim, "T1", "a", 116, 10)
    await db.run(leases.release, ["T1"], "a")
    assert not await db.run(leases.claim, "T1", "a", 116, 10)
    await db.run(leases.release, ["T1"], "b")
    assert await db.run(leases.claim, "T1", "a", 116, 10)
    await db.close()


async def test_leases_are_renewed_and_claimed_together(db: Database) -> None:
    await db.run(leases.claim, "T1", "b", 100, 10)
    assert await db.run(leases.claim_free, ["T1", "T2", "T3"], "a", 105, 10) == {"T2", "T3"}
    assert await db.run(leases.renew, "a", 110, 10) == {"T2", "T3"}
    assert await db.run(leases.claim_free, ["T1", "T2", "T3"], "b", 111, 10) == {"T1"}
    await db.run(leases.release, ["T1", "T2"], "a")
    assert await db.run(leases.renew, "a", 112, 10) == {"T3"}
    await db.close()


async def test_what_is_unfinished_in_all_workspaces_is_one_query(db: Database) -> None:
    for number, team_id in enumerate(("T1", "T1", "T2", "T3")):
        await db.run(inbox.store, replace(new_request(f"{number}.0"), team_id=team_id))
    (done,) = await db.run(inbox.unfinished, "T3", (), 10)
    await db.run(inbox.set_fields, done.id, state=State.DONE)
    (stopped,) = await db.run(inbox.unfinished, "T2", (), 10)
    await db.run(inbox.mark_stopped, "T2", stopped.id)
    assert await db.run(inbox.unfinished_by_workspace) == {
        "T1": (2, set()),
        "T2": (1, {stopped.id}),
    }
    await db.close()


async def test_transactions_at_once_do_not_touch_each_other(db: Database) -> None:
    def fail(_session: object) -> None:
        raise ValueError("no")

    results = await asyncio.gather(
        *(db.run(inbox.store, new_request(f"{n}.0")) for n in range(20)),
        db.run(fail),
        *(db.run(inbox.store, new_request(f"{n}.0")) for n in range(20)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, int) for result in results) == 20
    assert sum(isinstance(result, ValueError) for result in results) == 1
    assert len(await db.run(inbox.unfinished, "T1", (), 100)) == 20
    await db.close()


async def test_preferences_are_kept(db: Database) -> None:
    await db.run(preferences.set_channel, "T1", "C1", answers_all=True)
    await db.run(preferences.set_channel, "T1", "C1", chapter=2)
    held = await db.run(preferences.channel_preferences, "T1", "C1")
    assert (held.answers_all, held.chapter, held.model) == (True, 2, "")
    await db.run(preferences.set_user_model, "T1", "U1", "m")
    await db.run(preferences.set_user_model, "T1", "U1", "n")
    assert await db.run(preferences.user_model, "T1", "U1") == "n"
    assert await db.run(preferences.user_model, "T2", "U1") == ""
    await db.close()


def test_migrations_make_the_tables_of_the_models(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/slack.db"
    migrate(url)
    engine = create_engine(url)
    found = inspect(engine)
    for table in Base.metadata.sorted_tables:
        there = {
            column["name"]: (column["nullable"], str(column["type"]))
            for column in found.get_columns(table.name)
        }
        wanted = {
            column.name: (column.nullable, str(column.type.compile(engine.dialect)))
            for column in table.columns
        }
        assert there == wanted
        assert {index["name"] for index in found.get_indexes(table.name)} == {
            index.name for index in table.indexes
        }
    engine.dispose()


async def test_a_postgres_that_takes_writes_again_is_found_again(postgres_url: str) -> None:
    migrate(postgres_url)
    db = Database(postgres_url)
    await db.run(inbox.store, new_request("1.0"))
    name = postgres_url.rpartition("/")[2].partition("?")[0]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'.encode()
        )
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        for ts in ("2.0", "3.0"):  # the connection was lost, then leads to a server that only reads
            with pytest.raises(SQLAlchemyError):
                await db.run(inbox.store, new_request(ts))
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only'.encode())
    assert await db.run(inbox.store, new_request("4.0"))
    await db.close()


def test_the_bots_files_are_for_their_owner_alone_also_those_that_were_open(tmp_path: Path) -> None:
    file = tmp_path / "data" / "slack.db"
    for _ in range(2):
        migrate(f"sqlite:///{file}")
        assert file.parent.stat().st_mode & 0o077 == 0
        assert file.stat().st_mode & 0o077 == 0
        file.chmod(0o644)


async def test_what_is_deleted_while_it_is_answered_is_forgotten_at_its_end(db: Database) -> None:
    row_id = await db.run(inbox.store, replace(new_request(), text="secret"))
    assert row_id is not None
    await db.run(inbox.mark_deleted, "T1", "C1", "1.0")
    assert await db.run(inbox.withdrawals, "T1") == []
    await db.run(inbox.finish, row_id)
    row = await db.run(inbox.get, "T1", row_id)
    assert row is not None
    assert (row.text, row.state, row.is_deleted) == ("", State.DONE, True)
    await db.close()


async def test_what_was_deleted_is_neither_kept_nor_sent_again(db: Database) -> None:
    row_id = await db.run(inbox.store, replace(new_request(), text="secret", state=State.DONE))
    assert row_id is not None
    await db.run(
        inbox.set_fields,
        row_id,
        content="secret",
        author={"display_name": "Al"},
        notes=["secret.txt cannot be read"],
        conversation_id="c1",
        reply_id="r1",
    )
    other = replace(new_request("2.0", external_id="slack:T1:C1:1.0"), state=State.DONE)
    await db.run(inbox.store, other)
    assert await db.run(inbox.mark_deleted, "T1", "C1", "1.0")
    row = await db.run(inbox.get, "T1", row_id)
    assert row is not None
    assert (row.text, row.content, row.files) == ("", "", [])
    assert (row.author, row.notes, row.attachment_ids) == ({}, [], [])
    assert await db.run(routing.store_repetition, "T1", row_id, "U1", "3.0", 1.0)
    assert not await db.run(inbox.unfinished, "T1", (), 10)
    # The conversation goes when nothing is left in it.
    (owed,) = await db.run(inbox.withdrawals, "T1")
    assert owed == inbox.Withdrawal(row_id, "c1", "r1", is_only=False)
    await db.run(inbox.mark_deleted, "T1", "C1", "2.0")
    (owed,) = await db.run(inbox.withdrawals, "T1")
    assert owed.is_only
    assert await db.run(inbox.with_withdrawals) == ["T1"]
    await db.run(inbox.mark_withdrawn, row_id)
    assert await db.run(inbox.withdrawals, "T1") == []
    await db.close()

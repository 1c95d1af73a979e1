"""The bot's tables: what is stored once, who holds a lease, and that migrations make the tables."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from colloquy_slack.database import inbox, leases, outbox, preferences, retention
from colloquy_slack.database.engine import Database, migrate
from colloquy_slack.database.inbox import NewRequest
from colloquy_slack.database.models import Base, State
from colloquy_slack.incoming.bolt_app import SCOPES
from colloquy_slack.process import run_bot
from colloquy_slack.settings import Settings, SettingsError, load
from colloquy_slack.workspaces.encryption import Cipher
from colloquy_slack.workspaces.installations import STATES_TABLE, Installations
from cryptography.fernet import Fernet
from slack_sdk.oauth.installation_store import Installation
from slack_sdk.oauth.state_store.sqlalchemy import AsyncSQLAlchemyOAuthStateStore
from sqlalchemy import create_engine, event, inspect


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database; the one on Postgres is the server's too."""
    url = f"sqlite:///{tmp_path}/folder/slack.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    migrate(url)
    migrate(url)
    return url


@pytest.fixture
async def db(url: str) -> Database:
    return Database(url)


def asked(ts: str = "1.0", **more: object) -> NewRequest:
    values = {"thread_ts": ts, "external_id": f"slack:T1:C1:{ts}", "user_id": "U1", **more}
    return NewRequest(team_id="T1", channel_id="C1", ts=ts, received_at=1.0, **values)  # type: ignore[arg-type]


async def test_a_request_is_stored_once(db: Database) -> None:
    assert await db.run(inbox.store, asked(text="first"))
    assert not await db.run(inbox.store, asked(text="again"))
    (row,) = await db.run(inbox.unfinished, "T1", (), 10)
    assert (row.text, row.state, row.content) == ("first", State.NEW, None)
    assert await db.run(inbox.is_engaged, "T1", "slack:T1:C1:1.0")
    assert not await db.run(inbox.is_engaged, "T2", "slack:T1:C1:1.0")
    await db.close()


async def test_work_is_what_is_not_done(db: Database) -> None:
    for ts in ("1.0", "2.0", "3.0"):
        await db.run(inbox.store, asked(ts))
    first, second, third = await db.run(inbox.unfinished, "T1", (), 10)
    await db.run(inbox.set_fields, second.id, state=State.DONE)
    rows = await db.run(inbox.unfinished, "T1", {first.id}, 10)
    assert [row.id for row in rows] == [third.id]
    assert await db.run(inbox.mark_stopped, "T1", second.id) is None
    assert await db.run(inbox.mark_stopped, "T2", third.id) is None
    assert await db.run(inbox.mark_stopped, "T1", third.id) is not None
    await db.close()


async def test_words_are_forgotten_and_deliveries_still_known(db: Database) -> None:
    await db.run(inbox.store, asked("1.0", text="old"))
    await db.run(inbox.store, asked("2.0", text="live"))
    first, _ = await db.run(inbox.unfinished, "T1", (), 10)
    await db.run(inbox.set_fields, first.id, state=State.DONE, content="old", reply_id="r")
    await db.run(retention.delete_text, 2.0, 0.0)
    kept = await db.run(inbox.get, "T1", first.id)
    assert kept is not None
    assert (kept.text, kept.content) == ("", "")
    assert [row.text for row in await db.run(inbox.unfinished, "T1", (), 10)] == ["live"]
    assert await db.run(inbox.store, asked("1.0", text="old")) is None
    await db.close()


async def test_words_that_a_button_still_needs_are_kept_longer(db: Database) -> None:
    offered = await db.run(inbox.store, asked("1.0/2.0", text="edited", state=State.OFFERED))
    refused = await db.run(inbox.store, asked("2.0", text="refused", state=State.DONE))
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
    await db.run(inbox.store, asked())
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


async def test_a_lease_has_one_holder_until_it_ends(db: Database) -> None:
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


async def test_leases_are_renewed_and_taken_together(db: Database) -> None:
    await db.run(leases.claim, "T1", "b", 100, 10)
    assert await db.run(leases.claim_free, ["T1", "T2", "T3"], "a", 105, 10) == {"T2", "T3"}
    assert await db.run(leases.renew, "a", 110, 10) == {"T2", "T3"}
    assert await db.run(leases.claim_free, ["T1", "T2", "T3"], "b", 111, 10) == {"T1"}
    await db.run(leases.release, ["T1", "T2"], "a")
    assert await db.run(leases.renew, "a", 112, 10) == {"T3"}
    await db.close()


async def test_work_of_all_workspaces_is_one_question(db: Database) -> None:
    for number, team_id in enumerate(("T1", "T1", "T2", "T3")):
        await db.run(inbox.store, replace(asked(f"{number}.0"), team_id=team_id))
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
        *(db.run(inbox.store, asked(f"{n}.0")) for n in range(20)),
        db.run(fail),
        *(db.run(inbox.store, asked(f"{n}.0")) for n in range(20)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, int) for result in results) == 20
    assert sum(isinstance(result, ValueError) for result in results) == 1
    assert len(await db.run(inbox.unfinished, "T1", (), 100)) == 20
    await db.close()


@pytest.mark.parametrize("event_names_it", [False, True])
async def test_an_installation_within_an_enterprise_is_found_and_deleted(
    url: str, event_names_it: bool
) -> None:
    db = Database(url)
    store = Installations("client", db, Cipher(Fernet.generate_key().decode()))
    # The workspace came to belong to the enterprise after it had installed the app before.
    for token, enterprise_id in (("xoxb-old", None), ("xoxb-new", "E1")):
        installed_at = 1.0 if enterprise_id is None else 2.0
        installation = Installation(
            app_id="A1",
            user_id="U1",
            team_id="T1",
            enterprise_id=enterprise_id,
            bot_token=token,
            bot_id="B1",
            bot_user_id="UBOT",
            installed_at=installed_at,
        )
        await store.async_save(installation)
    enterprise_id = "E1" if event_names_it else None
    bot = await store.async_find_bot(enterprise_id=enterprise_id, team_id="T1")
    assert bot is not None
    assert (bot.bot_token, bot.enterprise_id) == ("xoxb-new", "E1")
    # Slack may say again that the app was taken away before it was installed the last time.
    assert not await store.remove("T1", 1.0)
    assert list(await store.last_installed()) == ["T1"]
    assert await store.remove("T1", 2.0)
    assert await store.remove("T1", 2.0)
    assert await store.last_installed() == {}
    assert await store.async_find_bot(enterprise_id=None, team_id="T1") is None
    await db.close()


async def test_what_tasks_ask_that_may_be_cancelled_does_not_go_through_slack_sdks_engine(
    url: str,
) -> None:
    """aiosqlite may keep the write lock of a connection whose task is cancelled."""
    db = Database(url)
    store = Installations("client", db, Cipher(Fernet.generate_key().decode()))
    taken = []
    event.listen(db.async_engine.sync_engine, "checkout", lambda *_: taken.append(1))
    await store.last_installed()
    await store.find_encrypted_bot("T1")
    await store.async_find_bot(enterprise_id=None, team_id="T1")
    await store.remove("T1", 1.0)
    await store.delete_expired_states()
    assert not taken
    await store.async_find_installation(enterprise_id=None, team_id="T1")  # Bolt's own
    assert taken
    await db.close()


async def test_installations_that_were_begun_and_never_ended_are_forgotten(url: str) -> None:
    db = Database(url)
    states = [
        AsyncSQLAlchemyOAuthStateStore(seconds, db.async_engine, table_name=STATES_TABLE)
        for seconds in (-1, 60)
    ]
    _, fresh = [await store.async_issue() for store in states]
    store = Installations("client", db, Cipher(Fernet.generate_key().decode()))
    await store.delete_expired_states()
    found = states[0].oauth_states.select()
    async with db.async_engine.connect() as connection:
        assert [row.state for row in await connection.execute(found)] == [fresh]
    await db.close()


async def test_choices_are_kept(db: Database) -> None:
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


BASE = {"slack_bot_token": "xoxb-1", "slack_app_token": "xapp-1"}
TOKENS = {name.upper(): token for name, token in BASE.items()}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "SLACK_BOT_TOKEN"),
        ({"SLACK_BOT_TOKEN": "xoxb-1"}, "SLACK_SIGNING_SECRET"),
        ({"SLACK_CLIENT_ID": "1"}, "SLACK_CLIENT_SECRET"),
        (
            {"SLACK_CLIENT_ID": "1", "SLACK_CLIENT_SECRET": "s", "SLACK_SIGNING_SECRET": "s"},
            "SLACK_ENCRYPTION_KEY",
        ),
        ({"SLACK_BOT_TOKEN": "t", "SLACK_APP_TOKEN": "t", "SLACK_HTTP_ADDRESS": "x"}, "HTTP"),
        ({**TOKENS, "SLACK_DATABASE_URL": "postgresql://host:port/x"}, "SLACK_DATABASE_URL"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(
    given: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=named) as caught:
        load()
    assert "\n" not in str(caught.value)


def test_a_database_that_cannot_be_reached_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "postgresql://someone:secret@127.0.0.1:1/slack"
    settings = Settings(**BASE, slack_database_url=url)  # type: ignore[arg-type]
    monkeypatch.setattr("colloquy_slack.settings.load", lambda: settings)
    monkeypatch.setattr("colloquy_slack.logs.configure", lambda _format: None)
    assert run_bot() == 1
    told = capsys.readouterr().err
    assert told.startswith("colloquy: SLACK_DATABASE_URL: ")
    assert told.count("\n") == 1
    assert "secret" not in told


def test_installing_asks_for_what_the_manifest_does() -> None:
    manifest = yaml.safe_load(Path("config/slack_manifest.yml").read_text("utf-8"))
    assert sorted(SCOPES) == manifest["oauth_config"]["scopes"]["bot"]


def test_secrets_are_not_in_the_repr() -> None:
    settings = Settings(**BASE)  # type: ignore[arg-type]
    assert "xoxb" not in repr(settings)
    assert not settings.is_http

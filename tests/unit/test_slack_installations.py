"""The stored installations: found and deleted by workspace, with their tokens encrypted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from colloquy_slack.database.engine import Database, migrate
from colloquy_slack.database.models import Account
from colloquy_slack.settings import SettingsError
from colloquy_slack.workspaces.encryption import Cipher
from colloquy_slack.workspaces.installations import (
    ANY_WORKSPACE,
    STATES_TABLE,
    Installations,
)
from colloquy_slack.workspaces.key_change import renew_encryption
from cryptography.fernet import Fernet
from slack_sdk.oauth.installation_store import Installation
from slack_sdk.oauth.state_store.sqlalchemy import AsyncSQLAlchemyOAuthStateStore
from sqlalchemy import event, select


def open_store(db: Database) -> Installations:
    """For any workspace."""
    cipher = Cipher(Fernet.generate_key().decode())
    return Installations("client", db, cipher, frozenset({ANY_WORKSPACE}))


@pytest.mark.parametrize("event_names_it", [False, True])
async def test_an_installation_within_an_enterprise_is_found_and_deleted(
    slack_url: str, event_names_it: bool
) -> None:
    db = Database(slack_url)
    store = open_store(db)
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


async def test_a_key_takes_anothers_place_for_all_that_is_stored(slack_url: str) -> None:
    old, new = (Fernet.generate_key().decode() for _ in range(2))

    def opened(keys: str) -> tuple[Installations, Cipher]:
        cipher = Cipher(keys)
        return Installations("client", db, cipher, frozenset({ANY_WORKSPACE})), cipher

    async def token(store: Installations) -> str:
        bot = await store.async_find_bot(enterprise_id=None, team_id="T1")
        assert bot is not None
        return bot.bot_token

    await asyncio.to_thread(migrate, slack_url)
    db = Database(slack_url)
    store, cipher = opened(old)
    bot: dict[str, Any] = {
        "bot_token": "xoxb-1",
        "bot_id": "B1",
        "bot_user_id": "UBOT",
        "installed_at": 1.0,
    }
    await store.async_save(Installation(app_id="A1", user_id="U1", team_id="T1", **bot))
    key = Account(team_id="T1", account_id="a", api_key_id="k", encrypted_key=cipher.encrypt("key"))
    await db.run(lambda s: s.add(key))
    assert await token(opened(f"{old},{new}")[0]) == "xoxb-1"
    store, cipher = opened(f"{new}, {old}")
    assert await token(store) == "xoxb-1"
    assert await renew_encryption(db, store, cipher) == 3
    assert await renew_encryption(db, store, cipher) == 0
    store, cipher = opened(new)
    assert await token(store) == "xoxb-1"
    stored = await db.run(lambda s: s.scalars(select(Account.encrypted_key)).one())
    assert cipher.decrypt(stored) == "key"
    with pytest.raises(SettingsError):
        await token(opened(old)[0])
    await db.close()


async def test_what_tasks_ask_that_may_be_cancelled_does_not_go_through_slack_sdks_engine(
    slack_url: str,
) -> None:
    """aiosqlite may keep the write lock of a connection whose task is cancelled."""
    db = Database(slack_url)
    store = open_store(db)
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


async def test_installations_that_were_begun_and_never_ended_are_forgotten(slack_url: str) -> None:
    db = Database(slack_url)
    states = [
        AsyncSQLAlchemyOAuthStateStore(seconds, db.async_engine, table_name=STATES_TABLE)
        for seconds in (-1, 60)
    ]
    _, fresh = [await store.async_issue() for store in states]
    store = open_store(db)
    await store.delete_expired_states()
    found = states[0].oauth_states.select()
    async with db.async_engine.connect() as connection:
        assert [row.state for row in await connection.execute(found)] == [fresh]
    await db.close()

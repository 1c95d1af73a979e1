"""Many workspaces: their tokens, encrypted, and each one's account at the server."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog
from colloquy import AsyncAdminClient
from colloquy.errors import NotFound
from slack_sdk.oauth.installation_store import Bot, Installation
from slack_sdk.oauth.installation_store.sqlalchemy import (
    AsyncSQLAlchemyInstallationStore,
    SQLAlchemyInstallationStore,
)
from sqlalchemy import DateTime, column, delete, func, select, table
from sqlalchemy.orm import Session

from colloquy_slack.database.engine import Database
from colloquy_slack.database.models import Account, RetiredKey
from colloquy_slack.database.retention import delete_workspace
from colloquy_slack.external_ids import account_name
from colloquy_slack.workspaces.encryption import Vault

log = structlog.get_logger()

_SECRETS = (
    *("bot_token", "bot_refresh_token", "user_token", "user_refresh_token"),
    *("incoming_webhook_url", "incoming_webhook_configuration_url"),
)
_KEY_NAME = "Slack bot"

STATES = "slack_oauth_states"
"""The table of the installations that were begun; the rest of it is slack_sdk's."""

_STATES = table(STATES, column("expire_at", DateTime()))


class Installations(AsyncSQLAlchemyInstallationStore):
    """slack_sdk's store, with tokens encrypted before they reach the database.

    What is asked here goes the way of all else of the bot: its tasks end by being cancelled, and a
    connection of slack_sdk's engine that is cancelled may keep SQLite's write lock.
    """

    def __init__(self, client_id: str, db: Database, vault: Vault) -> None:
        super().__init__(client_id, db.async_engine)
        self._db, self._vault = db, vault

    async def async_save(self, installation: Installation) -> None:
        """Store an installation; it is not changed itself."""
        copy = Installation(**vars(installation))
        self._change(copy, self._vault.lock)
        # The store saves the bot by itself, through `async_save_bot`.
        await super().async_save(copy)

    async def async_save_bot(self, bot: Bot) -> None:
        """Store a bot, encrypted if it is not yet."""
        if bot.bot_token.startswith("xox"):
            bot = Bot(**vars(bot))
            self._change(bot, self._vault.lock)
        await super().async_save_bot(bot)

    async def async_find_bot(
        self,
        *,
        enterprise_id: str | None,
        team_id: str | None,
        is_enterprise_install: bool | None = False,
    ) -> Bot | None:
        """Return a workspace's bot with its token. Raises SettingsError when it cannot be read."""
        bot = await self.find_locked(team_id)
        if bot is not None:
            self._change(bot, self._vault.unlock)
        return bot

    async def find_locked(self, team_id: str | None) -> Bot | None:
        """Return a workspace's newest bot, its token still encrypted.

        The workspace alone says which: an event may name the enterprise that it belongs to, or
        not, and a workspace may come to belong to one later.
        """
        return await self._db.run(self._find, team_id)

    def _find(self, s: Session, team_id: str | None) -> Bot | None:
        bots = self.bots.c
        ours = (bots.client_id == self.client_id, bots.team_id == team_id)
        newest = self.bots.select().where(*ours).order_by(bots.installed_at.desc()).limit(1)
        row = s.execute(newest).mappings().first()
        return None if row is None else SQLAlchemyInstallationStore.build_bot_entity(row)

    async def async_find_installation(self, **which: Any) -> Installation | None:
        """Return an installation with its tokens."""
        installation = await super().async_find_installation(**which)
        if installation is not None:
            self._change(installation, self._vault.unlock)
        return installation

    async def remove(self, team_id: str, when: float) -> bool:
        """Delete a workspace's installations, since it took the app away at `when` (since 1970).

        Returns False when it installed the app again after that: then all stays.
        """

        def remove(s: Session) -> bool:
            bot = self._find(s, team_id)
            if bot is not None and bot.installed_at > when:
                return False
            for kept in (self.bots, self.installations):
                ours = (kept.c.client_id == self.client_id, kept.c.team_id == team_id)
                s.execute(delete(kept).where(*ours))
            return True

        return await self._db.run(remove)

    async def forget_begun(self) -> None:
        """Delete what is left of installations that were begun long ago, and not ended."""
        now = datetime.now(UTC).replace(tzinfo=None)
        await self._db.run(lambda s: s.execute(delete(_STATES).where(_STATES.c.expire_at < now)))

    async def newest(self) -> dict[str, datetime]:
        """Return the workspaces that have the app, and when each installed it the last time."""
        bots = self.bots.c
        found = (
            select(bots.team_id, func.max(bots.installed_at))
            .where(bots.client_id == self.client_id, bots.team_id.is_not(None))
            .group_by(bots.team_id)
        )
        return await self._db.run(lambda s: {row[0]: row[1] for row in s.execute(found)})

    def _change(self, kept: Bot | Installation, how: Callable[[str], str]) -> None:
        for name in _SECRETS:
            value = getattr(kept, name, None)
            if value:
                setattr(kept, name, how(value))


class Accounts:
    """Each workspace is an account of the server, with a service's key of its own."""

    def __init__(self, db: Database, vault: Vault, admin: AsyncAdminClient) -> None:
        self._db, self._vault, self._admin = db, vault, admin

    async def key(self, team_id: str, team_name: str) -> str:
        """Return a workspace's key; account and key are made when they are missing.

        Raises ColloquyError.
        """
        kept = await self._db.run(_account, team_id)
        if kept is None:
            account = await self._admin.create_account(
                team_name or team_id, external_id=account_name(team_id)
            )
            made = await self._admin.create_api_key(account.id, _KEY_NAME)
            row = Account(
                team_id=team_id,
                account_id=account.id,
                api_key_id=made.api_key.id,
                encrypted_key=self._vault.lock(made.secret),
            )
            kept = await self._db.run(_keep, row)
        return self._vault.unlock(kept.encrypted_key)

    async def forget(self, team_id: str) -> None:
        """Delete what is kept here of a workspace; its key is revoked when the server is there.

        Its conversations stay with the server, for when the app is installed again.
        """
        await self._db.run(_forget, team_id)

    async def revoke_retired(self) -> None:
        """Revoke the keys that have no workspace any more. Raises ColloquyError."""
        for key_id in await self._db.run(_retired):
            try:
                await self._admin.revoke_api_key(key_id)
            except NotFound:
                log.info("key was gone", key=key_id)
            await self._db.run(_revoked, key_id)


def _account(s: Session, team_id: str) -> Account | None:
    return s.get(Account, team_id)


def _keep(s: Session, row: Account) -> Account:
    """Store an account, or return the one that another process stored: one key is enough."""
    kept = s.get(Account, row.team_id, with_for_update=True)
    if kept is None:
        s.add(row)
        s.flush()
    elif kept.api_key_id != row.api_key_id:
        s.merge(RetiredKey(api_key_id=row.api_key_id))
    return kept or row


def _forget(s: Session, team_id: str) -> None:
    delete_workspace(s, team_id)
    account = s.get(Account, team_id)
    if account is not None:
        s.merge(RetiredKey(api_key_id=account.api_key_id))
        s.delete(account)


def _retired(s: Session) -> list[str]:
    return list(s.scalars(select(RetiredKey.api_key_id)))


def _revoked(s: Session, key_id: str) -> None:
    s.execute(delete(RetiredKey).where(RetiredKey.api_key_id == key_id))

"""Many workspaces: their tokens, encrypted, and each one's account at the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from slack_sdk.oauth.installation_store import Bot, Installation
from slack_sdk.oauth.installation_store.sqlalchemy import (
    AsyncSQLAlchemyInstallationStore,
    SQLAlchemyInstallationStore,
)
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from clients import AsyncAdminClient, ColloquyError
from slack_bot import choices, inbox
from slack_bot.database import Database
from slack_bot.mapping import account_name
from slack_bot.models import Account
from slack_bot.vault import Vault

log = structlog.get_logger()

_SECRETS = (
    *("bot_token", "bot_refresh_token", "user_token", "user_refresh_token"),
    *("incoming_webhook_url", "incoming_webhook_configuration_url"),
)
_KEY_NAME = "Slack bot"


class Installations(AsyncSQLAlchemyInstallationStore):
    """slack_sdk's store, with tokens encrypted before they reach the database."""

    def __init__(
        self, client_id: str, db: Database, vault: Vault, forget: Callable[[str], Awaitable[None]]
    ) -> None:
        """`forget` is called with a workspace's id when it took the app away."""
        super().__init__(client_id, db.async_engine)
        self._vault, self._forget = vault, forget

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
        ours = (self.bots.c.client_id == self.client_id, self.bots.c.team_id == team_id)
        newest = self.bots.select().where(*ours).order_by(self.bots.c.installed_at.desc()).limit(1)
        async with self.engine.connect() as connection:
            row = (await connection.execute(newest)).mappings().first()
        return None if row is None else SQLAlchemyInstallationStore.build_bot_entity(row)

    async def async_find_installation(self, **which: Any) -> Installation | None:
        """Return an installation with its tokens."""
        installation = await super().async_find_installation(**which)
        if installation is not None:
            self._change(installation, self._vault.unlock)
        return installation

    async def async_delete_bot(self, *, enterprise_id: str | None, team_id: str | None) -> None:
        """Delete a workspace's bot, and with it all that is kept of the workspace."""
        if not team_id:
            return
        async with self.engine.begin() as connection:
            for table in (self.bots, self.installations):
                ours = (table.c.client_id == self.client_id, table.c.team_id == team_id)
                await connection.execute(delete(table).where(*ours))
        await self._forget(team_id)

    async def team_ids(self) -> list[str]:
        """Return the workspaces that have the app."""
        column = self.bots.c.team_id
        found = select(column).where(self.bots.c.client_id == self.client_id).distinct()
        async with self.engine.connect() as connection:
            return [team_id for team_id in await connection.scalars(found) if team_id]

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
            if kept.api_key_id != made.api_key.id:
                # Another process was faster: one key is enough.
                await self._admin.revoke_api_key(made.api_key.id)
        return self._vault.unlock(kept.encrypted_key)

    async def forget(self, team_id: str) -> None:
        """Revoke a workspace's key and delete what is kept here of it.

        Its conversations stay with the server, for when the app is installed again.
        """
        kept = await self._db.run(_account, team_id)
        if kept is not None:
            try:
                await self._admin.revoke_api_key(kept.api_key_id)
            except ColloquyError as error:
                log.warning("key not revoked", team=team_id, problem=repr(error))
        await self._db.run(_forget, team_id)


def _account(s: Session, team_id: str) -> Account | None:
    return s.get(Account, team_id)


def _keep(s: Session, row: Account) -> Account:
    """Store an account, or return the one that is there."""
    kept = s.get(Account, row.team_id, with_for_update=True)
    if kept is None:
        s.add(row)
        s.flush()
    return kept or row


def _forget(s: Session, team_id: str) -> None:
    inbox.forget_workspace(s, team_id)
    choices.forget_workspace(s, team_id)
    s.execute(delete(Account).where(Account.team_id == team_id))

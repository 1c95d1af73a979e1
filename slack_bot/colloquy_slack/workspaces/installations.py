"""The installations of many workspaces, with their tokens encrypted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from slack_bolt.error import BoltError
from slack_sdk.oauth.installation_store import Bot, Installation
from slack_sdk.oauth.installation_store.sqlalchemy import (
    AsyncSQLAlchemyInstallationStore,
    SQLAlchemyInstallationStore,
)
from sqlalchemy import DateTime, Table, column, delete, func, select, table
from sqlalchemy.orm import Session

from colloquy_slack.database.engine import Database
from colloquy_slack.workspaces.encryption import Cipher

SECRETS = (
    *("bot_token", "bot_refresh_token", "user_token", "user_refresh_token"),
    *("incoming_webhook_url", "incoming_webhook_configuration_url"),
)

STATES_TABLE = "slack_oauth_states"
"""Holds the installations that were begun; its other columns are slack_sdk's."""

_STATES = table(STATES_TABLE, column("expire_at", DateTime()))


ANY_WORKSPACE = "*"
"""Among the workspaces that may install the app: all of Slack's."""


class InstallationRefused(BoltError):
    """This installation is not taken. The message says why, for people."""

    def __init__(self) -> None:
        super().__init__(" ".join((type(self).__doc__ or "").split()))


class OrgWideInstallation(InstallationRefused):
    """Colloquy is installed workspace by workspace. Ask an administrator of your organization to
    install it into the workspaces that shall have it, one after the other."""


class WorkspaceNotAllowed(InstallationRefused):
    """This workspace is not among those that may use Colloquy here. Ask whoever runs it to add
    the workspace's id to SLACK_ALLOWED_TEAMS."""


class Installations(AsyncSQLAlchemyInstallationStore):
    """slack_sdk's store, with tokens encrypted before they reach the database.

    What is asked here goes the way of all else of the bot: its tasks end by being cancelled, and a
    connection of slack_sdk's engine that is cancelled may keep SQLite's write lock.
    """

    def __init__(
        self, client_id: str, db: Database, cipher: Cipher, allowed: frozenset[str]
    ) -> None:
        """`allowed` are the ids of the workspaces that may install the app, or ANY_WORKSPACE."""
        super().__init__(client_id, db.async_engine)
        self._db, self._cipher, self._allowed = db, cipher, allowed
        self.give_back: Callable[[str], Awaitable[None]] | None = None
        """Called with the token of an installation that is refused."""

    async def async_save(self, installation: Installation) -> None:
        """Store an installation; it is not changed itself.

        Raises OrgWideInstallation: each workspace is an account of its own, and a token for all of
        an organization's is of none. Raises WorkspaceNotAllowed.
        """
        refusal: type[InstallationRefused] | None = None
        if installation.is_enterprise_install or not installation.team_id:
            refusal = OrgWideInstallation
        elif not self._allowed & {ANY_WORKSPACE, installation.team_id}:
            refusal = WorkspaceNotAllowed
        if refusal is not None:
            if self.give_back is not None and installation.bot_token:
                await self.give_back(installation.bot_token)
            raise refusal
        copy = Installation(**vars(installation))
        self._map_secrets(copy, self._cipher.encrypt)
        # The store saves the bot by itself, through `async_save_bot`.
        await super().async_save(copy)

    async def async_save_bot(self, bot: Bot) -> None:
        """Store a bot, encrypted if it is not yet."""
        if bot.bot_token.startswith("xox"):
            bot = Bot(**vars(bot))
            self._map_secrets(bot, self._cipher.encrypt)
        await super().async_save_bot(bot)

    async def async_find_bot(
        self,
        *,
        enterprise_id: str | None,
        team_id: str | None,
        is_enterprise_install: bool | None = False,
    ) -> Bot | None:
        """Return a workspace's bot with its token. Raises SettingsError when it cannot be read."""
        bot = await self.find_encrypted_bot(team_id)
        if bot is not None:
            self._map_secrets(bot, self._cipher.decrypt)
        return bot

    async def find_encrypted_bot(self, team_id: str | None) -> Bot | None:
        """Return a workspace's newest bot, its token still encrypted.

        The workspace alone says which: an event may name the enterprise that it belongs to, or
        not, and a workspace may come to belong to one later.
        """
        return await self._db.run(self._newest_bot, team_id)

    def _newest_bot(self, s: Session, team_id: str | None) -> Bot | None:
        bots = self.bots.c
        ours = (bots.client_id == self.client_id, bots.team_id == team_id)
        newest = self.bots.select().where(*ours).order_by(bots.installed_at.desc()).limit(1)
        row = s.execute(newest).mappings().first()
        return None if row is None else SQLAlchemyInstallationStore.build_bot_entity(row)

    async def replace_token(self, old: Bot, fresh: Bot) -> None:
        """Store a bot's new token and refresh token in place of the old ones: it is the same
        installation."""
        encrypted = Bot(**fresh.to_dict_for_copying())
        self._map_secrets(encrypted, self._cipher.encrypt)
        expires_at = datetime.fromtimestamp(fresh.bot_token_expires_at or 0, UTC)
        bots = self.bots.c
        statement = (
            self.bots.update()
            .where(
                bots.client_id == self.client_id,
                bots.team_id == old.team_id,
                bots.installed_at
                == datetime.fromtimestamp(old.installed_at, UTC).replace(tzinfo=None),
            )
            .values(
                bot_token=encrypted.bot_token,
                bot_refresh_token=encrypted.bot_refresh_token,
                bot_token_expires_at=expires_at.replace(tzinfo=None),
            )
        )
        await self._db.run(lambda s: s.execute(statement))

    @property
    def tables(self) -> tuple[Table, Table]:
        """Those that hold secrets, in the columns SECRETS."""
        return self.bots, self.installations

    async def installer(self, team_id: str) -> str:
        """Return who installed the app in a workspace the last time; empty when it is not known."""
        stored = self.installations.c
        found = (
            select(stored.user_id)
            .where(stored.client_id == self.client_id, stored.team_id == team_id)
            .order_by(stored.installed_at.desc())
            .limit(1)
        )
        return await self._db.run(lambda s: s.scalar(found)) or ""

    async def async_find_installation(self, **which: Any) -> Installation | None:
        """Return an installation with its tokens."""
        installation = await super().async_find_installation(**which)
        if installation is not None:
            self._map_secrets(installation, self._cipher.decrypt)
        return installation

    async def remove(self, team_id: str, when: float) -> bool:
        """Delete a workspace's installations, since it took the app away at `when` (since 1970).

        Returns False when it installed the app again after that: then all stays.
        """

        def remove(s: Session) -> bool:
            bot = self._newest_bot(s, team_id)
            if bot is not None and bot.installed_at > when:
                return False
            for stored in (self.bots, self.installations):
                ours = (stored.c.client_id == self.client_id, stored.c.team_id == team_id)
                s.execute(delete(stored).where(*ours))
            return True

        return await self._db.run(remove)

    async def delete_expired_states(self) -> None:
        """Delete what is left of installations that were begun long ago, and not finished."""
        now = datetime.now(UTC).replace(tzinfo=None)
        await self._db.run(lambda s: s.execute(delete(_STATES).where(_STATES.c.expire_at < now)))

    async def last_installed(self) -> dict[str, datetime]:
        """Return the workspaces that have the app, and when each installed it the last time."""
        bots = self.bots.c
        found = (
            select(bots.team_id, func.max(bots.installed_at))
            .where(bots.client_id == self.client_id, bots.team_id.is_not(None))
            .group_by(bots.team_id)
        )
        return await self._db.run(lambda s: {row[0]: row[1] for row in s.execute(found)})

    def _map_secrets(self, entity: Bot | Installation, fn: Callable[[str], str]) -> None:
        for name in SECRETS:
            value = getattr(entity, name, None)
            if value:
                setattr(entity, name, fn(value))

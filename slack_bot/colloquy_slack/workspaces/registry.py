"""Which workspaces the bot serves: the one of its token, or all that installed it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

import structlog
from colloquy import ColloquyError
from slack_sdk.oauth.installation_store import Bot

from colloquy_slack.logs import describe
from colloquy_slack.slack_api import SlackError
from colloquy_slack.workspaces.accounts import Accounts
from colloquy_slack.workspaces.connector import Connector
from colloquy_slack.workspaces.erasure import WorkspaceErasure
from colloquy_slack.workspaces.installations import Installations
from colloquy_slack.workspaces.notices import Notices
from colloquy_slack.workspaces.token_rotation import TokenRotation
from colloquy_slack.workspaces.workspace import Workspace

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the bot is in a workspace: all that it takes to store what happens there."""

    team_id: str
    bot_user_id: str


class WorkspaceRegistry(ABC):
    """The workspaces that are served."""

    @abstractmethod
    async def installed(self) -> Mapping[str, object]:
        """Return all workspaces that have the app, each with what changes when it installs it
        again."""

    @abstractmethod
    async def identify(self, team_id: str | None) -> Identity | None:
        """Return whom an event is for, without a network; None when the app is not there."""

    @abstractmethod
    def wake(self, team_id: str) -> None:
        """Have what came in for a workspace seen at once, where it is served by this process."""

    @abstractmethod
    async def get(self, team_id: str | None) -> Workspace | None:
        """Return a workspace, connected; None when it does not have the app (any more)."""

    @abstractmethod
    async def clean_up(self) -> None:
        """Finish what could not be finished when workspaces went away. Raises ColloquyError."""

    @abstractmethod
    async def erase_departed(self) -> None:
        """Delete what workspaces left at the server that went away long ago. May take long. Raises
        ColloquyError."""

    @abstractmethod
    async def close(self) -> None:
        """End all connections to the server."""


class SingleWorkspace(WorkspaceRegistry):
    """The one workspace of SLACK_BOT_TOKEN."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    async def installed(self) -> Mapping[str, object]:
        """Return it alone."""
        return {self._workspace.team_id: None}

    async def identify(self, team_id: str | None) -> Identity:
        """Every event is for it."""
        return Identity(self._workspace.team_id, self._workspace.bot_user_id)

    def wake(self, team_id: str) -> None:
        """Wake it."""
        self._workspace.wake_up()

    async def get(self, team_id: str | None) -> Workspace:
        """Return it: in Slack Connect an event may name another company's workspace."""
        return self._workspace

    async def clean_up(self) -> None:
        """It does not go away."""

    async def erase_departed(self) -> None:
        """It does not go away."""

    async def close(self) -> None:
        """End the connection to the server."""
        await self._workspace.colloquy.close()


@dataclass(frozen=True, slots=True)
class _Connected:
    """A workspace, and what it was connected with."""

    token: str
    installed_at: float
    key: str
    workspace: Workspace


class InstalledWorkspaces(WorkspaceRegistry):
    """The workspaces that installed the app with OAuth."""

    def __init__(
        self,
        installations: Installations,
        accounts: Accounts,
        connector: Connector,
        tokens: TokenRotation,
        notices: Notices,
        erasure: WorkspaceErasure,
    ) -> None:
        self._installations, self._accounts, self._erasure = installations, accounts, erasure
        self._connector, self._tokens, self._notices = connector, tokens, notices
        self._connected: dict[str, _Connected] = {}
        # By workspace, owned while one is connected: who comes meanwhile gets the same connection.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def installed(self) -> Mapping[str, object]:
        """Return all that are stored, each with the time of its last installation."""
        return await self._installations.last_installed()

    async def identify(self, team_id: str | None) -> Identity | None:
        """Return whom an event is for, as the installation says."""
        bot = await self._installations.find_encrypted_bot(team_id) if team_id else None
        return Identity(str(team_id), bot.bot_user_id) if bot else None

    def wake(self, team_id: str) -> None:
        """Wake a workspace that is connected; one that is not has nobody to wake."""
        connected = self._connected.get(team_id)
        if connected is not None:
            connected.workspace.wake_up()

    async def get(self, team_id: str | None) -> Workspace | None:
        """Return a workspace as it is installed now: installing it again makes it another object,
        and a token that was refreshed is its new one.

        None also when it cannot be connected at the moment. Raises SettingsError when its token
        cannot be read.
        """
        if not team_id:
            return None
        lock = self._locks.setdefault(team_id, asyncio.Lock())
        async with lock:
            bot = await self._tokens.find_bot(team_id)
            connected = self._connected.get(team_id)
            if bot is None:
                await self.disconnect(team_id)
                return None
            if connected is not None and connected.token == bot.bot_token:
                return connected.workspace
            if connected is not None and connected.installed_at == bot.installed_at:
                connected.workspace.slack.client.token = bot.bot_token
                self._connected[team_id] = replace(connected, token=bot.bot_token)
                return connected.workspace
            try:
                return await self._reconnect(team_id, bot)
            except (ColloquyError, SlackError) as error:
                log.warning("workspace not connected", team=team_id, error=describe(error))
                return None

    async def _reconnect(self, team_id: str, bot: Bot) -> Workspace:
        key = await self._accounts.api_key(team_id, bot.team_name or "")
        previous = self._connected.get(team_id)
        # The connection to the server outlives Slack's token: replies are being followed on it.
        colloquy = previous.workspace.colloquy if previous and previous.key == key else None
        workspace = await self._connector.connect(bot.bot_token, key, colloquy)
        if colloquy is None:
            await self.disconnect(team_id)
        self._connected[team_id] = _Connected(bot.bot_token, bot.installed_at, key, workspace)
        return workspace

    async def clean_up(self) -> None:
        """Refresh tokens, and tell of scopes that are missing; revoke the keys of workspaces that
        went away; forget installations never finished."""
        for team_id in list(self._connected):
            workspace = await self.get(team_id)
            if workspace is not None:
                await self._notices.tell_missing_scopes(workspace)
        await self._installations.delete_expired_states()
        await self._accounts.revoke_retired_keys()

    async def erase_departed(self) -> None:
        """Delete what was said in workspaces that took the app away, after the setting's days."""
        await self._erasure.erase_due()

    async def uninstall(self, team_id: str, when: float) -> bool:
        """Delete all that is here of a workspace, since it took the app away at `when` (since
        1970).

        Returns False when it installed the app again after that: then all stays.
        """
        if not await self._installations.remove(team_id, when):
            return False
        await self._accounts.delete(team_id, when)
        await self.disconnect(team_id)
        return True

    async def disconnect(self, team_id: str) -> None:
        """End a workspace's connection."""
        connected = self._connected.pop(team_id, None)
        if connected is not None:
            await connected.workspace.colloquy.close()

    async def close(self) -> None:
        """End all connections to the server."""
        for team_id in list(self._connected):
            await self.disconnect(team_id)

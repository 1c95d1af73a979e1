"""The workspaces that the bot serves: the one of its token, or all that installed it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from weakref import WeakValueDictionary

import structlog
from colloquy import AsyncConversationClient, ColloquyError
from slack_sdk.oauth.installation_store import Bot
from slack_sdk.web.async_client import AsyncWebClient

from colloquy_slack.slack_api import Refused, SlackApi, SlackProblem
from colloquy_slack.workspaces.installations import Accounts, Installations
from colloquy_slack.workspaces.rate_limiter import Pace
from colloquy_slack.workspaces.workspace import Tools, Workspace

log = structlog.get_logger()

MakeClient = Callable[[str], AsyncWebClient]
"""Makes a client of Slack's Web API with a token."""

MakeColloquy = Callable[[str | None], AsyncConversationClient]
"""Makes a client of the server with a key; None: the one of the environment."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the bot is in a workspace: all that it takes to store what happens there."""

    team_id: str
    bot_user_id: str


class Workspaces(ABC):
    """Who is served."""

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
    async def tidy(self) -> None:
        """Finish what could not be finished when workspaces went away. Raises ColloquyError."""

    @abstractmethod
    async def close(self) -> None:
        """End all connections to the server."""


class OneWorkspace(Workspaces):
    """The workspace of SLACK_BOT_TOKEN."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    async def installed(self) -> Mapping[str, object]:
        """Return the one."""
        return {self._workspace.team_id: None}

    async def identify(self, team_id: str | None) -> Identity:
        """Return the one's."""
        return Identity(self._workspace.team_id, self._workspace.bot_user_id)

    def wake(self, team_id: str) -> None:
        """Wake the one."""
        self._workspace.wake.set()

    async def get(self, team_id: str | None) -> Workspace:
        """Return the one: in Slack Connect an event may name another company's workspace."""
        return self._workspace

    async def tidy(self) -> None:
        """The one does not go away."""

    async def close(self) -> None:
        """End the connection to the server."""
        await self._workspace.colloquy.close()


@dataclass(frozen=True, slots=True)
class _Connected:
    """A workspace, and what it was connected with."""

    token: str
    key: str
    workspace: Workspace


class InstalledWorkspaces(Workspaces):
    """The workspaces that installed the app with OAuth."""

    def __init__(self, installations: Installations, accounts: Accounts, connect: Connect) -> None:
        self._installations, self._accounts = installations, accounts
        self._connect = connect
        self._connected: dict[str, _Connected] = {}
        # Held while a workspace is connected: who comes meanwhile gets the same connection.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def installed(self) -> Mapping[str, object]:
        """Return all that are stored."""
        return await self._installations.newest()

    async def identify(self, team_id: str | None) -> Identity | None:
        """Return whom an event is for, as the installation says."""
        bot = await self._installations.find_locked(team_id) if team_id else None
        return Identity(str(team_id), bot.bot_user_id) if bot else None

    def wake(self, team_id: str) -> None:
        """Wake a workspace that is connected; one that is not has nobody to wake."""
        connected = self._connected.get(team_id)
        if connected is not None:
            connected.workspace.wake.set()

    async def get(self, team_id: str | None) -> Workspace | None:
        """Return a workspace as it is installed now: a new token makes it another object.

        None also when it cannot be connected at the moment. Raises SettingsError when its token
        cannot be read.
        """
        if not team_id:
            return None
        turn = self._turns.setdefault(team_id, asyncio.Lock())
        async with turn:
            bot = await self._installations.async_find_bot(enterprise_id=None, team_id=team_id)
            connected = self._connected.get(team_id)
            if bot is None:
                await self.drop(team_id)
                return None
            if connected is not None and connected.token == bot.bot_token:
                return connected.workspace
            try:
                return await self._connect_anew(team_id, bot)
            except (ColloquyError, SlackProblem) as problem:
                log.warning("workspace not connected", team=team_id, problem=repr(problem))
                return None

    async def _connect_anew(self, team_id: str, bot: Bot) -> Workspace:
        key = await self._accounts.key(team_id, bot.team_name or "")
        before = self._connected.get(team_id)
        # The connection to the server outlives Slack's token: replies are being followed on it.
        colloquy = before.workspace.colloquy if before and before.key == key else None
        workspace = await self._connect.workspace(bot.bot_token, key, colloquy)
        if colloquy is None:
            await self.drop(team_id)
        self._connected[team_id] = _Connected(bot.bot_token, key, workspace)
        return workspace

    async def tidy(self) -> None:
        """Revoke the keys of workspaces that went away, and forget those that never came."""
        await self._installations.forget_begun()
        await self._accounts.revoke_retired()

    async def drop(self, team_id: str) -> None:
        """End a workspace's connection."""
        connected = self._connected.pop(team_id, None)
        if connected is not None:
            await connected.workspace.colloquy.close()

    async def close(self) -> None:
        """End all connections to the server."""
        for team_id in list(self._connected):
            await self.drop(team_id)


class Connect:
    """Makes workspaces of tokens."""

    def __init__(
        self, tools: Tools, client: MakeClient, colloquy: MakeColloquy, *, is_native: bool
    ) -> None:
        self._tools, self._client, self._colloquy = tools, client, colloquy
        self._is_native = is_native

    async def workspace(
        self, token: str, key: str | None, colloquy: AsyncConversationClient | None = None
    ) -> Workspace:
        """Return the workspace of a token, on a connection to the server that is there or a new
        one. Raises SlackProblem and ConfigurationError."""
        slack = SlackApi(self._client(token), self._tools.sleep)
        told = await slack.read_patiently("auth.test")
        if not told.get("bot_id"):
            raise Refused("not_a_bot_token")
        return Workspace(
            team_id=str(told["team_id"]),
            bot_user_id=str(told["user_id"]),
            bot_id=str(told["bot_id"]),
            url=str(told.get("url") or "https://slack.com/"),
            slack=slack,
            colloquy=colloquy or self._colloquy(key),
            pace=Pace(self._tools.clock),
            is_native=self._is_native,
        )

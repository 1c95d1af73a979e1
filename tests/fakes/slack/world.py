"""The world of the double: its workspaces, and what is in them at this moment."""

from __future__ import annotations

import secrets
from typing import Literal

from tests.fakes.slack.app import SlackApp
from tests.fakes.slack.blocks import name_blocks, shown
from tests.fakes.slack.clock import Clock
from tests.fakes.slack.state import (
    Channel,
    File,
    Ids,
    Json,
    Message,
    StreamState,
    User,
    Workspace,
)

STATUS_SECONDS = 120.0
"""A status under a thread goes away by itself after two minutes."""
STREAM_SECONDS = 300.0
"""A stream ends five minutes after it began, whether or not it was used
(https://github.com/slackapi/python-slack-sdk/issues/1859)."""


class World:
    """What there is, without how the app gets at it."""

    def __init__(self, clock: Clock, app: SlackApp, *, installed: bool) -> None:
        self.clock = clock
        self.app = app
        self.ids = Ids()
        self.workspaces: dict[str, Workspace] = {}
        self.dead_tokens: set[str] = set()
        self.org_tokens: dict[str, Workspace] = {}
        """Tokens for all workspaces of an organization, each with one of these."""
        self.uploads: dict[str, tuple[Workspace, File, int]] = {}
        self.triggers: dict[str, float] = {}
        self.base_url = ""
        self.workspace = self.add_workspace("Acme", installed=installed)

    @property
    def api_url(self) -> str:
        """The `base_url` of a slack_sdk client."""
        return f"{self.base_url}/api/"

    @property
    def authorize_url(self) -> str:
        """The `authorization_url` of Bolt's OAuth settings."""
        return f"{self.base_url}/oauth/v2/authorize"

    @property
    def bot_token(self) -> str:
        """The first workspace's."""
        assert self.workspace.bot_token is not None, "the app is not installed"
        return self.workspace.bot_token

    @property
    def app_token(self) -> str:
        return self.app.app_token

    @property
    def signing_secret(self) -> str:
        return self.app.signing_secret

    def add_workspace(self, name: str, *, installed: bool = True) -> Workspace:
        """Another company."""
        team = self.ids.next("T")
        bot = User(self.ids.next("U"), team, self.app.name.lower(), self.app.name, is_bot=True)
        bot.app_id = self.app.id
        workspace = Workspace(
            id=team,
            name=name,
            domain=name.lower().replace(" ", "-"),
            bot=bot,
            bot_id=self.ids.next("B"),
            scopes=set(self.app.scopes),
            bot_token=self.new_token() if installed else None,
        )
        workspace.users[bot.id] = bot
        self.workspaces[team] = workspace
        return workspace

    def new_token(self) -> str:
        return f"xoxb-{secrets.randbelow(10**12):012d}-{secrets.token_hex(12)}"

    def channel(
        self,
        name: str,
        *,
        kind: Literal["channel", "group", "mpim"] = "channel",
        bot: bool = True,
        connect: bool = False,
        workspace: Workspace | None = None,
    ) -> Channel:
        """A channel, made when first asked for, with everybody in it and (or not) the bot."""
        workspace = workspace or self.workspace
        for channel in workspace.channels.values():
            if channel.name == name:
                return channel
        channel = Channel(
            self.ids.next("C" if kind == "channel" else "G"), workspace.id, name, kind
        )
        channel.connect = connect
        channel.members = {user.id for user in workspace.users.values() if not user.is_bot}
        if bot:
            channel.members.add(workspace.bot.id)
        workspace.channels[channel.id] = channel
        return channel

    def direct_channel(self, workspace: Workspace, user: User) -> Channel:
        """The conversation of the bot and one person."""
        channel = workspace.direct_channel(user.id)
        if channel is None:
            channel = Channel(self.ids.next("D"), workspace.id, "", "im")
            channel.members = {user.id, workspace.bot.id}
            workspace.channels[channel.id] = channel
        return channel

    def new_file(
        self, workspace: Workspace, user: str, name: str, content: bytes, mimetype: str
    ) -> File:
        file_id = self.ids.next("F")
        url = f"{self.base_url}/files-pri/{workspace.id}-{file_id}/{name.replace('/', '_')}"
        created = int(self.clock.time())
        return File(file_id, workspace.id, user, name, mimetype, content, created, url)

    def place_of(self, message: Message) -> tuple[Workspace, Channel]:
        for workspace in self.workspaces.values():
            if message.channel in workspace.channels:
                return workspace, workspace.channels[message.channel]
        raise LookupError(message.channel)

    def bot_messages(self, channel: Channel, thread_ts: str | None = None) -> list[Message]:
        """The app's messages in a channel, or in one thread of it, as they stand."""
        bot_id = self.workspaces[channel.team_id].bot_id
        return [
            message
            for message in channel.messages.values()
            if message.bot_id == bot_id
            and not message.deleted
            and thread_ts in (None, message.thread)
        ]

    def thread(self, channel: Channel, thread_ts: str, join: str = "") -> str:
        """What the app says in a thread: its messages' words, joined."""
        found = self.bot_messages(channel, thread_ts)
        return join.join(shown(message) for message in found if not message.files)

    def thread_files(self, channel: Channel, thread_ts: str) -> list[File]:
        """What the app attached in a thread."""
        return [f for m in self.bot_messages(channel, thread_ts) for f in m.files]

    def status(self, channel: Channel, thread_ts: str) -> str | None:
        """ "is thinking…" under a thread, as people see it now."""
        workspace = self.workspaces[channel.team_id]
        at, value = workspace.statuses.get((channel.id, thread_ts), (0.0, {}))
        if self.clock.time() - at > STATUS_SECONDS:
            return None
        status: str = value["status"]
        return status

    def stream_state(self, message: Message) -> StreamState | None:
        """The state of a stream's message, which ends by itself; None: it is no stream."""
        stream = message.stream
        if stream is None:
            return None
        over = self.clock.time() - stream.started_at > STREAM_SECONDS
        if over and stream.state == "in_progress":
            stream.state = "expired"
        return stream.state

    def new_trigger(self) -> str:
        """A trigger_id: it opens one modal within 3 seconds."""
        trigger = f"{secrets.randbelow(10**13)}.{secrets.token_hex(8)}"
        self.triggers[trigger] = self.clock.time()
        return trigger

    def complete_view(self, workspace: Workspace, view: Json, view_id: str | None) -> Json:
        """A view as Slack gives it back."""
        view_id = view_id or self.ids.next("V")
        name_blocks(self.ids, view["blocks"])
        return {
            "private_metadata": "",
            "callback_id": "",
            **view,
            "id": view_id,
            "team_id": workspace.id,
            "state": {"values": {}},
            "hash": f"{self.clock.time():.0f}.{secrets.token_hex(4)}",
            "previous_view_id": None,
            "root_view_id": view_id,
            "app_id": self.app.id,
            "app_installed_team_id": workspace.id,
            "bot_id": workspace.bot_id,
        }

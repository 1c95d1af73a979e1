"""The double itself: everything wired together, and what a test holds on to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Literal, Self

from aiohttp import web

from tests.fakes.slack import assistant, chat, files, oauth, places, responses, streams
from tests.fakes.slack.api import Api
from tests.fakes.slack.app import SlackApp
from tests.fakes.slack.clicks import Posted
from tests.fakes.slack.clock import Clock
from tests.fakes.slack.delivery import Courier, Delivery
from tests.fakes.slack.events import Events
from tests.fakes.slack.faults import Faults
from tests.fakes.slack.http_events import HttpEvents
from tests.fakes.slack.limits import Limits
from tests.fakes.slack.messages import Messages, Notified
from tests.fakes.slack.people import Person
from tests.fakes.slack.record import Call, RateStatistics, Recorder
from tests.fakes.slack.render import channel_html, channel_text
from tests.fakes.slack.socket_mode import SocketMode
from tests.fakes.slack.state import (
    Channel,
    Json,
    Message,
    User,
    Workspace,
)
from tests.fakes.slack.world import World

# Importing them registers their methods with the API.
METHOD_MODULES = (assistant, chat, files, places, streams)


class SlackDouble(World):
    """A Slack of one app and one or more workspaces; the package says how to use it."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        limits: Limits | None = None,
        app: SlackApp | None = None,
        latency: float = 0,
        installed: bool = True,
    ) -> None:
        super().__init__(clock or Clock(), app or SlackApp(), installed=installed)
        self.limits = limits or Limits()
        self.latency = latency
        """Real seconds that every call of the Web API takes."""
        self.share_delay = 0.05
        """Real seconds after which a file that was uploaded is shared."""
        self.request_url: str | None = None
        """Where events go over HTTP; None: Socket Mode."""
        self.parent_events = True
        """Whether a reply sends message_changed for the root of its thread."""
        self.faults = Faults()
        self.fail, self.hold, self.mend = self.faults.fail, self.faults.hold, self.faults.mend
        self.recorder = Recorder()
        self.courier = Courier(self)
        self.socket = SocketMode(self)
        self.http = HttpEvents(self)
        self.events = Events(self)
        self.messages = Messages(self)
        self.ephemerals: list[Message] = []
        """Messages that one person alone sees."""
        self.downloads: list[tuple[str, str | None]] = []
        """Each download that was tried: the file's id and the Authorization header."""
        self.download_troubles: list[tuple[int, dict[str, str]]] = []
        """What the next downloads get instead of a file: a status and headers."""
        self.response_urls: dict[str, responses.ResponseUrl] = {}
        self.codes: dict[str, oauth.Code] = {}
        self._background: set[asyncio.Task[Any]] = set()
        self._runner: web.AppRunner | None = None

    # -- running ------------------------------------------------------------------------------

    async def start(self, port: int = 0) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        api = Api(self)
        app.router.add_route("*", "/api/{method}", api.handle)
        app.router.add_get("/link/", self.socket.handle)
        app.router.add_post("/response/{token}", partial(responses.take, self))
        app.router.add_post("/upload/v1/{file}", partial(files.take_upload, self))
        app.router.add_get("/files-pri/{team}-{file}/{name}", partial(files.download, self))
        app.router.add_get("/oauth/v2/authorize", partial(oauth.authorize, self))
        self.add_routes(app)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port, backlog=2048)
        await site.start()
        self._runner = runner
        self.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"

    def add_routes(self, app: web.Application) -> None:
        """For those who build on the double: more routes, before it starts."""

    async def close(self) -> None:
        self.faults.close()
        await self.courier.close()
        await self.socket.close()
        await self.http.close()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def background(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # -- people and places --------------------------------------------------------------------

    def person(
        self,
        name: str,
        *,
        workspace: Workspace | None = None,
        guest: bool = False,
        stranger: bool = False,
    ) -> Person:
        """Somebody of the workspace, made when first asked for; a member of all its channels. A
        stranger is somebody of another company, whom Slack Connect brings in."""
        workspace = workspace or self.workspace
        for user in workspace.users.values():
            if user.real_name == name and not user.is_bot:
                return Person(self, workspace, user)
        login = name.lower().replace(" ", ".")
        team_id = "T0STRANGER1" if stranger else workspace.id
        user = User(self.ids.next("U"), team_id, login, name, guest=guest, stranger=stranger)
        user.display_name = name.split()[0]
        user.email = f"{login}@example.com"
        workspace.users[user.id] = user
        for channel in workspace.channels.values():
            if channel.kind == "channel":
                channel.members.add(user.id)
        return Person(self, workspace, user)

    def post_ephemeral(
        self, workspace: Workspace, channel: Channel, user: str, **fields: Any
    ) -> Message:
        """Show a message to one person."""
        message = self.messages.post(
            workspace,
            channel,
            user=workspace.bot.id,
            bot_id=workspace.bot_id,
            ephemeral_to=user,
            **fields,
        )
        self.ephemerals.append(message)
        return message

    def other_bot_posts(
        self,
        channel: Channel,
        text: str = "",
        *,
        thread_ts: str | None = None,
        username: str | None = None,
        **content: Any,
    ) -> Message:
        """A message of another app's bot, as incoming webhooks write it; `content` may be `blocks`,
        `attachments`, `files`."""
        workspace = self.workspaces[channel.team_id]
        message = self.messages.post(
            workspace,
            channel,
            user="",
            bot_id="B0OTHER0001",
            username=username,
            subtype="bot_message",
            text=text,
            thread_ts=thread_ts,
            **content,
        )
        self.messages.announce(workspace, channel, message)
        return message

    def system_message(self, channel: Channel, subtype: str, text: str) -> Posted:
        """What Slack itself writes into a channel in a person's name (`channel_topic`,
        `channel_join`), also with the bot's name in it: then it is an app_mention too."""
        workspace = self.workspaces[channel.team_id]
        user = next(iter(channel.members - {workspace.bot.id}), workspace.bot.id)
        message = self.messages.post(workspace, channel, user=user, subtype=subtype, text=text)
        return Posted(message, self.messages.announce(workspace, channel, message))

    def join(self, channel: Channel, person: Person) -> Delivery | None:
        """Somebody comes into a channel."""
        channel.members.add(person.user.id)
        return self.events.membership(channel, person.user, "joined")

    def leave(self, channel: Channel, person: Person) -> Delivery | None:
        """Somebody leaves a channel, or is put out of it."""
        channel.members.discard(person.user.id)
        return self.events.membership(channel, person.user, "left")

    def convert(self, channel: Channel, kind: Literal["channel", "group"]) -> Posted:
        """A channel becomes private, or public."""
        channel.kind = kind
        word = "private" if kind == "group" else "public"
        return self.system_message(
            channel, f"channel_convert_to_{word}", f"made this channel {word}"
        )

    def unfurl(self, message: Message, shows: Message | None = None) -> Delivery | None:
        """Show a link's preview under a message: a message_changed with the same text. `shows`: the
        link leads to this message."""
        workspace, channel = self.place_of(message)
        preview: Json = {"from_url": "https://example.com/", "title": "Example", "id": 1}
        if shows is not None:
            preview = self.messages.as_shared(shows, is_link=True)
        return self.messages.edit(
            workspace, channel, message, message.user, marked=False, attachments=[preview]
        )

    # -- installing ---------------------------------------------------------------------------

    def use_manifest(self, manifest: Json) -> None:
        """Paste a manifest at Slack and install the app with it."""
        self.app.use_manifest(manifest)
        for workspace in self.workspaces.values():
            workspace.scopes = set(self.app.scopes)
            workspace.bot.real_name = self.app.name

    def revoke(self, workspace: Workspace) -> None:
        """Make the bot's token of a workspace worthless."""
        if workspace.bot_token is not None:
            self.dead_tokens.add(workspace.bot_token)
        workspace.bot_token = None
        for channel in workspace.channels.values():
            if channel.kind != "im":
                channel.members.discard(workspace.bot.id)

    def uninstall(self, workspace: Workspace | None = None) -> list[Delivery]:
        """An administrator removes the app: the tokens die, and the app is told in two events."""
        workspace = workspace or self.workspace
        self.revoke(workspace)
        tokens = {"oauth": [], "bot": [workspace.bot.id]}
        revoked = {"type": "tokens_revoked", "tokens": tokens}
        sent = [
            self.events.emit(workspace, "tokens_revoked", revoked),
            self.events.emit(workspace, "app_uninstalled", {"type": "app_uninstalled"}),
        ]
        return [delivery for delivery in sent if delivery is not None]

    def redeem_code(self, code: str, redirect_uri: str) -> Json:
        """What oauth.v2.access answers."""
        return oauth.redeem(self, code, redirect_uri)

    # -- what happened ------------------------------------------------------------------------

    def calls(self, method: str | None = None, *, error: str | None = None) -> list[Call]:
        """The calls of a method (None: of all); with `error`, those that ended with it."""
        return self.recorder.of(method, error)

    async def wait_for(self, condition: Callable[[], Any], seconds: float = 60) -> Any:
        """Wait until the condition is true, without polling; returns what it returned.

        Raises:
            TimeoutError: after so many real seconds.
        """
        return await self.recorder.wait_for(condition, seconds)

    @property
    def notified(self) -> list[Notified]:
        """The mentions in the app's messages that would have notified somebody."""
        return self.messages.notified

    def rate_statistics(self) -> RateStatistics:
        """429s given, and final edits refused and lost."""
        return self.recorder.rate_statistics()

    def text(self, channel: Channel) -> str:
        """The channel as plain text."""
        return channel_text(self, channel)

    def html(self, channel: Channel, thread_ts: str | None = None) -> str:
        """The channel, or one thread of it, as a page that looks like Slack."""
        return channel_html(self, channel, thread_ts)

"""The double itself: everything wired together, and what a test holds on to."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from typing import Any, Literal, Self

from aiohttp import web

from tests.fakes.slack import assistant, chat, files, oauth, places, responses, streams
from tests.fakes.slack.api import Api
from tests.fakes.slack.app import SlackApp
from tests.fakes.slack.clock import Clock
from tests.fakes.slack.delivery import Courier, Delivery
from tests.fakes.slack.events import Events
from tests.fakes.slack.http_events import HttpEvents
from tests.fakes.slack.limits import Limits
from tests.fakes.slack.messages import Messages, Notified
from tests.fakes.slack.people import Person
from tests.fakes.slack.record import Call, Fault, Gate, RateStatistics, Recorder
from tests.fakes.slack.render import channel_html, channel_text
from tests.fakes.slack.socket_mode import SocketMode
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

# Importing them registers their methods with the API.
METHOD_MODULES = (assistant, chat, files, places, streams)


class SlackDouble:
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
        self.clock = clock or Clock()
        self.limits = limits or Limits()
        self.app = app or SlackApp()
        self.latency = latency
        """Real seconds that every call of the Web API takes."""
        self.request_url: str | None = None
        """Where events go over HTTP; None: Socket Mode."""
        self.parent_events = True
        """Whether a reply sends message_changed for the root of its thread."""
        self.ids = Ids()
        self.recorder = Recorder()
        self.courier = Courier(self)
        self.socket = SocketMode(self)
        self.http = HttpEvents(self)
        self.events = Events(self)
        self.messages = Messages(self)
        self.workspaces: dict[str, Workspace] = {}
        self.dead_tokens: set[str] = set()
        self.ephemerals: list[Message] = []
        """Messages that one person alone sees."""
        self.uploads: dict[str, tuple[Workspace, File, int]] = {}
        self.downloads: list[tuple[str, str | None]] = []
        """Each download that was tried: the file's id and the Authorization header."""
        self.triggers: dict[str, float] = {}
        self.response_urls: dict[str, responses.ResponseUrl] = {}
        self.codes: dict[str, oauth.Code] = {}
        self.base_url = ""
        self._faults: list[Fault] = []
        self._gates: list[Gate] = []
        self._background: set[asyncio.Task[Any]] = set()
        self._runner: web.AppRunner | None = None
        self.workspace = self.add_workspace("Acme", installed=installed)

    # -- running ------------------------------------------------------------------------------

    async def start(self, port: int = 0) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        api = Api(self)
        app.router.add_route("*", "/api/{method}", api.handle)
        app.router.add_get("/link/", self.socket.handle)
        app.router.add_post("/response/{token}", lambda request: responses.take(self, request))
        app.router.add_post("/upload/v1/{file}", lambda request: files.take_upload(self, request))
        app.router.add_get(
            "/files-pri/{team}-{file}/{name}", lambda request: files.download(self, request)
        )
        app.router.add_get("/oauth/v2/authorize", lambda request: oauth.authorize(self, request))
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
        for gate in self._gates:
            gate.open()
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

    # -- what the app is configured with ------------------------------------------------------

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

    # -- people and places --------------------------------------------------------------------

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

    def person(self, name: str, *, workspace: Workspace | None = None) -> Person:
        """Somebody of the workspace, made when first asked for; a member of all its channels."""
        workspace = workspace or self.workspace
        for user in workspace.users.values():
            if user.real_name == name and not user.is_bot:
                return Person(self, workspace, user)
        login = name.lower().replace(" ", ".")
        user = User(self.ids.next("U"), workspace.id, login, name)
        user.display_name = name.split()[0]
        user.email = f"{login}@example.com"
        workspace.users[user.id] = user
        for channel in workspace.channels.values():
            if channel.kind == "channel":
                channel.members.add(user.id)
        return Person(self, workspace, user)

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
        self, channel: Channel, text: str, *, thread_ts: str | None = None
    ) -> Message:
        """A message of another app's bot, as incoming webhooks write it."""
        workspace = self.workspaces[channel.team_id]
        message = self.messages.post(
            workspace,
            channel,
            user="",
            bot_id="B0OTHER0001",
            subtype="bot_message",
            text=text,
            thread_ts=thread_ts,
        )
        self.messages.announce(workspace, channel, message)
        return message

    def unfurl(self, message: Message) -> Delivery | None:
        """Show a link's preview under a message: a message_changed with the same text."""
        workspace, channel = self.place_of(message)
        preview = {"from_url": "https://example.com/", "title": "Example", "id": 1}
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

    # -- what goes wrong ----------------------------------------------------------------------

    def fail(
        self,
        method: str,
        error: str | None = None,
        *,
        times: int | None = 1,
        status: int | None = None,
        retry_after: int | None = None,
        drop: Literal["before", "after"] | None = None,
        delay: float = 0,
        when: Callable[[Call], bool] | None = None,
    ) -> Fault:
        """Make the next calls of a method (`*`: of any) go wrong.

        `error`: Slack's error code. `status`: an HTTP error. `retry_after`: a 429. `drop`: the
        connection is reset before Slack did anything, or after it did it: then the caller cannot
        know. `delay`: real seconds before that, or before a normal answer. `times`: None is for
        ever. `when`: only calls for which this is true.
        """
        fault = Fault(method, error, status, retry_after, times, when, drop, delay)
        self._faults.append(fault)
        return fault

    def mend(self) -> None:
        """Forget all faults."""
        self._faults.clear()

    def hold(
        self, method: str, *, applied: bool = True, when: Callable[[Call], bool] | None = None
    ) -> Gate:
        """Stop the next call of a method, after (or before) Slack did it, until the gate opens.

        `await gate.reached.wait()`, do something to the app (kill it), `gate.open()`.
        """
        gate = Gate(method, applied, when)
        self._gates.append(gate)
        return gate

    def take_fault(self, call: Call) -> Fault | None:
        for fault in self._faults:
            if fault.method not in {"*", call.method} or fault.times == 0:
                continue
            if fault.when is not None and not fault.when(call):
                continue
            if fault.times is not None:
                fault.times -= 1
            return fault
        return None

    def take_gate(self, call: Call) -> Gate | None:
        for gate in self._gates:
            waiting = gate.call is None and not gate.reached.is_set()
            if waiting and gate.method == call.method and (not gate.when or gate.when(call)):
                gate.call = call
                return gate
        return None

    # -- what happened ------------------------------------------------------------------------

    def calls(self, method: str | None = None, *, error: str | None = None) -> list[Call]:
        """The calls of a method (None: of all); with `error`, those that ended with it."""
        return self.recorder.of(method, error)

    async def wait_for(self, condition: Callable[[], Any], seconds: float = 10) -> Any:
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
        return join.join(self.messages.shown(message) for message in found if not message.files)

    def thread_files(self, channel: Channel, thread_ts: str) -> list[File]:
        """What the app attached in a thread."""
        return [f for m in self.bot_messages(channel, thread_ts) for f in m.files]

    def status(self, channel: Channel, thread_ts: str) -> str | None:
        """ "is thinking…" under a thread, as people see it now."""
        workspace = self.workspaces[channel.team_id]
        at, value = workspace.statuses.get((channel.id, thread_ts), (0.0, {}))
        if self.clock.time() - at > assistant.STATUS_SECONDS:
            return None
        status: str = value["status"]
        return status

    def stream_state(self, message: Message) -> StreamState | None:
        """The state of a stream's message, which ends by itself; None: it is no stream."""
        stream = message.stream
        if stream is None:
            return None
        over = self.clock.time() - stream.started_at > streams.LIFETIME
        if over and stream.state == "in_progress":
            stream.state = "expired"
        return stream.state

    def text(self, channel: Channel) -> str:
        """The channel as plain text."""
        return channel_text(self, channel)

    def html(self, channel: Channel, thread_ts: str | None = None) -> str:
        """The channel, or one thread of it, as a page that looks like Slack."""
        return channel_html(self, channel, thread_ts)

    # -- small things that several modules need -------------------------------------------------

    def new_trigger(self) -> str:
        """A trigger_id: it opens one modal within 3 seconds."""
        trigger = f"{secrets.randbelow(10**13)}.{secrets.token_hex(8)}"
        self.triggers[trigger] = self.clock.time()
        return trigger

    def complete_view(self, workspace: Workspace, view: Json, view_id: str | None) -> Json:
        """A view as Slack gives it back."""
        view_id = view_id or self.ids.next("V")
        self.messages.name_blocks(view["blocks"])
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

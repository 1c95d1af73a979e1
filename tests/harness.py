"""A real server under test: its database, its provider's double, and callers of its API.

async with Colloquy(folder, database_url) as colloquy:
    alice = await colloquy.account("alice")
    conversation = await alice.create()
    stream = alice.send(conversation.id, "Hello")
    reply = await stream.reply()
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import grpc
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import admin_service_pb2_grpc as admin_grpc
from colloquy.api import attachment_service_pb2_grpc as attachment_grpc
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import conversation_service_pb2_grpc as api_grpc
from colloquy.api import resources_pb2 as resources
from colloquy.api import session_service_pb2_grpc as session_grpc
from colloquy_server import process as server
from colloquy_server.api.access import hash_secret, new_session_secret
from colloquy_server.app import App
from colloquy_server.database.models import SignInMethod
from colloquy_server.database.repository.sessions import Holder, NewSession
from colloquy_server.database.repository.sessions import create as create_session
from colloquy_server.database.transactions import EVERY_ACCOUNT
from colloquy_server.replies.bus import MemoryBus
from colloquy_server.settings import Settings

from tests.fakes.provider import Answer, ProviderDouble
from tests.forked import Forked
from tests.http_channel import HttpChannel
from tests.migrated import make_database
from tests.postgres import free_port

T = TypeVar("T")

ADMIN_KEY = "the-platform-key-of-all-of-the-tests"

PROVISIONING_KEY = "the-provisioning-key-of-all-of-the-tests"

MODELS = """
providers:
  double: {{base_url: "{base_url}", api_key_env: DOUBLE_KEY}}
  strict: {{base_url: "{base_url}", api_key_env: DOUBLE_KEY, alternate_roles: true}}
  keyless: {{base_url: "{base_url}", api_key_env: NO_SUCH_KEY}}
models:
  test-model: &model
    {{provider: double, input_kinds: [image], context_window: 128000, max_output_tokens: 4096,
     input_price: 0.001, output_price: 0.002}}
  other-model: *model
  title-model: *model
  strict-model: {{<<: *model, provider: strict}}
  small-model: {{provider: double, input_kinds: [], context_window: 1000, max_output_tokens: 200,
     input_price: 0, output_price: 0}}
  keyless-model: {{provider: keyless, input_kinds: [], context_window: 8000,
     max_output_tokens: 100, input_price: 0, output_price: 0}}
default_model: [keyless-model, test-model]
title_model: title-model
"""

TITLE = "A title of the double"


class Settled(Settings):
    """Settings of a test: nothing is read from `.env` or from this machine's environment."""

    @classmethod
    def settings_customise_sources(  # type: ignore[override]
        cls, settings_cls: Any, init_settings: Any, **_sources: Any
    ) -> tuple[Any, ...]:
        return (init_settings,)


@dataclass
class Transcript:
    """What a client holds that follows the two rules: a message replaces, a delta is appended."""

    messages: dict[str, resources.Message] = field(default_factory=dict)
    conversation: resources.Conversation | None = None
    is_deleted: bool = False
    joined: dict[tuple[str, int], str] = field(default_factory=dict)
    """The deltas alone, joined, by (message, attempt)."""

    def take(self, event: api.ConversationEvent) -> None:
        """Applies an event, and checks what the contract says of it."""
        assert event.resume_token
        kind = event.WhichOneof("event")
        if kind == "accepted":
            self._replace(event.accepted.message)
            self._replace(event.accepted.reply)
        elif kind == "message":
            before = self.messages.get(event.message.id)
            if before is not None:
                assert event.message.attempt >= before.attempt, "an attempt went backwards"
                if event.message.attempt > before.attempt and event.message.state == 2:
                    assert event.message.content == "", "a new attempt begins empty"
            self._replace(event.message)
        elif kind == "delta":
            delta = event.delta
            message = self.messages.get(delta.message_id)
            if message is not None:
                assert message.attempt == delta.attempt
                assert len(message.content) == delta.offset, "a gap or an overlap"
                message.content += delta.text
            key = (delta.message_id, delta.attempt)
            self.joined[key] = self.joined.get(key, "") + delta.text
        elif kind == "conversation":
            self.conversation = event.conversation
        elif kind == "deleted":
            self.is_deleted = True

    def _replace(self, message: resources.Message) -> None:
        copy = resources.Message()
        copy.CopyFrom(message)
        self.messages[message.id] = copy


class Stream:
    """A stream of events: read step by step, all seen are kept in `events` and `transcript`."""

    def __init__(self, call: Any, transcript: Transcript | None = None) -> None:
        self.call = call
        self.events: list[api.ConversationEvent] = []
        self.transcript = transcript or Transcript()

    async def next(self) -> api.ConversationEvent:
        """The next event. Raises StopAsyncIteration at the end, and AioRpcError."""
        response = await self.call.read()
        if response is grpc.aio.EOF:
            raise StopAsyncIteration
        self.events.append(response.event)
        self.transcript.take(response.event)
        return response.event  # type: ignore[no-any-return]

    async def until(
        self, wanted: Callable[[api.ConversationEvent], bool] | str
    ) -> api.ConversationEvent:
        """Reads up to the first event of this kind or that fits."""
        while True:
            event = await self.next()
            if wanted(event) if callable(wanted) else event.WhichOneof("event") == wanted:
                return event

    async def rest(self) -> list[api.ConversationEvent]:
        """Reads to the end."""
        try:
            while True:
                await self.next()
        except StopAsyncIteration:
            return self.events

    async def reply(self) -> resources.Message:
        """Reads a send to its end; returns the final message."""
        await self.rest()
        assert self.events[-1].WhichOneof("event") == "message"
        return self.events[-1].message

    async def final(self, message_id: str) -> resources.Message:
        """Reads a watch until this reply has ended."""
        event = await self.until(
            lambda e: (
                e.WhichOneof("event") == "message"
                and e.message.id == message_id
                and e.message.state > resources.Message.STATE_GENERATING
            )
        )
        return event.message

    async def accepted(self) -> api.ConversationEvent.Accepted:
        """Reads the first event of a send."""
        event = await self.next()
        assert event.WhichOneof("event") == "accepted", event
        return event.accepted

    def cancel(self) -> None:
        """Goes away, as a client that is killed does."""
        self.call.cancel()


class Caller:
    """Somebody with a key.

    Where there are two servers, sends go to the first one, and watches, reads and cancels to the
    second one, `far`: what is promised has to hold across them.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        key: str,
        account_id: str = "",
        far: grpc.aio.Channel | None = None,
    ) -> None:
        self.channel = channel
        self.far = api_grpc.ConversationServiceStub(far or channel)
        self.key = key
        self.account_id = account_id
        self.metadata = (("authorization", f"Bearer {key}"),)
        self.conversations = api_grpc.ConversationServiceStub(channel)
        self.attachments = attachment_grpc.AttachmentServiceStub(channel)
        self.admin = admin_grpc.AdminServiceStub(channel)
        self.sessions = session_grpc.SessionServiceStub(channel)

    def on(self, channel: grpc.aio.Channel) -> Caller:
        """The same caller, on this server alone."""
        return Caller(channel, self.key, self.account_id)

    def at(self, colloquy: Colloquy) -> Caller:
        """The same caller, after the servers were started again."""
        return Caller(colloquy.channel, self.key, self.account_id, colloquy.far)

    async def call(self, method: str, request: Any) -> Any:
        """A unary call of ConversationService."""
        stub = self.conversations if method == "CreateConversation" else self.far
        return await getattr(stub, method)(request, metadata=self.metadata)

    async def create(self, **fields: Any) -> resources.Conversation:
        response = await self.call("CreateConversation", api.CreateConversationRequest(**fields))
        return response.conversation  # type: ignore[no-any-return]

    async def conversation(self, conversation_id: str) -> resources.Conversation:
        request = api.GetConversationRequest(conversation_id=conversation_id)
        return (await self.call("GetConversation", request)).conversation  # type: ignore[no-any-return]

    async def message(self, message_id: str) -> resources.Message:
        """A message as every call tells it, without what only GetMessage does."""
        request = api.GetMessageRequest(message_id=message_id)
        message: resources.Message = (await self.call("GetMessage", request)).message
        message.ClearField("context")
        return message

    async def receipt(self, message_id: str) -> resources.ContextReceipt:
        """What a reply's model was given."""
        request = api.GetMessageRequest(message_id=message_id)
        return (await self.call("GetMessage", request)).message.context  # type: ignore[no-any-return]

    async def history(self, conversation_id: str) -> list[resources.Message]:
        """All messages, page by page."""
        found: list[resources.Message] = []
        token = ""
        while True:
            request = api.ListMessagesRequest(conversation_id=conversation_id, page_token=token)
            page = await self.call("ListMessages", request)
            found.extend(page.messages)
            token = page.next_page_token
            if not token:
                return found

    def send(self, conversation_id: str, content: str = "Hello", **fields: Any) -> Stream:
        request = api.SendMessageRequest(conversation_id=conversation_id, content=content, **fields)
        return Stream(self.conversations.SendMessage(request, metadata=self.metadata))

    def regenerate(self, message_id: str, **fields: Any) -> Stream:
        request = api.RegenerateReplyRequest(message_id=message_id, **fields)
        return Stream(self.conversations.RegenerateReply(request, metadata=self.metadata))

    def watch(
        self, conversation_id: str, token: str = "", transcript: Transcript | None = None
    ) -> Stream:
        request = api.WatchConversationRequest(conversation_id=conversation_id, resume_token=token)
        call = self.far.WatchConversation(request, metadata=self.metadata)
        return Stream(call, transcript)

    async def cancel(self, message_id: str) -> resources.Message:
        request = api.CancelReplyRequest(message_id=message_id)
        return (await self.call("CancelReply", request)).message  # type: ignore[no-any-return]


class Colloquy:
    """A server in this process with its provider's double, and what tests do with both.

    `replicas` servers, which may be none at first, share one database; `app` and `channel` are of
    the first of them, `far` is a channel to the last.
    """

    models = MODELS
    """The catalogue; `{base_url}` in it becomes the address of the provider's double."""

    def __init__(
        self,
        folder: Path,
        database_url: str = "",
        *,
        replicas: int = 1,
        protocol: str = "grpc",
        **settings: Any,
    ) -> None:
        """`protocol` is grpc, or one of those of http_channel.py, by which all callers call."""
        self.folder = folder
        self.database_url = database_url or f"sqlite:///{folder}/conversations.db"
        self.overrides = settings
        self.provider = ProviderDouble(title_models={"title-model"}, title_answer=TITLE)
        self.replicas = replicas
        self.apps: list[App] = []
        self.processes: list[ServerProcess] = []
        self.channel: grpc.aio.Channel = None  # type: ignore[assignment]
        self.far: grpc.aio.Channel | None = None
        self.protocol = protocol
        self._channels: list[grpc.aio.Channel] = []

    def settings(self, **more: Any) -> Settings:
        """The settings of a server of this test."""
        values: dict[str, Any] = {
            "database_url": self.database_url,
            "grpc_address": new_address(),
            "http_address": new_address(),
            "ai_models_file": self.models_file,
            "admin_api_key": ADMIN_KEY,
            "provisioning_api_key": PROVISIONING_KEY,
            # All tests call from one address, and many with bad keys.
            "max_failed_authentications": 1_000_000,
            "storage_url": f"file://{self.folder}/files",
            "retry_base": 0.01,
            "shutdown_grace": 5,
        }
        settings = Settled(**{**values, **self.overrides, **more})
        settings.environ["DOUBLE_KEY"] = "the-key-of-the-double"
        return settings

    @property
    def models_file(self) -> Path:
        """The catalogue, written when the double's address is known."""
        return self.folder / "ai_models.yml"

    async def __aenter__(self) -> Self:
        await self.provider.__aenter__()
        self.models_file.write_text(self.models.format(base_url=self.provider.base_url))
        make_database(self.database_url)
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for request in self.provider.requests:
            request.release()
        for process in self.processes:  # that a test which failed left behind
            await process.end()
        await self.stop(grace=0)
        for channel in self._channels:
            await channel.close()
        await self.provider.__aexit__(None, None, None)

    async def start(self, **settings: Any) -> None:
        """Starts the servers."""
        bus = None if self.database_url.startswith("postgresql") else MemoryBus()
        ends = [bus, *(bus.join() for _ in range(self.replicas - 1))] if bus else []
        for number in range(self.replicas):
            app = App(self.settings(**settings), ends[number] if ends else None)
            self.apps.append(app)
            await app.start()
        if channels := [self._channel_of(app) for app in self.apps]:
            self.channel, self.far = channels[0], channels[-1]

    def _channel_of(self, app: App) -> grpc.aio.Channel:
        if self.protocol == "grpc":
            return self.channel_to(f"127.0.0.1:{app.port}")
        return self.http_channel_to(f"127.0.0.1:{app.http_port}", self.protocol)

    def http_channel_to(self, address: str, protocol: str) -> grpc.aio.Channel:
        """What calls an address by HTTP, as stubs take it."""
        channel: Any = HttpChannel(f"http://{address}", protocol)
        self._channels.append(channel)
        return channel  # type: ignore[no-any-return]

    def channel_to(self, address: str, *options: tuple[str, int]) -> grpc.aio.Channel:
        channel = grpc.aio.insecure_channel(
            address, options=[("grpc.max_receive_message_length", 16 << 20), *options]
        )
        self._channels.append(channel)
        return channel

    async def stop(self, grace: float = 5) -> None:
        """Shuts the servers down in good order."""
        apps, self.apps = self.apps, []
        await asyncio.gather(*(app.stop(grace) for app in apps))

    @property
    def app(self) -> App:
        """The first server."""
        return self.apps[0]

    async def restart(self, **settings: Any) -> None:
        """Shuts down and starts anew, on the same database; callers go on with `at`."""
        await self.stop()
        await self.start(**settings)

    @property
    def admin(self) -> Caller:
        """The holder of the platform's key."""
        return Caller(self.channel, ADMIN_KEY)

    async def account(self, name: str = "alice") -> Caller:
        """A new account; its service's key."""
        admin = self.admin
        made = await admin.admin.CreateAccount(
            admin_api.CreateAccountRequest(name=name), metadata=admin.metadata
        )
        return await self.key(made.account.id)

    async def key(
        self,
        account_id: str,
        role: admin_api.ApiKey.Role.ValueType = admin_api.ApiKey.ROLE_SERVICE,
        **fields: Any,
    ) -> Caller:
        """A new key of an account."""
        admin = self.admin
        made = await admin.admin.CreateApiKey(
            admin_api.CreateApiKeyRequest(account_id=account_id, name="test", role=role, **fields),
            metadata=admin.metadata,
        )
        return Caller(self.channel, made.secret, account_id, self.far)

    async def session(self, caller: Caller) -> str:
        """The id of a browser's session that was begun with a caller's key."""
        access = self.app.access
        known = (await access.authenticate(f"Bearer {caller.key}", "")).principal
        holder = Holder(known.account_id, known.user_id, known.key_id, known.role)
        new = NewSession(SignInMethod.API_KEY, hash_secret(new_session_secret()), "", 3_600)
        made = await self.app.db.write(EVERY_ACCOUNT, create_session, holder, new)
        return made.id


def new_address() -> str:
    """An address for a server, which it still gets when it is started again."""
    return f"127.0.0.1:{free_port()}"


class Child(Protocol):
    """A process that was started."""

    pid: int

    def send_signal(self, number: signal.Signals) -> None: ...

    async def wait(self) -> int: ...


class ServerProcess:
    """A server as a process of its own, to be killed, stopped and started again."""

    def __init__(
        self,
        colloquy: Colloquy,
        *,
        workers: int = 1,
        run: Callable[[], int] | None = None,
        **environment: str,
    ) -> None:
        """Shares the database and the provider's double of `colloquy`. `run` is a function of a
        module that serves, instead of the server's own."""
        self._run = run or functools.partial(server.run_server, workers=workers)
        self._environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "DATABASE_URL": colloquy.database_url,
            "AI_MODELS_FILE": str(colloquy.models_file),
            "STORAGE_URL": f"file://{colloquy.folder}/files",
            "ADMIN_API_KEY": ADMIN_KEY,
            "MAX_FAILED_AUTHENTICATIONS": "1000000",
            "DOUBLE_KEY": "the-key-of-the-double",
            "LOG_FORMAT": "json",
            **environment,
        }
        self._colloquy = colloquy
        self._process: Child | None = None
        self.lines: list[str] = []
        self._reading: asyncio.Task[None] | None = None
        self._serving = asyncio.Event()
        self._said = asyncio.Event()
        self.address = ""
        self.http_address = ""

    async def start(self) -> grpc.aio.Channel:
        """Starts it and waits until it serves; returns a channel to it."""
        self._serving.clear()
        reading, writing = os.pipe()
        environment = {
            **self._environment,
            "GRPC_ADDRESS": self.address or new_address(),
            "HTTP_ADDRESS": self.http_address or new_address(),
        }
        try:
            self._process = await self.launch(environment, writing)
        finally:
            os.close(writing)
        if self not in self._colloquy.processes:
            self._colloquy.processes.append(self)
        self._reading = asyncio.create_task(self._read(reading))
        waiting = asyncio.create_task(self._serving.wait())
        await asyncio.wait([waiting, self._reading], return_when=asyncio.FIRST_COMPLETED)
        assert waiting.done(), "the server did not start:\n" + "\n".join(self.lines)
        return self._colloquy.channel_to(self.address)

    async def launch(self, environment: dict[str, str], output: int) -> Child:
        """Starts the process, which logs to a descriptor."""
        folder = self._colloquy.folder
        return await Forked.start(self._run, environment=environment, folder=folder, output=output)

    async def _read(self, pipe: int) -> None:
        """Takes in what it says, to the end, and closes the pipe. A transport of uvloop's would
        close the descriptor twice, the second time when it may be another thread's."""
        readable, said = asyncio.Event(), b""
        loop = asyncio.get_running_loop()
        os.set_blocking(pipe, False)
        loop.add_reader(pipe, readable.set)
        try:
            while True:
                await readable.wait()
                readable.clear()
                try:
                    data = os.read(pipe, 1 << 16)
                except BlockingIOError:
                    continue
                if not data:
                    break
                *lines, said = (said + data).split(b"\n")
                for raw in lines:
                    self._take(raw.decode().rstrip())
        finally:
            loop.remove_reader(pipe)
            os.close(pipe)

    def _take(self, line: str) -> None:
        self.lines.append(line)
        print(line)  # noqa: T201 - pytest shows it when the test fails
        if '"event":"serving"' in line:
            said = json.loads(line)
            self.address, self.http_address = said["address"], said["http_address"]
            self._serving.set()
        self._said.set()

    async def logged(self, event: str, count: int = 1, since: int = 0) -> list[dict[str, Any]]:
        """Waits until it has logged an event so often since it had said so many lines; returns
        those lines."""
        while True:
            self._said.clear()
            entries = [json.loads(line) for line in self.lines[since:] if line.startswith("{")]
            found = [entry for entry in entries if entry["event"] == event]
            if len(found) >= count:
                return found
            await self._said.wait()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def end(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Ends it with a signal and waits; returns its exit code."""
        assert self._process is not None
        assert self._reading is not None
        self._process.send_signal(number)
        code = await self._process.wait()
        await self._reading  # to its end: so its workers, who hold the pipe too, have ended
        return code


async def settle(condition: Callable[[], Any], patience: float = 60) -> None:
    """Waits until a condition holds that nothing announces."""
    async with asyncio.timeout(patience):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)


async def eventually(ask: Callable[[], Awaitable[T]], wanted: T, patience: float = 120) -> T:
    """Asks until the answer is the wanted one, which it becomes by itself; returns the last."""
    until = asyncio.get_running_loop().time() + patience
    while True:
        answer = await ask()
        if answer == wanted or asyncio.get_running_loop().time() > until:
            return answer
        await asyncio.sleep(0.02)


def words(count: int, **more: Any) -> Answer:
    """An answer of so many words."""
    return Answer(tokens=count, **more)

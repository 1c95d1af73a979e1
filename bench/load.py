"""The load: opens streams, notes when each message comes, and makes sure that no text is missing.

What was received is looked at after a run, so that the client is not what is measured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import admin_service_pb2_grpc as admin_grpc
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import conversation_service_pb2_grpc as api_grpc
from colloquy.api import resources_pb2 as resources

from bench import floor
from bench.processes import ADMIN_KEY, Metered
from bench.provider import CLOCK_DIGITS, RATE, THINKING, TOKEN_LENGTH, text_after_clocks

_CONNECTIONS = 4
"""Between which the streams are shared out, as a few front ends would."""

_ARRIVALS = 1.0
"""Seconds over which the streams of a run begin."""

_SETTLING = 0.5
"""Seconds after the last first text until the steady part of a run begins."""

_STEADY = 0.5
"""Seconds that the steady part of a run has to have."""

Metadata = tuple[tuple[str, str], ...]


class WrongText(Exception):
    """A stream did not carry what the provider said."""


class Disturbed(Exception):
    """The machine was too busy with other things for this run to say anything."""


@dataclass
class Received:
    """One stream: when it was asked for, and every message with the time at which it came."""

    asked: int = 0
    messages: list[tuple[int, bytes]] = field(default_factory=list)
    has_text: asyncio.Event = field(default_factory=asyncio.Event)


class Target(Protocol):
    """What streams are opened at."""

    process: Metered
    messages_before_text: int

    async def prepare(self, streams: int) -> None:
        """Does what has to be done before a run, and is not measured."""

    async def close(self) -> None:
        """Ends what `prepare` began."""

    def open(self, stream: int, prompt: str) -> Any:
        """Asks for a stream; returns the call, whose messages are bytes."""

    def texts(self, received: Received) -> list[tuple[int, str]]:
        """The pieces of text and when they came. Raises WrongText and Disturbed."""


class FloorTarget:
    """The floor."""

    messages_before_text = 0

    def __init__(self, process: Metered) -> None:
        self.process = process
        self._methods: list[Any] = [
            channel.unary_stream(floor.METHOD) for channel in _channels(process.address)
        ]

    async def prepare(self, streams: int) -> None:
        """Nothing."""

    async def close(self) -> None:
        """Nothing."""

    def open(self, stream: int, prompt: str) -> Any:
        """The request is the prompt."""
        return self._methods[stream % _CONNECTIONS](prompt.encode())

    def texts(self, received: Received) -> list[tuple[int, str]]:
        """The messages are the text."""
        return [(at, message.decode()) for at, message in received.messages]


class ServerTarget:
    """The server, as an account of its own. With `watchers`, each conversation is also watched
    by so many, who are read but not looked at."""

    messages_before_text = 1  # `accepted`

    def __init__(self, process: Metered, metadata: Metadata, *, watchers: int = 0) -> None:
        self.process = process
        self._metadata = metadata
        self._watchers = watchers
        self._channels = _channels(process.address)
        self._sends = [_raw(channel, "SendMessage") for channel in self._channels]
        self._watches = [_raw(channel, "WatchConversation") for channel in self._channels]
        self._conversations: list[str] = []
        self._watching: list[asyncio.Task[None]] = []

    @staticmethod
    async def sign_up(process: Metered) -> Metadata:
        """Makes an account and a key; returns the metadata of its calls."""
        admin = admin_grpc.AdminServiceStub(_channels(process.address)[0])
        metadata = (("authorization", f"Bearer {ADMIN_KEY}"),)
        account = await admin.CreateAccount(
            admin_api.CreateAccountRequest(name="bench"), metadata=metadata
        )
        key = await admin.CreateApiKey(
            admin_api.CreateApiKeyRequest(
                account_id=account.account.id, name="bench", role=admin_api.ApiKey.ROLE_SERVICE
            ),
            metadata=metadata,
        )
        return (("authorization", f"Bearer {key.secret}"),)

    async def prepare(self, streams: int) -> None:
        """Makes a conversation for each stream. They have titles: none has to be thought of."""
        stub = api_grpc.ConversationServiceStub(self._channels[0])
        request = api.CreateConversationRequest(title="Bench")
        made = [
            await stub.CreateConversation(request, metadata=self._metadata) for _ in range(streams)
        ]
        self._conversations = [response.conversation.id for response in made]
        self._watching = [
            asyncio.create_task(self._watch(number, conversation_id))
            for number, conversation_id in enumerate(self._conversations)
            for _ in range(self._watchers)
        ]

    async def close(self) -> None:
        """Ends the watchers."""
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)

    async def _watch(self, number: int, conversation_id: str) -> None:
        request = api.WatchConversationRequest(conversation_id=conversation_id)
        call = self._watches[number % _CONNECTIONS](request, metadata=self._metadata)
        try:
            while await call.read() is not grpc.aio.EOF:
                pass
        finally:
            call.cancel()

    def open(self, stream: int, prompt: str) -> Any:
        """Sends the prompt to the stream's conversation."""
        request = api.SendMessageRequest(
            conversation_id=self._conversations[stream], content=prompt
        )
        return self._sends[stream % _CONNECTIONS](request, metadata=self._metadata)

    def texts(self, received: Received) -> list[tuple[int, str]]:
        """The deltas, which have to make up the final message."""
        pieces: list[tuple[int, str]] = []
        final = resources.Message()
        for at, message in received.messages:
            event = api.SendMessageResponse.FromString(message).event
            if event.HasField("delta"):
                pieces.append((at, event.delta.text))
            elif event.HasField("message"):
                final = event.message
        joined = "".join(text for _, text in pieces)
        if final.attempt > 1:
            raise Disturbed("a reply had to be asked for again")
        if final.state != resources.Message.STATE_COMPLETED or final.content != joined:
            raise WrongText(f"a reply ended in {final.state} with {len(joined)} characters")
        return pieces


@dataclass(frozen=True)
class Run:
    """What one run measured. CPU is in microseconds a token, times in milliseconds."""

    cpu: float
    """While all streams were open and none had ended."""
    whole_cpu: float
    """Of everything from the first request to the last end of a stream."""
    database_cpu: float | None
    """Of `cpu`, in the database's threads."""
    first_token: Sequence[float]
    """Of each stream, from its request to its first text, without the provider's own time."""
    messages: float
    """A second, while all streams were open."""
    tokens_a_message: float


async def run(target: Target, streams: int, seconds: float) -> Run:
    """One run: so many streams, each of `seconds` at RATE tokens a second.

    Raises WrongText and Disturbed.
    """
    await target.prepare(streams)
    tokens = int(seconds * RATE)
    loop = asyncio.get_running_loop()
    received = [Received() for _ in range(streams)]
    before = await target.process.read()
    start = loop.time()
    tasks = [
        asyncio.create_task(
            _receive(target, number, start + _arrival(number, streams), tokens, received[number])
        )
        for number in range(streams)
    ]
    opening = asyncio.gather(*(one.has_text.wait() for one in received))
    firsts: list[asyncio.Future[Any]] = [*tasks, opening]
    await asyncio.wait(firsts, return_when=asyncio.FIRST_COMPLETED)
    opening.cancel()
    await asyncio.sleep(_SETTLING)
    opened = await target.process.read()
    await _sleep_until(start + THINKING + (tokens - 2) / RATE)
    closing = await target.process.read()
    await asyncio.gather(*tasks)
    after = await target.process.read()
    await target.close()
    if closing.time - opened.time < _STEADY * 1e9:
        raise Disturbed("the streams began too slowly")

    pieces: list[tuple[int, int]] = []  # when it came, and how many tokens it holds
    first_token = []
    for number, one in enumerate(received):
        texts = target.texts(one)
        first_token.append(_check(number, tokens, one.asked, texts))
        pieces += [(at, round(len(text) / TOKEN_LENGTH)) for at, text in texts[1:]]
    steady = [count for at, count in pieces if opened.time <= at < closing.time]
    database = None
    if closing.database is not None and opened.database is not None:
        database = (closing.database - opened.database) / 1e3 / sum(steady)
    return Run(
        cpu=(closing.cpu - opened.cpu) / 1e3 / sum(steady),
        whole_cpu=(after.cpu - before.cpu) / 1e3 / (streams * tokens),
        database_cpu=database,
        first_token=first_token,
        messages=len(steady) / ((closing.time - opened.time) / 1e9),
        tokens_a_message=sum(steady) / len(steady),
    )


def _arrival(number: int, streams: int) -> float:
    """When a stream begins: evenly over _ARRIVALS, but so that the tokens of all streams are
    spread over the time between two tokens (by the golden ratio) and do not come in bursts."""
    return number / streams * _ARRIVALS + (number * 0.618034) % 1 / RATE


async def _receive(target: Target, number: int, at: float, tokens: int, received: Received) -> None:
    await _sleep_until(at)
    received.asked = time.monotonic_ns()
    call = target.open(number, f"{number} {tokens}")
    while (message := await call.read()) is not grpc.aio.EOF:
        received.messages.append((time.monotonic_ns(), message))
        if len(received.messages) > target.messages_before_text:
            received.has_text.set()


def _check(number: int, tokens: int, asked: int, texts: list[tuple[int, str]]) -> float:
    """Whether a stream's text is whole; returns its added time to the first token."""
    text = "".join(piece for _, piece in texts)
    clocks, rest = text[: 2 * CLOCK_DIGITS], text[2 * CLOCK_DIGITS :]
    if rest != text_after_clocks(number, tokens):
        raise WrongText(f"stream {number} is not whole: {len(rest)} characters")
    arrived, sent = int(clocks[:CLOCK_DIGITS]), int(clocks[CLOCK_DIGITS:])
    return (texts[0][0] - asked - (sent - arrived)) / 1e6


async def _sleep_until(when: float) -> None:
    await asyncio.sleep(max(0.0, when - asyncio.get_running_loop().time()))


def _channels(address: str) -> list[grpc.aio.Channel]:
    # Without a pool of its own a channel would share the connection of the others.
    options = [("grpc.use_local_subchannel_pool", 1)]
    return [grpc.aio.insecure_channel(address, options) for _ in range(_CONNECTIONS)]


def _raw(channel: grpc.aio.Channel, method: str) -> Any:
    """A streaming call whose answers stay bytes."""
    service = api.DESCRIPTOR.services_by_name["ConversationService"].full_name
    return channel.unary_stream(
        f"/{service}/{method}", request_serializer=lambda request: request.SerializeToString()
    )

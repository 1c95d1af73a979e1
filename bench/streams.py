"""Opens streams of tokens, notes when each message comes, and makes sure that no text is missing.

What was received is looked at after a run, so that the client is not what is measured.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources

from bench import paced
from bench.client import CONNECTIONS, FloorClient, ServerClient
from bench.floors import tokens as floor
from bench.paced import WrongText
from bench.processes import Metered

RATE = 50
"""Tokens a second of one stream."""

_ARRIVALS = 1.0
"""Seconds over which the streams of a run begin."""

_SETTLING = 0.5
"""Seconds after the last first text until the steady part of a run begins."""

_STEADY = 0.5
"""Seconds that the steady part of a run has to have."""

_SHORT = 3
"""Tokens of a stream of which only the beginning is measured."""

_TRIES = 4
"""Of a run that something else on the machine disturbs."""


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
        self._methods = FloorClient(process.address).streams(floor.METHOD)

    async def prepare(self, streams: int) -> None:
        """Nothing."""

    async def close(self) -> None:
        """Nothing."""

    def open(self, stream: int, prompt: str) -> Any:
        """The request is the prompt."""
        return self._methods[stream % CONNECTIONS](prompt.encode())

    def texts(self, received: Received) -> list[tuple[int, str]]:
        """The messages are the text."""
        return [(at, message.decode()) for at, message in received.messages]


class ServerTarget:
    """The server. With `watchers`, each conversation is also watched by so many, who are read but
    not looked at."""

    messages_before_text = 1  # `accepted`

    def __init__(self, process: Metered, client: ServerClient, *, watchers: int = 0) -> None:
        self.process = process
        self._client = client
        self._watchers = watchers
        self._sends = client.streams("SendMessage")
        self._watches = client.streams("WatchConversation")
        self._conversations: list[str] = []
        self._watching: list[asyncio.Task[None]] = []

    async def prepare(self, streams: int) -> None:
        """Makes a conversation for each stream, and lets all watchers begin."""
        self._conversations = await self._client.make_conversations(streams)
        begun = []
        for number, conversation_id in enumerate(self._conversations):
            for _ in range(self._watchers):
                begun.append(asyncio.Event())
                watch = self._watch(number, conversation_id, begun[-1])
                self._watching.append(asyncio.create_task(watch))
        for event in begun:
            await event.wait()

    async def close(self) -> None:
        """Ends the watchers."""
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        self._watching = []

    async def _watch(self, number: int, conversation_id: str, begun: asyncio.Event) -> None:
        request = api.WatchConversationRequest(conversation_id=conversation_id)
        call = self._watches[number % CONNECTIONS](request, metadata=self._client.metadata)
        try:
            while await call.read() is not grpc.aio.EOF:
                begun.set()
        finally:
            call.cancel()

    def open(self, stream: int, prompt: str) -> Any:
        """Sends the prompt to the stream's conversation."""
        request = api.SendMessageRequest(
            conversation_id=self._conversations[stream], content=prompt
        )
        return self._sends[stream % CONNECTIONS](request, metadata=self._client.metadata)

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
    """`run_once`, again when it is disturbed. Raises WrongText and Disturbed."""
    for left in reversed(range(_TRIES)):
        try:
            return await run_once(target, streams, seconds)
        except Disturbed as error:
            if not left:
                raise
            print(f"bench: {error}; once more", file=sys.stderr)
    raise AssertionError


async def run_once(target: Target, streams: int, seconds: float) -> Run:
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
    await _sleep_until(start + paced.THINKING + (tokens - 2) / RATE)
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
        first_token.append(_first_token(number, tokens, one.asked, texts))
        pieces += [(at, round(len(text) / paced.TOKEN_LENGTH)) for at, text in texts[1:]]
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


async def first_tokens(target: Target, streams: int) -> list[float]:
    """The added times to the first token, in milliseconds, of short streams one after the other.
    Raises WrongText and Disturbed."""
    await target.prepare(streams)
    times = []
    for number in range(streams):
        received = Received()
        await _receive(target, number, 0.0, _SHORT, received)
        times.append(_first_token(number, _SHORT, received.asked, target.texts(received)))
    await target.close()
    return times


def _arrival(number: int, streams: int) -> float:
    """When a stream begins: evenly over _ARRIVALS, but so that the tokens of all streams are
    spread over the time between two tokens (by the golden ratio) and do not come in bursts."""
    return number / streams * _ARRIVALS + (number * 0.618034) % 1 / RATE


async def _receive(target: Target, number: int, at: float, tokens: int, received: Received) -> None:
    await _sleep_until(at)
    received.asked = time.monotonic_ns()
    call = target.open(number, paced.orders(number, tokens, RATE))
    while (message := await call.read()) is not grpc.aio.EOF:
        received.messages.append((time.monotonic_ns(), message))
        if len(received.messages) > target.messages_before_text:
            received.has_text.set()


def _first_token(number: int, tokens: int, asked: int, texts: list[tuple[int, str]]) -> float:
    """A stream's added time to the first token. Raises WrongText."""
    arrived, sent = paced.check(number, tokens, "".join(text for _, text in texts))
    return (texts[0][0] - asked - (sent - arrived)) / 1e6


async def _sleep_until(when: float) -> None:
    await asyncio.sleep(max(0.0, when - asyncio.get_running_loop().time()))

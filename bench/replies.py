"""What a reply costs beside its tokens: answers of five tokens without pauses, so that only their
beginning and end count.

Each conversation is a loop that sends again when its reply has ended.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import grpc
from colloquy.api import conversation_service_pb2 as api

from bench import instant
from bench.client import CONNECTIONS, FloorClient, ServerClient, check_finished
from bench.floors import replies as floor
from bench.paced import WrongText
from bench.processes import Metered
from bench.report import Limit, Row, compared
from bench.stage import Databases, open_stage

PROMPT = "How many tokens does it take to say something short?"

CPU_LIMIT = {"sqlite": Limit(2.0), "postgres": Limit(2.5)}
"""Of the server's CPU a reply to the floor's."""

PACE_LIMIT = {"sqlite": Limit(0.6, at_least=True)}
"""Of the server's replies a second to the floor's. Over Postgres more processes make more, which
`workers` measures."""


@dataclass(frozen=True)
class Shape:
    """So many replies, spread over so many conversations at once."""

    name: str
    conversations: int
    replies: int


@dataclass(frozen=True)
class Cost:
    """What one run measured."""

    cpu: float
    """Milliseconds a reply."""
    pace: float
    """Replies a second."""


class Target(Protocol):
    """What replies are asked of."""

    process: Metered

    async def prepare(self, conversations: int) -> None:
        """Makes new conversations, which is not measured."""

    def send(self, conversation: int) -> Any:
        """Sends the prompt to a conversation; returns the call."""

    def check(self, last: bytes) -> None:
        """Raises WrongText unless the last message of a call holds the whole answer."""


class ServerTarget:
    """The server. Each prompt has a request id, as the client library gives it one."""

    def __init__(self, process: Metered, client: ServerClient) -> None:
        self.process = process
        self._client = client
        self._sends = client.streams("SendMessage")
        self._numbers = count()
        self.conversations: list[str] = []

    async def prepare(self, conversations: int) -> None:
        """Makes conversations that have titles."""
        self.conversations = await self._client.make_conversations(conversations)

    def send(self, conversation: int) -> Any:
        """SendMessage."""
        request = api.SendMessageRequest(
            conversation_id=self.conversations[conversation],
            content=PROMPT,
            request_id=str(next(self._numbers)),
        )
        send = self._sends[conversation % len(self._sends)]
        return send(request, metadata=self._client.metadata)

    def check(self, last: bytes) -> None:
        """The last event is the finished reply."""
        check_finished(last, instant.TEXT)


class FloorTarget:
    """The floor, whose conversations come into being with their first prompt."""

    def __init__(self, process: Metered) -> None:
        self.process = process
        self._sends = FloorClient(process.address).streams(floor.METHOD)
        self._numbers = count()
        self.conversations: list[str] = []

    async def prepare(self, conversations: int) -> None:
        """Takes names that were not used yet."""
        self.conversations = [f"new-{next(self._numbers)}" for _ in range(conversations)]

    def send(self, conversation: int) -> Any:
        """The conversation's name, and the prompt."""
        request = f"{self.conversations[conversation]} {PROMPT}".encode()
        return self._sends[conversation % CONNECTIONS](request)

    def check(self, last: bytes) -> None:
        """The last message is the text."""
        if last.decode() != instant.TEXT:
            raise WrongText(f"the floor's reply ended with {last!r}")


async def run(target: Target, shape: Shape) -> Cost:
    """One run of new conversations. Raises WrongText."""
    await target.prepare(shape.conversations)
    return await talk(target, shape)


async def talk(target: Target, shape: Shape) -> Cost:
    """One run in the conversations that `prepare` made. Raises WrongText."""
    left = iter(range(shape.replies))
    lasts: list[bytes] = []
    before = await target.process.read()
    started = time.perf_counter()
    await asyncio.gather(
        *(_converse(target, number, left, lasts) for number in range(shape.conversations))
    )
    seconds = time.perf_counter() - started
    after = await target.process.read()
    for last in lasts:
        target.check(last)
    cpu = after.cpu - before.cpu + (after.children or 0) - (before.children or 0)
    return Cost(cpu=cpu / 1e6 / shape.replies, pace=shape.replies / seconds)


async def _converse(
    target: Target, conversation: int, left: Iterator[int], lasts: list[bytes]
) -> None:
    for _ in left:
        call = target.send(conversation)
        last = b""
        while (message := await call.read()) is not grpc.aio.EOF:
            last = message
        lasts.append(last)


SHAPES = (
    Shape("32 conversations, 19 exchanges each", conversations=32, replies=32 * 19),
    Shape("300 conversations at once", conversations=300, replies=450),
    Shape("one conversation of 400 exchanges", conversations=1, replies=400),
)

WARM_UP = Shape("what is loaded or compiled at first use", conversations=32, replies=160)


async def measure(databases: Databases, rounds: int) -> list[Row]:
    """Floor and server in turn, in each shape."""
    async with (
        instant.serving() as base_url,
        open_stage(databases, base_url, floor.__name__) as stage,
    ):
        client = await ServerClient.sign_up(stage.server.address)
        targets: tuple[Target, Target] = (
            FloorTarget(stage.floor),
            ServerTarget(stage.server, client),
        )
        for target in targets:
            await run(target, WARM_UP)
        rows: list[Row] = []
        for shape in SHAPES:
            costs = [[await run(target, shape) for target in targets] for _ in range(rounds)]
            rows += _rows(databases.kind, shape, costs)
        return rows


def _rows(database: str, shape: Shape, costs: Sequence[Sequence[Cost]]) -> list[Row]:
    floors, servers = zip(*costs, strict=True)
    what = shape.name
    return [
        compared(
            *("replies", database, what, "ms CPU a reply"),
            [one.cpu for one in servers],
            [one.cpu for one in floors],
            CPU_LIMIT[database],
        ),
        compared(
            *("replies", database, what, "replies/s"),
            [one.pace for one in servers],
            [one.pace for one in floors],
            PACE_LIMIT.get(database),
        ),
    ]

"""What it costs that many watch one reply, by gRPC and by HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import grpc
from colloquy.api import conversation_service_pb2 as api

from bench import paced
from bench.client import ServerClient
from bench.floors import tokens as floor
from bench.http_watch import HttpWatch
from bench.paced import WrongText
from bench.report import Limit, Row, compared
from bench.stage import Databases, Stage, open_stage, paced_provider

LIMIT = Limit(60)
"""Microseconds of the server's CPU each event of each watcher, of the largest audience."""

HTTP_LIMIT = Limit(2)
"""Of what an event costs by HTTP, where each watcher has a connection, to what it costs by gRPC."""

_ROUNDS = 3
"""Of the largest audience, by gRPC and by HTTP in turn: their ratio is what is limited."""

_CONNECTIONS = 10
"""Between which watchers are shared out: a connection takes 100 streams at a time."""

_UNIT = "µs CPU an event each"

_SETTLING = 0.5
"""Seconds from the first text to the part of the reply that is measured."""


@dataclass(frozen=True)
class Audience:
    """So many watchers of a reply that has so many tokens a second. The rate is such that all get
    each of them: who falls behind would get fewer, larger events."""

    watchers: int
    rate: int


AUDIENCES = (Audience(1, 50), Audience(100, 50), Audience(1_000, 8))


class _Watching(Protocol):
    """Watchers that count what they get, and look at nothing."""

    events: int

    async def ready(self) -> None:
        """Returns when each has had its first event, the conversation."""

    async def close(self) -> None:
        """Ends the watches."""


class _ByGrpc:
    """Watchers that share a few connections."""

    def __init__(self, client: ServerClient, conversation_id: str, count: int) -> None:
        self._client = client
        self._watch = client.streams("WatchConversation")
        self._request = api.WatchConversationRequest(conversation_id=conversation_id)
        self.events = 0
        self._watching = asyncio.Event()
        self._count = count
        self._tasks = [asyncio.create_task(self._run(number)) for number in range(count)]

    async def ready(self) -> None:
        await self._watching.wait()

    async def _run(self, number: int) -> None:
        watch = self._watch[number % len(self._watch)]
        call = watch(self._request, metadata=self._client.metadata)
        try:
            while await call.read() is not grpc.aio.EOF:
                self.events += 1
                if self.events == self._count:
                    self._watching.set()
        finally:
            call.cancel()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _ByHttp:
    """Watchers with a connection each."""

    def __init__(self, stage: Stage, client: ServerClient, conversation: str, count: int) -> None:
        self._address = stage.server.http_address
        self._client = client
        self._request = api.WatchConversationRequest(conversation_id=conversation)
        self.events = 0
        self._watching = asyncio.Event()
        self._count = count
        self._watches: list[HttpWatch] = []

    def _take(self) -> None:
        self.events += 1
        if self.events == self._count:
            self._watching.set()

    async def ready(self) -> None:
        for _ in range(self._count):
            self._watches.append(
                await HttpWatch.open(self._address, self._request, self._client.secret, self._take)
            )
        await self._watching.wait()

    async def close(self) -> None:
        for watch in self._watches:
            watch.close()


async def measure(
    databases: Databases, seconds: float, audiences: Sequence[Audience] = AUDIENCES
) -> list[Row]:
    """One reply for each audience; of the largest, some by gRPC and some by HTTP."""
    rows = []
    async with (
        paced_provider() as base_url,
        open_stage(databases, base_url, floor.__name__) as stage,
    ):
        client = await ServerClient.sign_up(stage.server.address, _CONNECTIONS)
        for audience in audiences:
            many = "s" if audience.watchers > 1 else ""
            what = f"{audience.watchers:,} watcher{many} of a reply"
            cost = await _cost(stage, client, audience, seconds, by_http=False)
            limit = LIMIT if audience is audiences[-1] else None
            rows.append(Row("watchers", databases.kind, what, _UNIT, cost, limit=limit))
        costs = [
            [
                await _cost(stage, client, audience, seconds, by_http=by_http)
                for by_http in (True, False)
            ]
            for _ in range(_ROUNDS)
        ]
        by_http, by_grpc = zip(*costs, strict=True)
        rows.append(
            compared(
                *("watchers", databases.kind, f"{what} by HTTP, beside gRPC", _UNIT),
                *(by_http, by_grpc, HTTP_LIMIT),
            )
        )
    return rows


async def _cost(
    stage: Stage, client: ServerClient, audience: Audience, seconds: float, *, by_http: bool
) -> float:
    """Microseconds of the server's CPU for each event of each watcher of one reply."""
    send = client.streams("SendMessage")[0]
    (conversation_id,) = await client.make_conversations(1)
    count = audience.watchers
    watchers: _Watching = (
        _ByHttp(stage, client, conversation_id, count)
        if by_http
        else _ByGrpc(client, conversation_id, count)
    )
    await watchers.ready()
    tokens = int((seconds + 2 * _SETTLING) * audience.rate)
    prompt = paced.orders(0, tokens, audience.rate)
    request = api.SendMessageRequest(conversation_id=conversation_id, content=prompt)
    call = send(request, metadata=client.metadata)
    for _ in ("accepted", "the first text"):
        await call.read()
    await asyncio.sleep(_SETTLING)
    before, events_before = await stage.server.read(), watchers.events
    await asyncio.sleep(seconds)
    after, events = await stage.server.read(), watchers.events - events_before
    while (message := await call.read()) is not grpc.aio.EOF:
        last = message
    await watchers.close()
    paced.check(0, tokens, api.SendMessageResponse.FromString(last).event.message.content)
    if not events:
        raise WrongText("watchers got nothing")
    return (after.cpu - before.cpu) / 1e3 / events

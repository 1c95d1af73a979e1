"""What it costs that many watch one reply."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
from colloquy.api import conversation_service_pb2 as api

from bench import paced
from bench.client import ServerClient
from bench.floors import tokens as floor
from bench.paced import WrongText
from bench.report import Limit, Row
from bench.stage import Databases, open_stage, paced_provider

LIMIT = Limit(60)
"""Microseconds of the server's CPU each event of each watcher, of the largest audience."""

_CONNECTIONS = 10
"""Between which watchers are shared out: a connection takes 100 streams at a time."""

_SETTLING = 0.5
"""Seconds from the first text to the part of the reply that is measured."""


@dataclass(frozen=True)
class Audience:
    """So many watchers of a reply that has so many tokens a second. The rate is such that all get
    each of them: who falls behind would get fewer, larger events."""

    watchers: int
    rate: int


AUDIENCES = (Audience(1, 50), Audience(100, 50), Audience(1_000, 8))


class _Watchers:
    """They count what they get, and look at nothing."""

    def __init__(self, client: ServerClient, conversation_id: str, count: int) -> None:
        self._client = client
        self._watch = client.streams("WatchConversation")
        self._request = api.WatchConversationRequest(conversation_id=conversation_id)
        self.events = 0
        self._watching = asyncio.Event()
        self._count = count
        self._tasks = [asyncio.create_task(self._run(number)) for number in range(count)]

    async def ready(self) -> None:
        """Returns when each has had its first event, the conversation."""
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
        """Ends the watches."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def measure(
    databases: Databases, seconds: float, audiences: Sequence[Audience] = AUDIENCES
) -> list[Row]:
    """One reply for each audience."""
    rows = []
    async with (
        paced_provider() as base_url,
        open_stage(databases, base_url, floor.__name__) as stage,
    ):
        client = await ServerClient.sign_up(stage.server.address, _CONNECTIONS)
        send = client.streams("SendMessage")[0]
        for audience in audiences:
            (conversation_id,) = await client.make_conversations(1)
            watchers = _Watchers(client, conversation_id, audience.watchers)
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
            many = "s" if audience.watchers > 1 else ""
            rows.append(
                Row(
                    *(
                        "watchers",
                        databases.kind,
                        f"{audience.watchers:,} watcher{many} of a reply",
                    ),
                    "µs CPU an event each",
                    (after.cpu - before.cpu) / 1e3 / events,
                    limit=LIMIT if audience is audiences[-1] else None,
                )
            )
    return rows

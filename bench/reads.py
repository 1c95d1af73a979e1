"""What the calls cost that answer once."""

from __future__ import annotations

import asyncio
from typing import Any

from colloquy.api import conversation_service_pb2 as api

from bench import instant
from bench.client import FloorClient, ServerClient
from bench.filling import fill_server
from bench.floors import reads as floor
from bench.processes import Metered
from bench.report import Row, compared
from bench.stage import Databases, open_stage

_WIDE = 8
"""Calls at once."""

_CONVERSATIONS = 60
_EXCHANGES = 30
"""What there is to read: more than a page of each."""


async def measure(databases: Databases, rounds: int, calls: int) -> list[Row]:
    """Floor and server in turn, so many calls of each kind a round."""
    async with (
        instant.serving() as base_url,
        open_stage(databases, base_url, floor.__name__) as stage,
    ):
        client = await ServerClient.sign_up(stage.server.address)
        beside = FloorClient(stage.floor.address)
        conversation_id, *_ = await asyncio.to_thread(
            fill_server, stage.server_url, _CONVERSATIONS, _EXCHANGES
        )
        requests: dict[str, Any] = {
            "GetConversation": api.GetConversationRequest(conversation_id=conversation_id),
            "ListConversations": api.ListConversationsRequest(),
            "ListMessages": api.ListMessagesRequest(conversation_id=conversation_id),
            "ListModels": api.ListModelsRequest(),
            "CreateConversation": api.CreateConversationRequest(title="Bench"),
        }
        ids = f"{client.account_id} {conversation_id}".encode()
        rows = []
        for name, request in requests.items():
            of_server, of_floor = client.answers(name), beside.answers(name)
            servers, floors = [], []
            for number in range(rounds + 1):
                costs = [
                    await _cost(stage.floor, calls, of_floor, ids, None),
                    await _cost(
                        *(stage.server, calls, of_server),
                        *(request.SerializeToString(), client.metadata),
                    ),
                ]
                if number:  # the first round is for what is loaded or compiled at first use
                    floors.append(costs[0])
                    servers.append(costs[1])
            rows.append(compared("reads", databases.kind, name, "ms CPU a call", servers, floors))
        return rows


async def _cost(process: Metered, calls: int, call: Any, request: bytes, metadata: Any) -> float:
    """Milliseconds of CPU a call."""
    left = iter(range(calls))

    async def loop() -> None:
        for _ in left:
            await call(request, metadata=metadata)

    before = await process.read()
    await asyncio.gather(*(loop() for _ in range(_WIDE)))
    after = await process.read()
    return (after.cpu - before.cpu) / 1e6 / calls

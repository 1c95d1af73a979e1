"""Socket Mode: websockets that carry envelopes, each to be acknowledged by its id.

https://docs.slack.dev/apis/events-api/using-socket-mode
"""

from __future__ import annotations

import asyncio
import json
import secrets
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from tests.fakes.slack.delivery import Attempt, Delivery
from tests.fakes.slack.state import Json

if TYPE_CHECKING:
    from tests.fakes.slack.server import SlackDouble

MOST_CONNECTIONS = 10


@dataclass(eq=False)
class Connection:
    socket: web.WebSocketResponse
    pending: dict[str, asyncio.Future[Any]] = field(default_factory=dict)
    """What waits for its acknowledgement, by envelope id."""


class SocketMode:
    """The server's side of all connections of the app."""

    def __init__(self, slack: SlackDouble) -> None:
        self.slack = slack
        self.connections: list[Connection] = []
        self.envelopes: list[Json] = []
        """All that were sent, retries too."""
        self.acks: list[Json] = []
        """All acknowledgements, as they came."""
        self._tickets: set[str] = set()
        self._turn = 0

    def new_url(self) -> str:
        """The address that apps.connections.open answers: it can be used once."""
        ticket = secrets.token_hex(16)
        self._tickets.add(ticket)
        base = self.slack.base_url.replace("http", "ws", 1)
        return f"{base}/link/?ticket={ticket}&app_id={self.slack.app.id}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one connection until it ends."""
        ticket = request.query.get("ticket", "")
        if ticket not in self._tickets:
            return web.Response(status=408)
        self._tickets.discard(ticket)
        socket = web.WebSocketResponse(heartbeat=30)
        await socket.prepare(request)
        if len(self.connections) >= MOST_CONNECTIONS:
            await socket.send_json(self._farewell("too_many_websockets"))
            await socket.close()
            return socket
        connection = Connection(socket)
        self.connections.append(connection)
        try:
            await socket.send_json(self._hello())
            self.slack.recorder.changed()
            async for message in socket:
                if message.type == WSMsgType.TEXT:
                    self._take(connection, message.data)
        finally:
            self._forget(connection)
        return socket

    async def deliver(self, delivery: Delivery, number: int, reason: str) -> Attempt:
        """Send an envelope on one of the connections, each in turn, and wait for its ack."""
        now = self.slack.clock.time()
        if not self.connections:
            return Attempt(now, "connection_failed", "no connection")
        self._turn += 1
        connection = self.connections[self._turn % len(self.connections)]
        envelope: Json = {
            "envelope_id": str(uuid.uuid4()),
            "payload": delivery.payload,
            "type": delivery.kind,
            "accepts_response_payload": delivery.kind != "events_api",
        }
        if delivery.kind == "events_api":
            envelope |= {"retry_attempt": number, "retry_reason": reason}
        ack: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        connection.pending[envelope["envelope_id"]] = ack
        self.envelopes.append(envelope)
        try:
            await connection.socket.send_json(envelope)
        except ConnectionError:
            self._forget(connection)
        deadline = asyncio.ensure_future(self.slack.clock.sleep(self.slack.courier.ack_seconds))
        try:
            await asyncio.wait({ack, deadline}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            deadline.cancel()
            connection.pending.pop(envelope["envelope_id"], None)
        if not ack.done():
            return Attempt(now, "timeout")
        if ack.cancelled():
            return Attempt(now, "connection_failed", "the connection was closed")
        return Attempt(now, "acked", response=ack.result())

    async def disconnect(self, reason: str = "refresh_requested", count: int | None = None) -> None:
        """Tell connections that they end, and end them unless it is only a `warning`.

        Slack does so every few hours. `count`: the oldest so many; None: all.
        """
        for connection in self.connections[:count]:
            await connection.socket.send_json(self._farewell(reason))
            if reason != "warning":
                self._forget(connection)
                # Not waited for: the client answers the close at its leisure.
                self.slack.background(connection.socket.close())

    async def close(self) -> None:
        for connection in list(self.connections):
            self._forget(connection)
            await connection.socket.close()

    def _take(self, connection: Connection, data: str) -> None:
        message = json.loads(data)
        self.acks.append(message)
        ack = connection.pending.pop(message.get("envelope_id", ""), None)
        if ack is not None and not ack.done():
            ack.set_result(message.get("payload"))

    def _forget(self, connection: Connection) -> None:
        if connection in self.connections:
            self.connections.remove(connection)
        for ack in connection.pending.values():
            ack.cancel()
        self.slack.recorder.changed()

    def _hello(self) -> Json:
        return {
            "type": "hello",
            "num_connections": len(self.connections),
            "connection_info": {"app_id": self.slack.app.id},
            "debug_info": {
                "host": "applink-double",
                "build_number": 1,
                "approximate_connection_time": 18060,
            },
        }

    def _farewell(self, reason: str) -> Json:
        return {
            "type": "disconnect",
            "reason": reason,
            "debug_info": {"host": "applink-double"},
        }

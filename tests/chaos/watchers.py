"""Those who look on: raw streams, with the contract's rules checked at every event."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import aiohttp
import grpc
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import conversation_service_pb2_grpc as api_grpc
from colloquy.api import resources_pb2 as resources

from tests.chaos.fleet import Fleet, Replica
from tests.harness import Transcript

WORD = re.compile(r"r(\d+)w(\d+) ")
"""What the provider's double says: the serial of the request, the number of the word."""

_SILENCE = 3.0
"""Seconds without an event, heartbeats included, after which most watchers look elsewhere. The
patient ones hear what a stopped process says when it goes on."""

_TRANSIENT = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)


class StrictTranscript(Transcript):
    """Also: deltas only of what is known, text that never shrinks within an attempt that goes on,
    and which requests to the provider the text of each attempt came from."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[tuple[str, int], dict[int, int]] = {}
        """By (reply, attempt): how many words of which request were seen."""

    def take(self, event: api.ConversationEvent) -> None:
        kind = event.WhichOneof("event")
        if kind == "delta":
            delta = event.delta
            assert delta.message_id in self.messages, "a delta of an unknown message"
            assert delta.text, "a delta without text"
            assert self.messages[delta.message_id].state == resources.Message.STATE_GENERATING
        elif kind == "message":
            new, old = event.message, self.messages.get(event.message.id)
            if (
                old is not None
                and not new.deleted
                and (new.state, new.attempt) == (old.state, old.attempt)
                and new.state == resources.Message.STATE_GENERATING
            ):
                assert new.content.startswith(old.content), "text was taken back"
            if new.deleted:
                assert not new.content, "text of a message that is deleted"
            elif old is not None and old.state > resources.Message.STATE_GENERATING:
                assert not old.deleted, "a message came back that is deleted"
                assert new.state == old.state, "a finished reply changed its state"
                assert new.content == old.content, "a finished reply changed its text"
        super().take(event)
        if kind == "delta":
            self._note(event.delta.message_id, event.delta.attempt, event.delta.text)
        elif kind == "message" and event.message.role == resources.Message.ROLE_ASSISTANT:
            self._note(event.message.id, event.message.attempt, event.message.content)

    def _note(self, message_id: str, attempt: int, text: str) -> None:
        requests = self.seen.setdefault((message_id, attempt), {})
        for serial, index in WORD.findall(text):
            requests[int(serial)] = max(requests.get(int(serial), 0), int(index) + 1)


@dataclass
class Watcher:
    """Follows a conversation from its beginning, from replica to replica."""

    fleet: Fleet
    conversation_id: str
    name: str
    rng: random.Random
    counts: Counter[str]
    problems: list[str]
    is_patient: bool = False
    key: str = ""
    """With which it watches, instead of the fleet's."""
    channel_of: Callable[[Replica], grpc.aio.Channel | None] = attrgetter("channel")
    transcript: StrictTranscript = field(default_factory=StrictTranscript)
    token: str = ""
    is_broken: bool = False
    _recent: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """Until it is cancelled, or sees something that must not be."""
        while not self.is_broken:
            up = [replica for replica in self.fleet.replicas if replica.is_up]
            replica = self.rng.choice(up or self.fleet.replicas)
            channel = self.channel_of(replica)
            assert channel is not None
            self._note(f"-- to {replica.key}")
            stub = api_grpc.ConversationServiceStub(channel)
            call = stub.WatchConversation(
                api.WatchConversationRequest(
                    conversation_id=self.conversation_id, resume_token=self.token
                ),
                metadata=(("authorization", f"Bearer {self.key or self.fleet.key}"),),
            )
            try:
                await self._follow(call)
            except TimeoutError:
                self.counts["streams silent"] += 1
            except grpc.aio.AioRpcError as error:
                self.counts["streams broken"] += 1
                if error.code() not in _TRANSIENT:
                    self._problem(f"its stream ended with {error.code().name}: {error.details()}")
            except (aiohttp.ClientError, EOFError, OSError):  # by HTTP
                self.counts["streams broken"] += 1
            except AssertionError as error:
                self._problem(str(error))
            finally:
                call.cancel()
            await asyncio.sleep(0.1 + 0.6 * self.rng.random())

    async def _follow(self, call: grpc.aio.UnaryStreamCall[Any, Any]) -> None:
        while True:
            async with asyncio.timeout(None if self.is_patient else _SILENCE):
                response: Any = await call.read()
            if response is grpc.aio.EOF:
                raise AssertionError("a watch ended with OK")
            event = response.event
            self._note(_brief(event))
            self.transcript.take(event)
            self.token = event.resume_token

    def _note(self, line: str) -> None:
        self._recent.append(line)
        del self._recent[:-40]

    def _problem(self, what: str) -> None:
        self.is_broken = True
        trail = "\n    ".join(self._recent[-25:])
        self.problems.append(f"{self.name}: {what}; its last events:\n    {trail}")

    def lacks(self, stored: list[resources.Message]) -> str:
        """What its transcript lacks of what is stored; empty when they are the same."""
        held = self.transcript.messages
        for message in stored:
            mine = held.get(message.id)
            if mine is None:
                return f"it never heard of message {message.id}"
            if mine != message:
                return f"it holds of {message.id}\n{mine}but stored is\n{message}"
        kept = {message.id for message in held.values() if not message.deleted}
        extra = kept - {message.id for message in stored}
        return f"it heard of {extra}, which is not stored" if extra else ""


def _brief(event: api.ConversationEvent) -> str:
    kind = event.WhichOneof("event")
    if kind == "delta":
        delta = event.delta
        return f"delta {delta.message_id} #{delta.attempt} @{delta.offset} {delta.text!r}"
    if kind == "message":
        message = event.message
        return (
            f"message {message.id} #{message.attempt} state {message.state}"
            f" {len(message.content)} {message.content[-30:]!r}"
        )
    return str(kind)

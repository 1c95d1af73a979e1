"""Those who talk: through the client library, as people's programs do, to any replica."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from colloquy import AsyncConversationClient, AsyncReply
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy.errors import Busy, ColloquyError, DeadlineExceeded, NotFound, Unavailable

from tests.chaos.fleet import Fleet

RATE = 8.0  # words a second of an answer
_WORDS = (8, 30)
_FAULTY = 0.04
"""The share of prompts whose provider drops the connection each time."""

_AT_ONCE = 3  # requests of one conversation that a talker has open
_SILENCE = 4.0  # seconds
_BOUND = 120.0
"""Seconds for one request to come to its end, whatever happens."""


@dataclass
class Request:
    """A SendMessage or RegenerateReply, and what its caller was told."""

    id: str
    conversation_id: str
    content: str
    words: int = 0
    is_faulty: bool = False
    regenerates: str = ""
    prompt_id: str = ""
    reply_id: str = ""
    final: resources.Message | None = None
    was_refused: bool = False
    """Whether one of its calls ended with an error."""
    is_unwanted: bool = False
    """Whether its prompt is deleted, or will be in a moment."""
    deleted_at: float = float("inf")
    """When the deletion of its prompt was acknowledged."""


@dataclass(frozen=True)
class Cancelled:
    """An acknowledged cancel: the reply as the answer had it."""

    reply: resources.Message
    at: float


@dataclass
class Ledger:
    """What all talkers did, to be compared with what is stored."""

    requests: dict[str, Request] = field(default_factory=dict)
    cancelled: list[Cancelled] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


@asynccontextmanager
async def clients(fleet: Fleet) -> AsyncIterator[list[AsyncConversationClient]]:
    """A client for each replica, and one that uses all of them in turn."""
    addresses = [*fleet.addresses, "ipv4:" + ",".join(fleet.addresses)]
    made = [
        AsyncConversationClient(address, fleet.key, silence=_SILENCE, timeout=5.0, patience=_BOUND)
        for address in addresses
    ]
    try:
        yield made
    finally:
        for client in made:
            await client.close()


@dataclass
class Talker:
    """Talks in one conversation."""

    conversation_id: str
    name: str
    clients: list[AsyncConversationClient]
    rng: random.Random
    ledger: Ledger
    _count: int = 0
    _sent: list[Request] = field(default_factory=list)
    """Requests of which a reply is known, in the order in which they were accepted."""
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self, seconds: float) -> None:
        """Talks for so long, then waits for what is open."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await asyncio.sleep(self.rng.uniform(0.2, 1.5))
            if len(self._open) >= _AT_ONCE:
                await asyncio.wait(self._open, return_when=asyncio.FIRST_COMPLETED)
                continue
            self._begin()
        if self._open:
            await asyncio.wait(self._open)

    def _begin(self) -> None:
        kind = self.rng.choices(
            ("send", "twice", "regenerate", "cancel", "cancel early", "delete"),
            (60, 8, 10, 16, 6, 8),
        )[0]
        kept = [request for request in self._sent if not request.is_unwanted]
        if kind == "regenerate" and kept:
            request = self._new("", regenerates=self.rng.choice(kept[-3:]).reply_id)
        else:
            request = self._new(self._content())
        self._spawn(self._follow(request, self._start(request)))
        if kind == "twice" and not request.regenerates:
            self._spawn(self._follow(request, self._start(request)))
        elif kind == "cancel":
            self._spawn(self._cancel_live(request, self.rng.uniform(0, 2.5)))
        elif kind == "cancel early":
            self._spawn(self._cancel_early(request))
        elif kind == "delete":
            older = self.rng.choice([request, *kept[-3:]])
            self._spawn(self._delete(older, self.rng.uniform(0, 2.5)))

    def _content(self) -> str:
        words = self.rng.randint(*_WORDS)
        answer: dict[str, float] = {"tokens": words, "rate": RATE}
        if self.rng.random() < _FAULTY:
            answer["drop_after"] = self.rng.randint(0, words)
        return json.dumps(answer)

    def _new(self, answer: str, regenerates: str = "") -> Request:
        self._count += 1
        name = f"{self.name}-{self._count}"
        request = Request(name, self.conversation_id, f"{name}: [[{answer}]]")
        if regenerates:
            request.content, request.regenerates = "", regenerates
        else:
            asked = json.loads(answer)
            request.words, request.is_faulty = asked["tokens"], "drop_after" in asked
        self.ledger.requests[name] = request
        return request

    def _client(self) -> AsyncConversationClient:
        return self.rng.choice(self.clients)

    def _start(self, request: Request) -> AsyncReply:
        if request.regenerates:
            self.ledger.counts["regenerates"] += 1
            return self._client().regenerate(
                request.regenerates, request_id=request.id, timeout=_BOUND
            )
        on_busy = self.rng.choices(
            (api.ON_BUSY_ENQUEUE, api.ON_BUSY_INTERRUPT, api.ON_BUSY_REJECT), (80, 14, 6)
        )[0]
        self.ledger.counts["sends"] += 1
        self.ledger.counts["interrupts"] += on_busy == api.ON_BUSY_INTERRUPT
        return self._client().send(
            request.conversation_id,
            request.content,
            request_id=request.id,
            on_busy=on_busy,
            timeout=_BOUND,
        )

    async def _follow(self, request: Request, stream: AsyncReply) -> None:
        held = [""]
        try:
            async with stream:
                async for event in stream:
                    self._take(request, event, held)
        except Busy:
            request.was_refused = True
        except NotFound as error:
            request.was_refused = True
            if not self._is_unwanted(request):
                self.ledger.problems.append(f"{request.id}: {error!r}")
        except (ColloquyError, AssertionError) as error:
            request.was_refused = True
            self.ledger.problems.append(f"{request.id}: {error!r}")

    def _take(self, request: Request, event: api.ConversationEvent, held: list[str]) -> None:
        """One event; `held` is the reply's text by the two rules."""
        kind = event.WhichOneof("event")
        if kind == "accepted":
            message, reply = event.accepted.message, event.accepted.reply
            assert request.prompt_id in ("", message.id), "two prompts for one request"
            assert request.reply_id in ("", reply.id), "two replies for one request"
            if not request.reply_id:
                self._sent.append(request)
            request.prompt_id, request.reply_id = message.id, reply.id
            held[0] = reply.content
        elif kind == "delta":
            assert event.delta.offset == len(held[0]), "a gap or an overlap in the client's stream"
            held[0] += event.delta.text
        elif kind == "message" and event.message.id == request.reply_id:
            reply = event.message
            if reply.deleted:
                assert not reply.content, "text of a message that is deleted"
            elif reply.state == resources.Message.STATE_COMPLETED:
                assert held[0] == reply.content, "the client's deltas are not the final text"
            held[0] = reply.content
            if reply.state > resources.Message.STATE_GENERATING:
                request.final = resources.Message()
                request.final.CopyFrom(reply)

    async def _cancel_live(self, request: Request, pause: float) -> None:
        while not request.reply_id:
            if request.was_refused:
                return
            await asyncio.sleep(0.1)
        await asyncio.sleep(pause)
        await self._cancel(request, message_id=request.reply_id)

    async def _cancel_early(self, request: Request) -> None:
        await self._cancel(request, conversation_id=self.conversation_id, request_id=request.id)

    async def _delete(self, request: Request, pause: float) -> None:
        """Deletes the prompt of a request with all replies to it, until that is acknowledged."""
        while not request.prompt_id:
            if request.was_refused:
                return
            await asyncio.sleep(0.1)
        for each in self._sent:
            each.is_unwanted |= each.prompt_id == request.prompt_id
        await asyncio.sleep(pause)
        deadline = time.monotonic() + _BOUND
        while True:
            try:
                await self._client().delete_message(request.prompt_id)
                break
            except (Unavailable, DeadlineExceeded) as error:
                if time.monotonic() > deadline:
                    self.ledger.problems.append(f"deletion of {request.id}: {error!r}")
                    return
        self.ledger.counts["deletions"] += 1
        request.deleted_at = time.time()

    def _is_unwanted(self, request: Request) -> bool:
        """Whether what a request is about is deleted, or will be in a moment."""
        about = (request.reply_id, request.regenerates)
        return request.is_unwanted or any(
            each.is_unwanted and each.reply_id in about for each in self._sent
        )

    async def _cancel(self, request: Request, **which: str) -> None:
        """Until it is acknowledged, by whichever replica."""
        deadline = time.monotonic() + _BOUND
        while True:
            try:
                reply = await self._client().cancel_reply(**which)
                break
            except (Unavailable, DeadlineExceeded) as error:
                if time.monotonic() > deadline:
                    self.ledger.problems.append(f"cancel of {which}: {error!r}")
                    return
            except ColloquyError as error:
                if isinstance(error, NotFound) and self._is_unwanted(request):
                    return
                self.ledger.problems.append(f"cancel of {which}: {error!r}")
                return
        self.ledger.counts["cancels"] += 1
        if reply is not None:
            self.ledger.cancelled.append(Cancelled(reply, time.time()))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._open.add(task)
        task.add_done_callback(self._open.discard)

"""How long things take for which the server promises a time: beside each stands what is allowed.

Two servers share a Postgres. The provider's text says when it was asked, by the clock of all
processes of this machine.
"""

from __future__ import annotations

import asyncio
import signal
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from colloquy.api import attachment_service_pb2 as attachment_api
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources

from bench import paced
from bench.client import ServerClient
from bench.paced import WrongText
from bench.report import Limit, Row
from bench.stage import Databases, Servers, open_servers, paced_provider
from tests.fakes import samples

_KEPT = Limit(1.0)
"""Of what is allowed."""

_RATE = 50
_LONG = 3_000
"""Tokens of a reply that does not end by itself, a second and in all."""

_QUEUED = 300
_PLACES = 4
"""Replies that wait, and that may be live, where one account fills the queue."""

_TALKS = 5
_TALK_TOKENS = 250
"""Replies that are written while hostile files come."""


@dataclass
class _Setting:
    """Two servers: `near` takes sends, `far` is there for the others. `servers` starts more."""

    servers: Servers
    database_url: str
    near: ServerClient
    far: ServerClient

    async def more(self, **settings: str) -> tuple[Any, ServerClient]:
        """One more server, which may be killed."""
        process = await self.servers.serve(self.database_url, **settings)
        return process, self.near.at(process.address)


class _Reply:
    """A long reply in the middle of its text, and a watch of it at another server."""

    def __init__(self, conversation_id: str, message_id: str, watch: Any) -> None:
        self.conversation_id = conversation_id
        self.id = message_id
        self._watch = watch
        self.attempt = 1

    @classmethod
    async def begin(cls, at: ServerClient, watcher: ServerClient) -> _Reply:
        """Sends at one server; returns when the watch at the other one has text."""
        (conversation_id,) = await watcher.make_conversations(1)
        watch = watcher.stub.WatchConversation(
            api.WatchConversationRequest(conversation_id=conversation_id),
            metadata=watcher.metadata,
        )
        call = at.stub.SendMessage(_prompt(conversation_id, _LONG), metadata=at.metadata)
        message_id = (await call.read()).event.accepted.reply.id
        reply = cls(conversation_id, message_id, watch)
        await reply.text(1)
        call.cancel()
        return reply

    async def text(self, attempt: int) -> str:
        """The first text that comes of an attempt."""
        async for response in self._watch:
            event = response.event
            if event.HasField("delta") and event.delta.attempt == attempt:
                return str(event.delta.text)
        raise WrongText("a watch ended")

    async def cancel(self, at: ServerClient) -> None:
        """Returns when the reply is cancelled. Raises WrongText."""
        request = api.CancelReplyRequest(message_id=self.id)
        message = (await at.stub.CancelReply(request, metadata=at.metadata)).message
        if message.state != resources.Message.STATE_CANCELLED:
            raise WrongText("a cancelled reply is not cancelled")
        self._watch.cancel()


def _prompt(conversation_id: str, tokens: int) -> api.SendMessageRequest:
    orders = paced.orders(0, tokens, _RATE)
    return api.SendMessageRequest(conversation_id=conversation_id, content=orders)


async def _cancel(setting: _Setting) -> float:
    reply = await _Reply.begin(setting.near, setting.far)
    started = time.monotonic_ns()
    await reply.cancel(setting.far)
    return (time.monotonic_ns() - started) / 1e6


async def _cancel_stopped(setting: _Setting) -> float:
    process, client = await setting.more()
    reply = await _Reply.begin(client, setting.far)
    process.send_signal(signal.SIGSTOP)
    started = time.monotonic_ns()
    await reply.cancel(setting.far)
    took = (time.monotonic_ns() - started) / 1e6
    process.send_signal(signal.SIGCONT)
    await process.stop()
    return took


async def _taken_over(setting: _Setting, how: signal.Signals) -> float:
    """From the end of a server to the next one's request to the provider."""
    process, client = await setting.more()
    reply = await _Reply.begin(client, setting.far)
    ended = time.monotonic_ns()
    process.send_signal(how)
    text = await reply.text(2)
    asked = int(text[: paced.CLOCK_DIGITS])
    await reply.cancel(setting.far)
    await process.stop()
    return (asked - ended) / 1e6


async def _handed_over(setting: _Setting) -> float:
    return await _taken_over(setting, signal.SIGTERM)


async def _killed(setting: _Setting) -> float:
    return await _taken_over(setting, signal.SIGKILL)


async def _late_joiner(setting: _Setting) -> float:
    reply = await _Reply.begin(setting.near, setting.near)
    started = time.monotonic_ns()
    watch = setting.far.stub.WatchConversation(
        api.WatchConversationRequest(conversation_id=reply.conversation_id),
        metadata=setting.far.metadata,
    )
    async for response in watch:
        event = response.event
        if event.delta.text or (event.message.content and event.message.id == reply.id):
            break
    took = (time.monotonic_ns() - started) / 1e6
    watch.cancel()
    await reply.cancel(setting.near)
    return took


async def _behind_a_crowd(setting: _Setting) -> float:
    """To the first token, of an account beside one that fills the queue."""
    async with open_servers(Databases("sqlite"), setting.servers.base_url) as (servers, url, _):
        process = await servers.serve(url, MAX_LIVE_REPLIES=str(_PLACES))
        crowd = await ServerClient.sign_up(process.address)
        alone = await ServerClient.sign_up(process.address)
        conversations = await crowd.make_conversations(_QUEUED // 100 + 1)
        for number in range(_QUEUED):
            request = _prompt(conversations[number % len(conversations)], _RATE)
            call = crowd.stub.SendMessage(request, metadata=crowd.metadata)
            await call.read()
            call.cancel()
        (conversation_id,) = await alone.make_conversations(1)
        started = time.monotonic_ns()
        call = alone.stub.SendMessage(_prompt(conversation_id, 3), metadata=alone.metadata)
        async for response in call:
            if response.event.HasField("delta"):
                break
        return (time.monotonic_ns() - started) / 1e6


async def _stall(setting: _Setting) -> float:
    """The 99th percentile of the gaps in other streams while hostile files come and are read."""
    client = setting.near
    gaps: list[float] = []

    async def follow(conversation_id: str) -> None:
        request = _prompt(conversation_id, _TALK_TOKENS)
        last = 0
        async for response in client.stub.SendMessage(request, metadata=client.metadata):
            if response.event.HasField("delta"):
                now = time.monotonic_ns()
                if last:
                    gaps.append((now - last) / 1e6)
                last = now

    conversations = await client.make_conversations(_TALKS + 1)
    talks = [asyncio.create_task(follow(each)) for each in conversations[1:]]
    await asyncio.sleep(2 * paced.THINKING)
    for data, name in ((samples.zip_bomb(), "bomb.docx"), (samples.png(60_000, 60_000), "a.png")):
        try:
            await _upload(client, data, name)
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.INVALID_ARGUMENT:
                raise
    # What was read once is not read again: each time another one.
    marks = str(time.monotonic_ns())
    files = [
        await _upload(client, samples.looping_pdf() + f"%{marks}".encode(), "loop.pdf"),
        await _upload(client, b"<html>" + b"<div>" * 100_000 + marks.encode(), "deep.html"),
        await _upload(client, samples.docx("word " * 50_000 + marks), "long.docx"),
    ]
    request = _prompt(conversations[0], 3)
    request.attachment_ids.extend(files)
    reading = client.stub.SendMessage(request, metadata=client.metadata)
    await reading.read()
    await asyncio.gather(*talks)
    reading.cancel()
    return sorted(gaps)[int(len(gaps) * 0.99)]


async def _upload(client: ServerClient, data: bytes, filename: str) -> str:
    async def parts() -> AsyncIterator[attachment_api.UploadAttachmentRequest]:
        header = attachment_api.UploadAttachmentRequest.Header(filename=filename)
        yield attachment_api.UploadAttachmentRequest(header=header)
        for start in range(0, len(data), 1 << 20):
            yield attachment_api.UploadAttachmentRequest(chunk=data[start : start + (1 << 20)])

    call = client.attachments.UploadAttachment(parts(), metadata=client.metadata)
    return str((await call).attachment.id)


_Measure = Callable[[_Setting], Awaitable[float]]

FULL: tuple[tuple[str, float, _Measure], ...] = (
    ("a cancel of a live reply, at another server", 1_000, _cancel),
    ("a cancel of a reply whose server is stopped", 1_000, _cancel_stopped),
    ("a reply of a server that stops goes on", 1_000, _handed_over),
    ("a reply of a server that was killed goes on", 10_000, _killed),
    ("a late joiner's first text, at another server", 100, _late_joiner),
    (f"the first token behind {_QUEUED} replies of another account", 2_000, _behind_a_crowd),
    ("gaps in streams while hostile files are read, p99", 100, _stall),
)
"""What is measured, and the milliseconds that are allowed."""

QUICK = (FULL[0], FULL[1], FULL[4])


async def measure(
    databases: Databases, rounds: int, promises: tuple[tuple[str, float, _Measure], ...]
) -> list[Row]:
    """The median of some rounds of each. Raises ProcessFailed and WrongText."""
    rows = []
    async with (
        paced_provider() as base_url,
        open_servers(databases, base_url) as (servers, url, _),
    ):
        near = await servers.serve(url)
        far = await servers.serve(url)
        client = await ServerClient.sign_up(near.address)
        setting = _Setting(servers, url, client, client.at(far.address))
        await _cancel(setting)  # what is loaded or compiled at first use
        for what, allowed, promise in promises:
            took = statistics.median([await promise(setting) for _ in range(rounds)])
            rows.append(
                Row(
                    *("promises", databases.kind, f"{what} (beside: allowed)", "ms"),
                    *(took, allowed, took / allowed, _KEPT),
                )
            )
    return rows

"""Whenever a server dies, and however many there are: each event arrives, in order, with one id."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sqlite3
from collections.abc import AsyncIterator

import grpc
import pytest
from aiohttp import web
from colloquy.api import admin_service_pb2 as api
from colloquy.api import conversation_service_pb2 as conversation_api
from colloquy_server.webhooks import deliverer

from tests.fakes.receiver import Arrival, ReceiverDouble, answering, hanging_up, silent
from tests.harness import Caller, Colloquy, eventually
from tests.webhook_process import POINTS, DyingServer

KINDS = [
    api.Webhook.EVENT_TYPE_CONVERSATION_CREATED,
    api.Webhook.EVENT_TYPE_REPLY_COMPLETED,
    api.Webhook.EVENT_TYPE_CONVERSATION_DELETED,
]


@pytest.fixture
async def receiver() -> AsyncIterator[ReceiverDouble]:
    async with ReceiverDouble() as running:
        yield running


async def listen(colloquy: Colloquy, alice: Caller, receiver: ReceiverDouble) -> None:
    """Makes a webhook."""
    request = api.CreateWebhookRequest(
        account_id=alice.account_id, url=receiver.url(), event_types=KINDS
    )
    await colloquy.admin.admin.CreateWebhook(request, metadata=colloquy.admin.metadata)


def name(arrival: Arrival) -> tuple[str, str, str]:
    """What an event is about: of each of these there is one."""
    data = arrival.data
    return (data["conversation_id"], arrival.type, data.get("message_id", ""))


def on_the_way(colloquy: Colloquy) -> int:
    """How many events are in the outbox."""
    with contextlib.closing(sqlite3.connect(colloquy.folder / "conversations.db")) as database:
        return int(database.execute("SELECT count(*) FROM deliveries").fetchone()[0])


def check_ids(receiver: ReceiverDouble) -> None:
    """Each event has one id, and each id is one event's."""
    ids: dict[tuple[str, str, str], set[str]] = {}
    for arrival in receiver.arrivals:
        ids.setdefault(name(arrival), set()).add(arrival.id)
    assert all(len(each) == 1 for each in ids.values())
    assert len(set.union(*ids.values())) == len(ids)


@pytest.mark.timeout(120)
async def test_killed_between_any_two_steps_it_delivers_each_event_in_order_with_one_id(
    home: Colloquy, receiver: ReceiverDouble
) -> None:
    server = DyingServer(
        home,
        WEBHOOK_ALLOW_PRIVATE="1",
        WEBHOOK_TIMEOUT="1",
        WEBHOOK_RETRY_BASE="0.01",
        WEBHOOK_ATTEMPTS="100",
    )
    home.channel = await server.start()
    alice = await home.account()
    await listen(home, alice, receiver)

    async def dying(arrival: Arrival, request: web.Request) -> web.StreamResponse:
        server.send_signal(signal.SIGKILL)
        return await silent(arrival, request)

    conversations = []
    for point in (*POINTS, "posted"):
        conversation = await alice.create()
        conversations.append(conversation.id)
        await receiver.got(3 * len(conversations) - 2)
        await eventually(lambda: asyncio.to_thread(on_the_way, home), 0)
        if point == "posted":  # the receiver has it, and has not answered
            receiver.script.append(dying)
        else:
            server.die_at.write_text(point)
        for is_first in (True, False):  # said again, as the answer may have been cut off
            with contextlib.suppress(grpc.aio.AioRpcError):
                await alice.send(conversation.id, request_id="said").reply()
            if is_first:
                await server.died()
                home.channel = home.far = await server.start()
                alice = alice.at(home)
        request = conversation_api.DeleteConversationRequest(conversation_id=conversation.id)
        await alice.call("DeleteConversation", request)
    taken = await receiver.got(3 * len(conversations))
    for conversation_id in conversations:
        own = [one for one in taken if one.data["conversation_id"] == conversation_id]
        assert [one.type for one in own] == [
            "conversation.created",
            "reply.completed",
            "conversation.deleted",
        ]
    check_ids(receiver)
    await server.end()


@pytest.mark.parametrize("colloquy", ["postgres-2", "sqlite-2"], indirect=True)
async def test_two_replicas_that_deliver_at_once_keep_the_order_of_each_conversation(
    colloquy: Colloquy, receiver: ReceiverDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliverer, "_POLL_INTERVAL", 0.05)
    await colloquy.restart(webhook_allow_private=True, webhook_retry_base=0.001)
    alice = await colloquy.account()
    await listen(colloquy, alice, receiver)

    def wake_all() -> None:
        for app in colloquy.apps:
            app.deliverer._has_work.set()

    for app in colloquy.apps:
        app.db.on_events = wake_all
    chance = random.Random(7)
    faults = [answering(500), hanging_up, answering(204), answering(204)]
    receiver.script = [chance.choice(faults) for _ in range(40)]

    async def talk() -> list[tuple[str, str, str]]:
        conversation = await alice.create()
        replies = [await alice.send(conversation.id).reply() for _ in range(4)]
        return [
            (conversation.id, "conversation.created", ""),
            *((conversation.id, "reply.completed", reply.id) for reply in replies),
        ]

    told = await asyncio.gather(*(talk() for _ in range(4)))
    taken = await receiver.got(20)
    for wanted in told:
        own = [name(one) for one in taken if name(one)[0] == wanted[0][0]]
        assert own == wanted
    check_ids(receiver)

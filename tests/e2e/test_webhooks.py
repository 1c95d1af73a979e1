"""Webhooks: what happens is told to receivers, in order, signed, and without what was said."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from colloquy.api import admin_service_pb2 as api
from colloquy.api import conversation_service_pb2 as conversation_api
from colloquy.api import error_reason_pb2
from colloquy.api import resources_pb2 as resources
from colloquy_server.database.models import Delivery, Quota, Webhook
from colloquy_server.database.repository import cancellation
from colloquy_server.database.transactions import EVERY_ACCOUNT, Session
from colloquy_server.webhooks import addresses, deliverer
from sqlalchemy import func, select, update

from tests.fakes.provider import Answer
from tests.fakes.receiver import ReceiverDouble, answering, endless, hanging_up, silent
from tests.fleets import ALONE, ANY
from tests.harness import TITLE, Caller, Colloquy, eventually, words
from tests.statuses import refused

PROMPT, ANSWER = "the secret question", ["the ", "secret ", "answer"]
FAST = {"webhook_allow_private": True, "webhook_retry_base": 0.001}


@pytest.fixture
async def receiver() -> AsyncIterator[ReceiverDouble]:
    async with ReceiverDouble() as running:
        yield running


async def ask(colloquy: Colloquy, method: str, request: Any) -> Any:
    admin = colloquy.admin
    return await getattr(admin.admin, method)(request, metadata=admin.metadata)


async def webhook(
    colloquy: Colloquy, caller: Caller, url: str, *kinds: api.Webhook.EventType.ValueType
) -> Any:
    request = api.CreateWebhookRequest(account_id=caller.account_id, url=url, event_types=kinds)
    return await ask(colloquy, "CreateWebhook", request)


async def dead_letters(colloquy: Colloquy, caller: Caller, page_size: int = 0) -> list[Any]:
    found: list[Any] = []
    request = api.ListDeadLettersRequest(account_id=caller.account_id, page_size=page_size)
    while True:
        page = await ask(colloquy, "ListDeadLetters", request)
        found.extend(page.deliveries)
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return found


async def count(colloquy: Colloquy, table: type[Any]) -> int:
    def counted(s: Session) -> int:
        return int(s.run(select(func.count()).select_from(table)).scalar_one())

    return await colloquy.app.db.read(EVERY_ACCOUNT, counted)


async def delete(caller: Caller, conversation_id: str) -> None:
    request = conversation_api.DeleteConversationRequest(conversation_id=conversation_id)
    await caller.call("DeleteConversation", request)


def types(arrivals: Iterable[Any]) -> list[str]:
    return [one.type for one in arrivals]


async def test_each_event_is_told_once_in_order_signed_and_without_what_was_said(
    colloquy: Colloquy, receiver: ReceiverDouble
) -> None:
    await colloquy.restart(**FAST, provider_attempts=1)
    alice, bob = await colloquy.account("alice"), await colloquy.account("bob")
    made = await webhook(colloquy, alice, receiver.url())
    others = await webhook(colloquy, bob, receiver.url("/bob"))
    conversation = await alice.create(external_id="project-7", system_prompt=PROMPT)
    await bob.create()
    colloquy.provider.script(Answer(pieces=ANSWER), Answer(status=400), words(100, rate=20))
    reply = await alice.send(conversation.id, PROMPT).reply()
    await receiver.got(3)  # the title has come, too
    failed = await alice.send(conversation.id, PROMPT).reply()
    live, queued = alice.send(conversation.id, PROMPT), alice.send(conversation.id, PROMPT)
    first = (await live.accepted()).reply.id
    second = (await queued.accepted()).reply.id
    await alice.cancel(second)
    await alice.cancel(first)
    await live.reply()
    await delete(alice, conversation.id)

    taken = await receiver.got(7)
    assert sorted(types(taken[1:3])) == ["conversation.titled", "reply.completed"]
    assert types([taken[0], *taken[3:]]) == [
        "conversation.created",
        "reply.failed",
        "reply.cancelled",
        "reply.cancelled",
        "conversation.deleted",
    ]
    told = next(one.data for one in taken if one.type == "reply.completed")
    usage = told.pop("usage")
    assert told == {
        "account_id": alice.account_id,
        "conversation_id": conversation.id,
        "conversation_external_id": "project-7",
        "message_id": reply.id,
        "reply_to": reply.reply_to,
        "state": "COMPLETED",
        "model": "test-model",
        "requested_model": "test-model",
        "finish_reason": "stop",
        "error_reason": "",
    }
    assert usage == {
        "input_tokens": reply.usage.input_tokens,
        "output_tokens": reply.usage.output_tokens,
        "cost_usd": reply.usage.cost_usd,
    }
    assert [one.data["message_id"] for one in taken[3:6]] == [failed.id, second, first]
    assert taken[3].data["error_reason"] == reason_of(failed)
    for one in receiver.taken:
        secret, other = made.secret, others.secret
        if one.path == "/bob":
            secret, other = other, secret
        assert one.is_signed_with(secret)
        assert not one.is_signed_with(other)
        assert one.headers["content-type"] == "application/json"
        for said in (PROMPT, "secret", TITLE):
            assert said.encode() not in one.body
    # Bob's webhook is told of Bob's conversation and of nothing else.
    of_bob = await receiver.got(1, "/bob")
    assert types(of_bob) == ["conversation.created"]
    assert of_bob[0].data["account_id"] == bob.account_id
    assert len({one.id for one in receiver.taken}) == len(receiver.taken)
    assert await eventually(lambda: count(colloquy, Delivery), 0) == 0


def reason_of(message: resources.Message) -> str:
    """The reason of a message's error, without its prefix."""
    name = error_reason_pb2.ErrorReason.Name(message.error.reason)
    return name.removeprefix("ERROR_REASON_")


@ALONE
async def test_a_reply_that_others_end_or_that_ends_before_it_came_is_told(
    colloquy: Colloquy, receiver: ReceiverDouble
) -> None:
    await colloquy.restart(**FAST)
    alice = await colloquy.account()
    await webhook(colloquy, alice, receiver.url(), api.Webhook.EVENT_TYPE_REPLY_CANCELLED)
    conversation = await alice.create()
    colloquy.provider.script(words(100, rate=5), words(100, rate=5))
    accepted = await alice.send(conversation.id).accepted()
    request = conversation_api.DeleteMessageRequest(message_id=accepted.message.id)
    await alice.call("DeleteMessage", request)
    wish = conversation_api.CancelReplyRequest(
        conversation_id=conversation.id, request_id="to come"
    )
    await alice.call("CancelReply", wish)
    unwanted = await alice.send(conversation.id, request_id="to come").reply()
    live = (await alice.send(conversation.id).accepted()).reply.id
    write = colloquy.app.db.write
    await write(alice.account_id, cancellation.cancel, live)
    over = (conversation.id, live, None, "", 1)  # over the head of its owner
    await write(alice.account_id, cancellation.force_cancel, *over)
    taken = await receiver.got(3)
    assert [one.data["message_id"] for one in taken] == [accepted.reply.id, unwanted.id, live]


@ALONE
async def test_only_what_was_asked_for_is_told_and_nothing_after_the_webhook_is_deleted(
    colloquy: Colloquy, receiver: ReceiverDouble
) -> None:
    await colloquy.restart(**FAST)
    alice = await colloquy.account()

    async def features() -> int:
        def read(s: Session) -> int:
            query = select(Quota.features).where(Quota.id == alice.account_id)
            return int(s.run(query).scalar_one())

        return await colloquy.app.db.read(EVERY_ACCOUNT, read)

    assert await features() == 0
    kinds = api.Webhook
    made = [
        await webhook(colloquy, alice, receiver.url("/a"), kinds.EVENT_TYPE_CONVERSATION_DELETED),
        await webhook(colloquy, alice, receiver.url("/b")),
    ]
    assert await features() == 2
    request = api.ListWebhooksRequest(account_id=alice.account_id, page_size=1)
    pages = [await ask(colloquy, "ListWebhooks", request)]
    request.page_token = pages[0].next_page_token
    pages.append(await ask(colloquy, "ListWebhooks", request))
    assert [page.webhooks[0] for page in pages] == [one.webhook for one in made]
    assert [len(one.webhook.event_types) for one in made] == [1, 8]
    await delete(alice, (await alice.create()).id)
    assert types(await receiver.got(1, "/a")) == ["conversation.deleted"]
    assert types(await receiver.got(2, "/b")) == ["conversation.created", "conversation.deleted"]
    for number, one in enumerate(made):
        assert await features() == 2
        await ask(colloquy, "DeleteWebhook", api.DeleteWebhookRequest(webhook_id=one.webhook.id))
        await alice.create()
        assert await count(colloquy, Webhook) == 1 - number
    assert await features() == 0
    assert await count(colloquy, Delivery) == 0
    gone = api.DeleteWebhookRequest(webhook_id=made[0].webhook.id)
    assert (await refused(ask(colloquy, "DeleteWebhook", gone))).reason == "WEBHOOK_NOT_FOUND"


async def test_a_receiver_that_fails_and_lies_gets_each_event_again_with_the_same_id_and_in_order(
    colloquy: Colloquy, receiver: ReceiverDouble
) -> None:
    await colloquy.restart(**FAST, webhook_timeout=2, webhook_attempts=100)
    alice = await colloquy.account()
    made = await webhook(colloquy, alice, receiver.url())
    receiver.script = [
        hanging_up,
        answering(500),
        answering(307, location="/elsewhere"),
        silent,
        answering(404),
        endless,  # it was taken, whatever else it has to say
        answering(500),
    ]
    conversation = await alice.create()
    await delete(alice, conversation.id)
    await receiver.got(1)
    by_type: dict[str, list[Any]] = {}
    for one in receiver.arrivals:
        by_type.setdefault(one.type, []).append(one)
    assert list(by_type) == ["conversation.created", "conversation.deleted"]
    assert not receiver.script
    for same in by_type.values():
        assert len(same) > 1
        assert (len({one.id for one in same}), len({one.body for one in same})) == (1, 1)
    assert all(one.path == "/events" for one in receiver.arrivals)
    assert all(one.is_signed_with(made.secret) for one in receiver.arrivals)
    assert await eventually(lambda: count(colloquy, Delivery), 0) == 0


@ALONE
async def test_a_receiver_that_is_away_or_never_answers_keeps_no_other_waiting(
    colloquy: Colloquy, receiver: ReceiverDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliverer, "_LAST_ATTEMPTS", 0.1)
    await colloquy.restart(**FAST, webhook_timeout=600)
    alice = await colloquy.account()
    receiver.paths["/silent"] = silent
    nobody = ReceiverDouble()
    for url in (receiver.url("/silent"), nobody.url(), receiver.url()):
        await webhook(colloquy, alice, url)
    conversations = [await alice.create() for _ in range(10)]
    await receiver.got(10)
    await receiver.until(lambda: any(one.path == "/silent" for one in receiver.arrivals))
    async with nobody:
        late = await nobody.got(10)
        assert {one.data["conversation_id"] for one in late} == {one.id for one in conversations}
    # The server stops although one of them never answers, and what was on its way is not lost.
    del receiver.paths["/silent"]
    await colloquy.restart(**FAST)
    await receiver.got(10, "/silent")


@ALONE
async def test_what_is_not_taken_becomes_a_dead_letter_and_may_be_tried_again(
    colloquy: Colloquy, receiver: ReceiverDouble
) -> None:
    await colloquy.restart(**FAST, webhook_attempts=2)
    alice = await colloquy.account()
    made = await webhook(colloquy, alice, receiver.url())
    receiver.script = [answering(503), answering(503), answering(410)]
    conversation = await alice.create()
    await delete(alice, conversation.id)

    async def dead() -> int:
        return len(await dead_letters(colloquy, alice, page_size=1))

    assert await eventually(dead, 2) == 2
    await alice.create()  # what comes later goes out
    await receiver.got(1)
    first, second = await dead_letters(colloquy, alice)
    assert (first.attempts, first.last_error) == (2, "The receiver answered 503.")
    assert (second.attempts, second.last_error) == (1, "The receiver answered 410.")
    assert [first.event_type, second.event_type] == [4, 6]
    assert {one.webhook_id for one in (first, second)} == {made.webhook.id}
    for one in (first, second):
        request = api.RetryDeadLetterRequest(delivery_id=one.id)
        assert (await ask(colloquy, "RetryDeadLetter", request)).delivery.id == one.id
        await receiver.took(one.id)
        assert (await refused(ask(colloquy, "RetryDeadLetter", request))).reason == (
            "DELIVERY_NOT_FOUND"
        )
    assert await dead_letters(colloquy, alice) == []


@ANY
async def test_a_receiver_is_left_alone_for_as_long_as_it_asks(
    colloquy: Colloquy, receiver: ReceiverDouble
) -> None:
    await colloquy.restart(**FAST)
    alice = await colloquy.account()
    await webhook(colloquy, alice, receiver.url())
    receiver.script = [answering(429, retry_after="3600")]
    await alice.create()

    async def wait() -> int:
        def read(s: Session) -> int:
            row = s.run(select(Delivery.next_attempt_time, Delivery.create_time)).one()
            return int((row[0] - row[1]) / 3_600_000_000)

        return await colloquy.app.db.read(EVERY_ACCOUNT, read)

    assert await eventually(wait, 1) == 1


@ALONE
async def test_nothing_of_webhooks_outlives_their_account(
    colloquy: Colloquy, receiver: ReceiverDouble
) -> None:
    await colloquy.restart(**FAST, webhook_attempts=1)
    alice = await colloquy.account()
    await webhook(colloquy, alice, receiver.url())
    receiver.script = [answering(500)]
    await alice.create()

    async def dead() -> int:
        return len(await dead_letters(colloquy, alice))

    assert await eventually(dead, 1) == 1
    await ask(colloquy, "DeleteAccount", api.DeleteAccountRequest(account_id=alice.account_id))
    assert (await count(colloquy, Webhook), await count(colloquy, Delivery)) == (0, 0)
    for method, request in (
        ("ListWebhooks", api.ListWebhooksRequest(account_id=alice.account_id)),
        ("ListDeadLetters", api.ListDeadLettersRequest(account_id=alice.account_id)),
    ):
        assert (await refused(ask(colloquy, method, request))).reason == "ACCOUNT_NOT_FOUND"
    refusal = await refused(webhook(colloquy, alice, receiver.url()))
    assert refusal.reason == "ACCOUNT_NOT_FOUND"


# --- addresses inside -----------------------------------------------------------------------------


@ANY
async def test_an_address_inside_or_without_tls_is_refused(
    colloquy: Colloquy, alice: Caller
) -> None:
    for url in (
        "http://93.184.215.14/events",
        "https://127.0.0.1/events",
        "https://localhost/events",
        "https://2130706433/events",
        "https://[::ffff:10.0.0.1]/events",
        "https://169.254.169.254/latest/meta-data",
        "https://me:password@93.184.215.14/events",
        "https://93.184.215.14:0/events",
        "https:///events",
        "https://[::1",
        "ftp://93.184.215.14/",
    ):
        refusal = await refused(webhook(colloquy, alice, url))
        assert (refusal.status, list(refusal.fields)) == ("INVALID_ARGUMENT", ["url"]), url


@ANY
async def test_a_name_that_later_leads_inside_is_not_connected_to(
    colloquy: Colloquy, receiver: ReceiverDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ["93.184.215.14"]

    async def look_up(_host: str, _port: int) -> list[tuple[socket.AddressFamily, str]]:
        return [(socket.AF_INET, address) for address in found]

    monkeypatch.setattr(addresses, "look_up", look_up)
    await colloquy.restart(webhook_attempts=1)
    alice = await colloquy.account()
    await webhook(colloquy, alice, f"https://rebound.example:{receiver.port}/events")
    found[:] = ["93.184.215.14", "127.0.0.1"]
    await alice.create()

    async def errors() -> list[str]:
        return [one.last_error for one in await dead_letters(colloquy, alice)]

    wanted = ["The receiver's address is not one of the public internet."]
    assert await eventually(errors, wanted) == wanted
    # Nor is what is an address already, by whatever way it came into the database.
    inside = update(Webhook).values(url=f"https://127.0.0.1:{receiver.port}/events")
    await colloquy.app.db.write(EVERY_ACCOUNT, lambda s: s.run(inside))
    (letter,) = await dead_letters(colloquy, alice)
    request = api.RetryDeadLetterRequest(delivery_id=letter.id)
    await ask(colloquy, "RetryDeadLetter", request)
    assert await eventually(errors, wanted) == wanted
    assert not receiver.arrivals

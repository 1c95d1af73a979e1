"""The audit trail: who did what, and who was refused."""

from __future__ import annotations

import asyncio
import itertools
import signal
from typing import Any

import pytest
from colloquy.api import admin_service_pb2 as api
from colloquy.api import conversation_service_pb2 as conversation_api
from colloquy.api import resources_pb2 as resources
from colloquy.api import session_service_pb2 as session_api
from colloquy_server.api.audit import AUDITED
from colloquy_server.database.models import Delivery, Period, Unit, Webhook, db_now
from colloquy_server.database.repository import access, audit, budgets, conversations, outbox
from colloquy_server.database.transactions import (
    EVERY_ACCOUNT,
    Database,
    DatabaseUnavailable,
    Session,
)
from colloquy_server.errors import ColloquyError
from google.protobuf.field_mask_pb2 import FieldMask
from sqlalchemy import text, update

from tests.fleets import ALONE, ANY
from tests.harness import ADMIN_KEY, PROVISIONING_KEY, Caller, Colloquy, ServerProcess, eventually
from tests.statuses import refused
from tests.uploads import count

SECRET_TITLE = "a title that says what it is about"
SECRET_CONTENT = "what nobody else should read"
SECRET_NAME = "Mia of the secret service"


async def ask(colloquy: Colloquy, method: str, request: Any) -> Any:
    admin = colloquy.admin
    return await getattr(admin.admin, method)(request, metadata=admin.metadata)


async def events(colloquy: Colloquy, account_id: str = "", page_size: int = 200) -> list[Any]:
    """All events, the oldest first."""
    found: list[Any] = []
    request = api.ListAuditEventsRequest(account_id=account_id, page_size=page_size)
    while True:
        page = await ask(colloquy, "ListAuditEvents", request)
        found.extend(page.audit_events)
        if not page.next_page_token:
            return found[::-1]
        request.page_token = page.next_page_token


async def noted(colloquy: Colloquy, *actions: str) -> list[Any]:
    """Waits until there are so many events of these actions; returns them, in this order."""

    async def found() -> bool:
        seen = [event.action for event in await events(colloquy)]
        return all(seen.count(action) >= actions.count(action) for action in actions)

    assert await eventually(found, True)
    return [event for event in await events(colloquy) if event.action in actions]


async def member(colloquy: Colloquy, account_id: str) -> Caller:
    user = resources.User(external_id="mia", display_name=SECRET_NAME)
    return await colloquy.key(account_id, api.ApiKey.ROLE_MEMBER, user=user)


async def test_administration_and_deletions_are_noted_with_who_did_them(
    colloquy: Colloquy,
) -> None:
    account = (await ask(colloquy, "CreateAccount", api.CreateAccountRequest(name="A"))).account
    made = await ask(
        colloquy,
        "CreateApiKey",
        api.CreateApiKeyRequest(
            account_id=account.id,
            name=SECRET_NAME,
            role=api.ApiKey.ROLE_MEMBER,
            user=resources.User(external_id="mia", display_name=SECRET_NAME),
        ),
    )
    key = made.api_key
    mia = Caller(colloquy.channel, made.secret, account.id, colloquy.far)
    conversation = await mia.create(title=SECRET_TITLE)
    await mia.call(
        "DeleteConversation",
        conversation_api.DeleteConversationRequest(conversation_id=conversation.id.upper()),
    )
    await ask(colloquy, "UpdateAccount", api.UpdateAccountRequest(account_id=account.id))
    for _ in range(2):  # the second time there is nothing to do
        await ask(colloquy, "RevokeApiKey", api.RevokeApiKeyRequest(api_key_id=key.id))
    await ask(colloquy, "DeleteAccount", api.DeleteAccountRequest(account_id=account.id))
    platform = ("platform", "", "")
    of_mia = ("member", key.user.id, key.id)
    found = await events(colloquy, account.id)
    told = [
        (e.action, e.target_id, (e.actor, e.user_id, e.api_key_id))
        for e in found
        if e.action != "SignIn"
    ]
    assert told == [
        ("CreateAccount", account.id, platform),
        ("CreateApiKey", key.id, platform),
        ("DeleteConversation", conversation.id, of_mia),
        ("UpdateAccount", account.id, platform),
        ("RevokeApiKey", key.id, platform),
        ("DeleteAccount", account.id, platform),
    ]
    assert {(e.account_id, e.address, e.refusal) for e in found} == {(account.id, "127.0.0.1", "")}
    times = [e.time.ToMicroseconds() for e in found]
    assert times == sorted(times)
    whole = str(await events(colloquy))
    for secret in (SECRET_TITLE, SECRET_NAME, ADMIN_KEY, made.secret):
        assert secret not in whole


@ALONE
async def test_an_event_is_there_exactly_if_the_thing_was_done(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = await alice.create()
    request = conversation_api.DeleteConversationRequest(conversation_id=conversation.id)

    class Undone(ColloquyError):
        """Not this time."""

    finish = Session.complete

    def complete(session: Session) -> None:
        if session.account_id == alice.account_id:
            raise Undone
        finish(session)

    monkeypatch.setattr(Session, "complete", complete)
    await refused(alice.call("DeleteConversation", request))
    monkeypatch.setattr(Session, "complete", finish)
    assert not [e for e in await events(colloquy) if e.action == "DeleteConversation"]
    await alice.call("DeleteConversation", request)
    await refused(alice.call("DeleteConversation", request))  # it is not found
    assert len([e for e in await events(colloquy) if e.action == "DeleteConversation"]) == 1


@ALONE
async def test_an_account_that_was_there_was_not_made(colloquy: Colloquy) -> None:
    for _ in range(2):
        await ask(
            colloquy, "CreateAccount", api.CreateAccountRequest(name="A", external_id="slack:T1")
        )
    assert [e.action for e in await noted(colloquy, "CreateAccount")] == ["CreateAccount"]


async def test_events_are_listed_newest_first_page_by_page_by_account(
    colloquy: Colloquy,
) -> None:
    callers = [await colloquy.account(f"{n}") for n in range(3)]
    for caller in callers:
        await colloquy.key(caller.account_id)
    made = await noted(colloquy, *["CreateApiKey"] * 6, "SignIn")
    assert len(made) == 7
    every = await events(colloquy)
    assert await events(colloquy, page_size=2) == every
    order = [(e.time.ToMicroseconds(), e.id) for e in every]
    assert order == sorted(order)
    for caller in callers:
        own = await events(colloquy, caller.account_id, page_size=1)
        assert own == [e for e in every if e.account_id == caller.account_id]
        assert [e.action for e in own] == ["CreateAccount", "CreateApiKey", "CreateApiKey"]


@ANY
async def test_only_the_platform_reads_it(colloquy: Colloquy, alice: Caller) -> None:
    request = api.ListAuditEventsRequest(account_id=alice.account_id)
    refusal = await refused(alice.admin.ListAuditEvents(request, metadata=alice.metadata))
    assert refusal.status == "PERMISSION_DENIED"
    bad = api.ListAuditEventsRequest(account_id="x")
    assert list((await refused(ask(colloquy, "ListAuditEvents", bad))).fields) == ["account_id"]
    bad = api.ListAuditEventsRequest(page_token="x")
    assert list((await refused(ask(colloquy, "ListAuditEvents", bad))).fields) == ["page_token"]


@ANY
async def test_a_sign_in_is_noted_once_and_not_each_call(colloquy: Colloquy) -> None:
    alice = await colloquy.account()
    mia = await member(colloquy, alice.account_id)
    for _ in range(3):
        await alice.create()
        await mia.create()
    found = await noted(colloquy, *["SignIn"] * 3)
    await colloquy.stop()  # nothing waits any more
    await colloquy.start()
    assert [e.actor for e in found] == ["platform", "service", "member"]
    assert [bool(e.user_id) for e in found] == [False, False, True]
    assert len([e for e in await events(colloquy) if e.action == "SignIn"]) == 3


@ANY
async def test_refusals_are_noted_once_however_often_they_come(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = itertools.count()
    write = type(colloquy.app.db).write

    async def counting(self: Database, *args: Any, **kwargs: Any) -> Any:
        next(written)
        return await write(self, *args, **kwargs)

    bad = Caller(colloquy.channel, "colloquy_bad")
    for n in range(200):
        stranger = Caller(colloquy.channel, f"colloquy_guess_{n}")
        assert (await refused(stranger.create())).status == "UNAUTHENTICATED"
        if n == 0:
            monkeypatch.setattr(type(colloquy.app.db), "write", counting)
    assert (await refused(bad.conversation("x"))).status == "UNAUTHENTICATED"
    mia = await member(colloquy, alice.account_id)
    author = resources.User(external_id="somebody else")
    for _ in range(20):
        stream = mia.send("01890000-0000-7000-8000-000000000000", author=author)
        assert (await refused(stream)).status == "PERMISSION_DENIED"
        await refused(mia.admin.ListAccounts(api.ListAccountsRequest(), metadata=mia.metadata))
    await colloquy.stop()
    await colloquy.start()
    assert next(written) < 10, "a bad call costs no write"
    found = [e for e in await events(colloquy) if e.refusal]
    assert [(e.action, e.refusal, e.actor) for e in found] == [
        ("CreateConversation", "UNAUTHENTICATED", ""),
        ("SendMessage", "PERMISSION_DENIED", "member"),
        ("ListAccounts", "PERMISSION_DENIED", "member"),
    ]
    assert [e.account_id for e in found] == ["", alice.account_id, alice.account_id]
    assert {e.address for e in found} == {"127.0.0.1"}


async def test_what_waits_is_stored_when_a_server_stops_and_each_event_is_a_line_of_the_log(
    colloquy: Colloquy,
) -> None:
    alice = await colloquy.account()
    await colloquy.stop()
    server = ServerProcess(colloquy)
    channel = await server.start()
    near = alice.on(channel)
    conversation = await near.create(title=SECRET_TITLE)
    await near.call(
        "DeleteConversation",
        conversation_api.DeleteConversationRequest(conversation_id=conversation.id),
    )
    assert (await refused(Caller(channel, "bad").create())).status == "UNAUTHENTICATED"
    assert await server.end(signal.SIGTERM) == 0
    lines = await server.logged("audit", 3)
    await colloquy.start()
    stored = [e for e in await events(colloquy) if e.account_id == alice.account_id or e.refusal][
        -3:
    ]
    wanted = ["SignIn", "DeleteConversation", "CreateConversation"]
    assert sorted(e.action for e in stored) == sorted(wanted)
    assert [line["action"] for line in lines] == wanted
    assert lines[1]["target_id"] == conversation.id
    assert lines[1]["account_id"] == alice.account_id
    assert lines[2]["refusal"] == "UNAUTHENTICATED"
    assert not [line for line in server.lines if SECRET_TITLE in line]


@ALONE
async def test_events_that_could_not_be_stored_are_stored_once_later(
    colloquy: Colloquy, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = type(colloquy.app.db).write
    failed = asyncio.Event()

    async def away(self: Database, account: str, fn: Any, *args: Any, **kwargs: Any) -> Any:
        result = await write(self, account, fn, *args, **kwargs)
        if fn.__module__.endswith("repository.audit"):
            failed.set()
            raise DatabaseUnavailable  # and nobody knows that it was stored
        return result

    monkeypatch.setattr(type(colloquy.app.db), "write", away)
    assert (await refused(Caller(colloquy.channel, "bad").create())).status == "UNAUTHENTICATED"
    await failed.wait()
    monkeypatch.setattr(type(colloquy.app.db), "write", write)
    await colloquy.stop()
    await colloquy.start()
    assert len([e for e in await events(colloquy) if e.refusal]) == 1


@ANY
async def test_events_that_cannot_be_stored_hold_up_no_others(
    colloquy: Colloquy, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = audit.add
    failed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def broken(_: Session, events: list[audit.Event]) -> None:
        loop.call_soon_threadsafe(failed.set)
        raise ValueError

    monkeypatch.setattr(audit, "add", broken)
    assert (await refused(Caller(colloquy.channel, "bad").create())).status == "UNAUTHENTICATED"
    await failed.wait()
    monkeypatch.setattr(audit, "add", add)
    alice = await colloquy.account()
    await alice.create()
    assert [e.actor for e in await noted(colloquy, "SignIn", "SignIn")] == ["platform", "service"]


async def test_old_events_are_removed_and_no_others(colloquy: Colloquy, alice: Caller) -> None:
    day = 86_400_000_000

    def age(s: Session) -> None:
        s.execute(text(f"UPDATE audit_events SET time = time - {500 * day}"))

    await colloquy.app.db.write(EVERY_ACCOUNT, age)
    await colloquy.stop()
    await colloquy.start(audit_retention_days=600)
    made = ["CreateAccount", "CreateApiKey"]
    assert [e.action for e in await events(colloquy, alice.account_id)] == made
    await colloquy.restart(audit_retention_days=499)
    bob = await colloquy.account("bob")

    async def left() -> list[Any]:
        return await events(colloquy, alice.account_id)

    assert await eventually(left, []) == []
    assert [e.action for e in await events(colloquy, bob.account_id)] == made


@ALONE
async def test_a_call_without_an_event_of_its_own_adds_none(
    colloquy: Colloquy, alice: Caller
) -> None:
    """What the server does by itself is nobody's call."""
    made = await colloquy.app.db.write(EVERY_ACCOUNT, access.create_account, "B", None)
    assert made.id not in {e.target_id for e in await events(colloquy)}
    conversation = await alice.create()
    await colloquy.app.db.write(alice.account_id, conversations.delete, conversation.id)
    assert "DeleteConversation" not in {e.action for e in await events(colloquy)}
    assert await count(colloquy, "conversations") == [0]


async def test_every_audited_call_is_noted_once_with_its_actor_and_no_content(
    colloquy: Colloquy,
) -> None:
    def by(caller: Caller, stub: str, method: str, request: Any) -> Any:
        return getattr(getattr(caller, stub), method)(request, metadata=caller.metadata)

    provisioning = Caller(colloquy.channel, PROVISIONING_KEY)
    account = (
        await by(provisioning, "admin", "CreateAccount", api.CreateAccountRequest(name="A"))
    ).account
    users = [
        resources.User(external_id=name, display_name=f"{SECRET_NAME} {name}")
        for name in ("mia", "tom")
    ]
    made = [
        await by(
            provisioning,
            "admin",
            "CreateApiKey",
            api.CreateApiKeyRequest(account_id=account.id, name=SECRET_NAME, role=role, user=user),
        )
        for role, user in (
            *((api.ApiKey.ROLE_MEMBER, user) for user in users),
            (api.ApiKey.ROLE_SERVICE, None),
        )
    ]
    mia, tom, service = (
        Caller(colloquy.channel, key.secret, account.id, colloquy.far) for key in made
    )
    mias, toms, services = (key.api_key for key in made)
    session_id = await colloquy.session(mia)
    conversation = await mia.create(title=SECRET_TITLE)
    stream = mia.send(conversation.id, SECRET_CONTENT)
    prompt = (await stream.accepted()).message
    await stream.rest()
    changed = resources.Conversation(
        id=conversation.id, visibility=resources.Conversation.VISIBILITY_PARTICIPANTS
    )
    webhook = await by(
        colloquy.admin,
        "admin",
        "CreateWebhook",
        api.CreateWebhookRequest(
            account_id=account.id,
            url="https://93.184.215.14/",
            event_types=[api.Webhook.EVENT_TYPE_BUDGET_WARNING],
        ),
    )

    def give_up(s: Session) -> str:
        outbox.record(s, account.id, "budget.warning", "", {})
        s.run(update(Webhook).values(url="https://203.0.113.1/"))  # for documentation: nowhere
        dead = update(Delivery).values(dead_time=db_now()).returning(Delivery.id)
        return str(s.run(dead).scalar_one())

    dead_letter = await colloquy.app.db.write(EVERY_ACCOUNT, give_up)
    set_before = (account.id, "", "", "", Period.DAY, Unit.REPLIES, 10, list)
    budget = await colloquy.app.db.write(EVERY_ACCOUNT, budgets.set_budget, *set_before)
    calls: list[tuple[Caller, str, str, Any, str]] = [
        (
            mia,
            "conversations",
            "UpdateConversation",
            conversation_api.UpdateConversationRequest(
                conversation=changed, update_mask=FieldMask(paths=["visibility"])
            ),
            conversation.id,
        ),
        (
            mia,
            "conversations",
            "AddParticipants",
            conversation_api.AddParticipantsRequest(
                conversation_id=conversation.id, users=[users[1]]
            ),
            conversation.id,
        ),
        (
            mia,
            "conversations",
            "RemoveParticipant",
            conversation_api.RemoveParticipantRequest(
                conversation_id=conversation.id, user_id=toms.user.id
            ),
            conversation.id,
        ),
        (
            mia,
            "conversations",
            "DeleteMessage",
            conversation_api.DeleteMessageRequest(message_id=prompt.id),
            prompt.id,
        ),
        (
            mia,
            "conversations",
            "DeleteConversation",
            conversation_api.DeleteConversationRequest(conversation_id=conversation.id),
            conversation.id,
        ),
        (
            mia,
            "sessions",
            "RevokeSession",
            session_api.RevokeSessionRequest(session_id=session_id),
            session_id,
        ),
        (
            service,
            "sessions",
            "CreateSignInLink",
            session_api.CreateSignInLinkRequest(user=resources.User(external_id="mia")),
            mias.user.id,
        ),
        (
            tom,
            "admin",
            "RevokeApiKey",
            api.RevokeApiKeyRequest(api_key_id=toms.id),
            toms.id,
        ),
        (
            colloquy.admin,
            "admin",
            "UpdateAccount",
            api.UpdateAccountRequest(account_id=account.id),
            account.id,
        ),
        (
            colloquy.admin,
            "admin",
            "RetryDeadLetter",
            api.RetryDeadLetterRequest(delivery_id=dead_letter),
            dead_letter,
        ),
        (
            colloquy.admin,
            "admin",
            "ExportUser",
            api.ExportUserRequest(user_id=mias.user.id),
            mias.user.id,
        ),
        (
            colloquy.admin,
            "admin",
            "SetBudget",
            api.SetBudgetRequest(
                account_id=account.id,
                period=resources.Budget.PERIOD_DAY,
                unit=resources.Budget.UNIT_REPLIES,
                limit=20,
            ),
            budget.id,
        ),
        (
            colloquy.admin,
            "admin",
            "DeleteWebhook",
            api.DeleteWebhookRequest(webhook_id=webhook.webhook.id),
            webhook.webhook.id,
        ),
        (
            colloquy.admin,
            "admin",
            "DeleteBudget",
            api.DeleteBudgetRequest(budget_id=budget.id),
            budget.id,
        ),
        (
            colloquy.admin,
            "admin",
            "DeleteUser",
            api.DeleteUserRequest(user_id=mias.user.id),
            mias.user.id,
        ),
        (
            colloquy.admin,
            "admin",
            "DeleteAccount",
            api.DeleteAccountRequest(account_id=account.id),
            account.id,
        ),
    ]
    for caller, stub, method, request, _ in calls:
        call = by(caller, stub, method, request)
        if method == "ExportUser":
            assert [answer async for answer in call]
        else:
            await call
    who = {
        mia: ("member", mias.user.id, mias.id),
        tom: ("member", toms.user.id, toms.id),
        service: ("service", "", services.id),
    }
    wanted = [
        ("CreateAccount", account.id, ("provisioning", "", "")),
        ("CreateApiKey", mias.id, ("provisioning", "", "")),
        ("CreateApiKey", toms.id, ("provisioning", "", "")),
        ("CreateApiKey", services.id, ("provisioning", "", "")),
        ("CreateWebhook", webhook.webhook.id, ("platform", "", "")),
        *(
            (method, target, who.get(caller, ("platform", "", "")))
            for caller, _, method, _, target in calls
        ),
    ]
    assert {action for action, *_ in wanted} == set(AUDITED), "say how each audited call is made"
    for _ in range(2):
        found = [e for e in await events(colloquy, account.id) if e.action != "SignIn"]
        told = [(e.action, e.target_id, (e.actor, e.user_id, e.api_key_id)) for e in found]
        # At once, in the transaction that did it: a kill takes none away. And not once more later.
        assert told == wanted
        await colloquy.restart()
    whole = str(await events(colloquy))
    keys = (PROVISIONING_KEY, made[0].secret, webhook.secret)
    for secret in (SECRET_TITLE, SECRET_NAME, SECRET_CONTENT, *keys):
        assert secret not in whole

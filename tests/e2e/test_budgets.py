"""Budgets: no reply is accepted beyond one, and each end gives back what was reserved for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy_server.database.models import Feature
from colloquy_server.database.repository import outbox
from colloquy_server.database.transactions import Session
from colloquy_server.replies.budget_sweep import BudgetSweep

from tests.books import (
    DAY,
    MONTH,
    TOKENS,
    USD,
    ask,
    balanced,
    budget_of,
    budgets_of,
    change,
    forgotten,
    set_budget,
    settled,
    stored,
    total,
    usage_of,
)
from tests.e2e.talk import hold
from tests.fakes.provider import Answer
from tests.fleets import ALONE, ANY
from tests.harness import Caller, Colloquy, eventually
from tests.statuses import Refusal, read, refused

AT_ONCE = 50
LIMIT = 10


def is_over(refusal: Refusal, subject: str) -> None:
    """Checks that a call was refused for a budget of a day, of this subject."""
    found = (refusal.status, refusal.reason, refusal.quota)
    assert found == ("RESOURCE_EXHAUSTED", "BUDGET_EXCEEDED", (subject,))
    assert refusal.retry_delay is not None
    assert 0 < refusal.retry_delay <= 86_400


async def member(colloquy: Colloquy, alice: Caller, name: str) -> tuple[Caller, resources.User]:
    """A member's key, and who it is for."""
    user = resources.User(external_id=name)
    key = await colloquy.key(alice.account_id, admin_api.ApiKey.ROLE_MEMBER, user=user)
    return key, (await key.create(title="Titled")).creator


# --- accepting ------------------------------------------------------------------------------------


async def test_of_many_sends_at_once_as_many_are_accepted_as_there_may_be(
    colloquy: Colloquy, alice: Caller
) -> None:
    await set_budget(colloquy, alice, LIMIT)
    callers = [alice.on(colloquy.channel), alice.on(colloquy.far or colloquy.channel)]
    talks = [(await alice.create(title="Titled")).id for _ in range(AT_ONCE)]
    results = await asyncio.gather(
        *(callers[n % 2].send(talk, f"Prompt {n}").reply() for n, talk in enumerate(talks)),
        return_exceptions=True,
    )
    failed = [result for result in results if isinstance(result, grpc.aio.AioRpcError)]
    done = [result for result in results if isinstance(result, resources.Message)]
    assert (len(done), len(failed)) == (LIMIT, AT_ONCE - LIMIT)
    for error in failed:
        is_over(read(error), f"account:{alice.account_id}")
    assert len(colloquy.provider.reply_requests) == LIMIT
    budget = await budget_of(colloquy, alice)
    assert (budget.limit, budget.used, budget.reserved) == (LIMIT, LIMIT, 0)
    await settled(colloquy)


@ALONE
async def test_all_budgets_that_apply_must_hold_and_others_are_not_asked(
    colloquy: Colloquy, alice: Caller
) -> None:
    mia, user = await member(colloquy, alice, "mia")
    noah, _ = await member(colloquy, alice, "noah")
    talk = await alice.create(title="Titled")
    key_id = (await stored(colloquy, "SELECT id FROM api_keys WHERE role = 2"))[0][0]
    wide = await set_budget(colloquy, alice, 100, period=MONTH)
    narrow = {
        f"user:{user.id}": await set_budget(colloquy, alice, 0, user_id=user.id),
        f"api_key:{key_id}": await set_budget(colloquy, alice, 0, api_key_id=key_id.upper()),
        "model:other-model": await set_budget(colloquy, alice, 0, model="other-model"),
    }
    reply = await noah.send(talk.id).reply()
    is_over(await refused(mia.send(talk.id)), f"user:{user.id}")
    is_over(await refused(alice.send(talk.id)), f"api_key:{key_id}")
    is_over(await refused(noah.regenerate(reply.id, model="other-model")), "model:other-model")
    # Who asks anew pays, not who asked first.
    is_over(await refused(mia.regenerate(reply.id)), f"user:{user.id}")
    for budget in narrow.values():
        request = admin_api.DeleteBudgetRequest(budget_id=budget.id)
        await ask(colloquy, "DeleteBudget", request)
    await mia.regenerate(reply.id).reply()
    assert (await budget_of(colloquy, alice)).id == wide.id
    assert (await budget_of(colloquy, alice)).used == 2
    (of_mia,) = await usage_of(colloquy, alice, user_id=user.id)
    assert of_mia.replies == 1
    await settled(colloquy)


@ALONE
async def test_a_request_that_was_accepted_before_is_found_at_a_full_budget_and_costs_nothing(
    colloquy: Colloquy, alice: Caller
) -> None:
    await set_budget(colloquy, alice, 2)
    talk = await alice.create(title="Titled")
    done = await alice.send(talk.id, request_id="first").reply()
    again = await alice.regenerate(done.id, request_id="again").reply()
    is_over(await refused(alice.send(talk.id)), f"account:{alice.account_id}")
    is_over(await refused(alice.regenerate(done.id)), f"account:{alice.account_id}")
    assert (await alice.send(talk.id, request_id="first").reply()).id == done.id
    assert (await alice.regenerate(done.id, request_id="again").reply()).id == again.id
    assert (await budget_of(colloquy, alice)).used == 2


@ALONE
@pytest.mark.parametrize("unit", [TOKENS, USD])
async def test_a_small_budget_lets_one_reply_through_at_a_time_until_it_is_used_up(
    colloquy: Colloquy, alice: Caller, unit: resources.Budget.Unit.ValueType
) -> None:
    # A reply is expected to have 500 tokens, and has 20 and a prompt's.
    limit = 60 if unit == TOKENS else 0.0001
    await set_budget(colloquy, alice, limit, unit=unit)
    talks = [(await alice.create(title="Titled")).id for _ in range(2)]
    held = await hold(colloquy, alice, talks[0])
    assert (await budget_of(colloquy, alice)).reserved == limit
    is_over(await refused(alice.send(talks[1])), f"account:{alice.account_id}")
    held.gate.set()
    await held.stream.reply()
    budget = await budget_of(colloquy, alice)
    used = await total(colloquy, alice)
    tokens = used.input_tokens + used.output_tokens
    assert limit > budget.used == (tokens if unit == TOKENS else used.cost_usd) > 0
    assert budget.reserved == 0
    while (await budget_of(colloquy, alice)).used < limit:
        await alice.send(talks[1]).reply()
    is_over(await refused(alice.send(talks[1])), f"account:{alice.account_id}")
    await settled(colloquy)


@ANY
async def test_of_nothing_nothing_is_let_through_not_even_what_costs_nothing(
    colloquy: Colloquy, alice: Caller
) -> None:
    await set_budget(colloquy, alice, 0, unit=USD)
    talk = await alice.create(title="Titled", model="small-model")
    is_over(await refused(alice.send(talk.id)), f"account:{alice.account_id}")
    await set_budget(colloquy, alice, 1e12, unit=USD)
    await alice.send(talk.id).reply()
    budget = await budget_of(colloquy, alice)
    assert (budget.limit, budget.used) == (1e12, 0)


# --- ends -----------------------------------------------------------------------------------------

End = Callable[[Colloquy, Caller, str], Awaitable[int]]
"""Makes replies in a conversation and ends them; returns how many of them had begun."""


async def _complete(colloquy: Colloquy, caller: Caller, talk: str) -> int:
    await caller.send(talk).reply()
    return 1


async def _fail(colloquy: Colloquy, caller: Caller, talk: str) -> int:
    colloquy.provider.script(Answer(status=401))
    assert (await caller.send(talk).reply()).state == resources.Message.STATE_FAILED
    return 1


async def _cancel(colloquy: Colloquy, caller: Caller, talk: str) -> int:
    held = await hold(colloquy, caller, talk)
    waiting = (await caller.send(talk).accepted()).reply
    await caller.cancel(waiting.id)
    assert (await budget_of(colloquy, caller)).reserved == 1
    await caller.cancel(held.id)
    return 1


async def _cancel_before(colloquy: Colloquy, caller: Caller, talk: str) -> int:
    request = api.CancelReplyRequest(conversation_id=talk, request_id="to come")
    await caller.call("CancelReply", request)
    await caller.send(talk, request_id="to come").reply()
    return 0


async def _interrupt(colloquy: Colloquy, caller: Caller, talk: str) -> int:
    held = await hold(colloquy, caller, talk)
    await caller.send(talk, on_busy=api.ON_BUSY_INTERRUPT).reply()
    await held.stream.rest()
    return 2


async def _supersede(colloquy: Colloquy, caller: Caller, talk: str) -> int:
    done = await caller.send(talk).reply()
    held = await hold(colloquy, caller, talk)
    first = (await caller.regenerate(done.id).accepted()).reply
    second = caller.regenerate(first.id)
    await second.accepted()
    assert (await budget_of(colloquy, caller)).reserved == 2
    held.gate.set()
    await second.rest()
    await held.stream.rest()
    return 3


async def _delete_message(colloquy: Colloquy, caller: Caller, talk: str) -> int:
    held = await hold(colloquy, caller, talk)
    waiting = await caller.send(talk).accepted()
    for prompt in (waiting.message, held.prompt):
        await caller.call("DeleteMessage", api.DeleteMessageRequest(message_id=prompt.id))
    return 1


async def _delete_conversation(colloquy: Colloquy, caller: Caller, talk: str) -> int:
    await hold(colloquy, caller, talk)
    await caller.send(talk).accepted()
    await caller.call("DeleteConversation", api.DeleteConversationRequest(conversation_id=talk))
    return 1


async def _delete_user(colloquy: Colloquy, caller: Caller, talk: str) -> int:
    author = resources.User(external_id="mia")
    held = await hold(colloquy, caller, talk, author=author)
    await caller.send(talk, author=author).accepted()
    request = admin_api.DeleteUserRequest(user_id=held.prompt.author.id)
    await ask(colloquy, "DeleteUser", request)
    return 1


async def _abandon(colloquy: Colloquy, caller: Caller, talk: str) -> int:
    held = await hold(colloquy, caller, talk)

    async def state() -> int:
        return (await caller.message(held.id)).state

    failed = resources.Message.STATE_FAILED
    with forgotten(colloquy, held.id):
        await change(colloquy, "UPDATE messages SET strikes = 2, lease_until = 1 WHERE state = 2")
        assert await eventually(state, int(failed)) == failed
    return 1


ENDS = (
    _complete,
    _fail,
    _cancel,
    _cancel_before,
    _interrupt,
    _supersede,
    _delete_message,
    _delete_conversation,
    _delete_user,
    _abandon,
)


@ALONE
async def test_each_end_gives_back_what_was_reserved_and_counts_what_had_begun(
    colloquy: Colloquy, alice: Caller
) -> None:
    await set_budget(colloquy, alice, 1_000)
    begun = 0
    for end in ENDS:
        talk = await alice.create(title="Titled")
        begun += await end(colloquy, alice, talk.id)
        colloquy.provider.forget_scripts()
        budget = await budget_of(colloquy, alice)
        assert (budget.used, budget.reserved) == (begun, 0), end.__name__
    assert (await total(colloquy, alice)).replies == begun
    await settled(colloquy)


# --- periods --------------------------------------------------------------------------------------


@ALONE
async def test_over_midnight_a_reservation_goes_back_to_its_day_and_what_was_used_is_of_the_new_one(
    colloquy: Colloquy, alice: Caller
) -> None:
    budget = await set_budget(colloquy, alice, 1)
    talk = await alice.create(title="Titled")
    held = await hold(colloquy, alice, talk.id)
    for table in ("budget_periods", "reservations"):  # as if that had been yesterday
        await change(colloquy, f"UPDATE {table} SET start = start - 1")
    other = await alice.create(title="Titled")
    await alice.send(other.id).reply()  # today nothing was used
    refusal = await refused(alice.send(other.id))
    is_over(refusal, f"account:{alice.account_id}")
    assert "may use 1 reply a day," in refusal.message
    assert refusal.message.endswith("00:00 UTC.")
    held.gate.set()
    await held.stream.reply()
    today = (datetime.now(UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days
    counters = await stored(
        colloquy, "SELECT start, used, reserved FROM budget_periods ORDER BY start"
    )
    assert [(used, reserved) for _, used, reserved in counters] == [(0, 0), (2, 0)]
    assert counters[1][0] in (today - 1, today)
    renewed = (await budget_of(colloquy, alice)).renew_time.ToDatetime(UTC)
    assert (renewed.hour, renewed.minute, budget.period) == (0, 0, DAY)
    await settled(colloquy)


@ALONE
async def test_a_budget_counts_what_was_used_before_it_was_set_and_what_was_on_its_way(
    colloquy: Colloquy, alice: Caller
) -> None:
    talk = await alice.create(title="Titled")
    await alice.send(talk.id).reply()
    held = await hold(colloquy, alice, talk.id)
    budget = await set_budget(colloquy, alice, 2, period=MONTH)
    assert (budget.used, budget.reserved) == (1, 0)
    held.gate.set()
    await held.stream.reply()
    assert (await budget_of(colloquy, alice)).used == 2
    refusal = await refused(alice.send(talk.id))
    assert refusal.reason == "BUDGET_EXCEEDED"
    again = await set_budget(colloquy, alice, 3, period=MONTH)
    assert (again.id, again.limit, again.used) == (budget.id, 3, 2)
    await alice.send(talk.id).reply()
    await settled(colloquy)


@ALONE
async def test_what_is_wrong_with_counters_is_mended(colloquy: Colloquy, alice: Caller) -> None:
    await set_budget(colloquy, alice, 10)
    talk = await alice.create(title="Titled")
    reply = await alice.send(talk.id).reply()
    held = await hold(colloquy, alice, talk.id)
    await change(colloquy, "UPDATE budget_periods SET used = 7, reserved = 9")
    await change(
        colloquy,
        "INSERT INTO reservations (account_id, message_id, budget_id, start, amount)"
        " SELECT account_id, :reply, budget_id, start, 5 FROM budget_periods",
        reply=reply.id,
    )
    sweep = BudgetSweep(colloquy.app.db)
    await sweep.look()
    await balanced(colloquy)
    budget = await budget_of(colloquy, alice)
    assert (budget.used, budget.reserved) == (1, 1)
    held.gate.set()
    await held.stream.reply()
    await settled(colloquy)
    # Of a budget that is gone nothing stays.
    await change(colloquy, "DELETE FROM budgets")
    await sweep.look()
    assert await stored(colloquy, "SELECT * FROM budget_periods") == []


# --- events ---------------------------------------------------------------------------------------


@ALONE
async def test_that_a_budget_is_nearly_and_wholly_used_up_is_told_once_each(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, str, Any]] = []

    def record(_s: Session, account: str, event: str, _conversation: str, data: Any) -> None:
        if event.startswith("budget."):
            told.append((account, event, data))

    monkeypatch.setattr(outbox, "record", record)
    budget = await set_budget(colloquy, alice, 5)
    await change(colloquy, "UPDATE quotas SET features = features + :bit", bit=Feature.WEBHOOKS)
    talk = await alice.create(title="Titled")
    events: list[list[str]] = []
    for _ in range(5):
        await alice.send(talk.id).reply()
        events.append([event for _, event, _ in told])
    assert events == [[], [], [], ["budget.warning"], ["budget.warning", "budget.exceeded"]]
    assert {account for account, _, _ in told} == {alice.account_id}
    data = told[-1][2]
    assert (data["budget_id"], data["unit"], data["used"]) == (budget.id, "replies", 5)
    # With a larger limit there is something to be told again.
    await set_budget(colloquy, alice, 7)
    await alice.send(talk.id).reply()
    assert [event for _, event, _ in told[2:]] == ["budget.warning"]


# --- administration -------------------------------------------------------------------------------


@ALONE
async def test_budgets_are_set_listed_and_taken_away(colloquy: Colloquy, alice: Caller) -> None:
    first = await set_budget(colloquy, alice, 1.5, unit=USD, period=MONTH)
    second = await set_budget(colloquy, alice, 3, model="keyless-model")  # though it has no key
    assert await budgets_of(colloquy, alice) == [first, second]
    features = "SELECT features FROM quotas WHERE id = :id"
    for budget in (first, second):
        assert await stored(colloquy, features, id=alice.account_id) == [(Feature.BUDGETS,)]
        await ask(colloquy, "DeleteBudget", admin_api.DeleteBudgetRequest(budget_id=budget.id))
    assert await stored(colloquy, features, id=alice.account_id) == [(0,)]
    assert await budgets_of(colloquy, alice) == []
    gone = ask(colloquy, "DeleteBudget", admin_api.DeleteBudgetRequest(budget_id=first.id))
    assert (await refused(gone)).reason == "BUDGET_NOT_FOUND"


@ANY
async def test_a_budget_for_what_is_not_there_is_refused(colloquy: Colloquy, alice: Caller) -> None:
    bob = await colloquy.account("bob")
    stranger = (await bob.create(author=resources.User(external_id="bob"))).creator
    keys = await ask(
        colloquy, "ListApiKeys", admin_api.ListApiKeysRequest(account_id=bob.account_id)
    )
    for fields, reason in (
        ({"user_id": stranger.id}, "USER_NOT_FOUND"),
        ({"api_key_id": keys.api_keys[0].id}, "API_KEY_NOT_FOUND"),
        ({"model": "no-such-model"}, "MODEL_UNKNOWN"),
        ({"account_id": stranger.id}, "ACCOUNT_NOT_FOUND"),
        ({"unit": 0}, "INVALID_FIELD"),
    ):
        assert (await refused(set_budget(colloquy, alice, 1, **fields))).reason == reason
    assert await budgets_of(colloquy, alice) == []

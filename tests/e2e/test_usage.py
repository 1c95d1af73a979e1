"""What is booked as used, by whom it is seen, and what stays of it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy_server.context.token_estimates import estimate_tokens
from colloquy_server.database.repository import accounting, leases
from colloquy_server.database.repository import titles as title_rows
from colloquy_server.database.repository.usage import Payer, Spent
from colloquy_server.replies.titles import Titles

from tests.books import (
    BY_DAY,
    BY_KEY,
    BY_MODEL,
    BY_USER,
    MONTH,
    ask,
    change,
    forgotten,
    set_budget,
    stored,
    total,
    usage_of,
)
from tests.e2e.talk import HALF, hold
from tests.fakes.provider import Answer
from tests.fleets import ALONE, ANY
from tests.harness import TITLE, Caller, Colloquy, ServerProcess, eventually
from tests.statuses import refused

PROMPT = "Eight bytes of text make two tokens"
ASKED = len(PROMPT) // 4 + 8
"""What is estimated for a request with this prompt alone."""


async def member(
    colloquy: Colloquy, alice: Caller, name: str, role: Any = admin_api.ApiKey.ROLE_MEMBER
) -> tuple[Caller, resources.User]:
    user = resources.User(external_id=name)
    key = await colloquy.key(alice.account_id, role, user=user)
    return key, (await key.create(title="Titled")).creator


async def report(caller: Caller, **fields: Any) -> api.GetUsageResponse:
    answer: api.GetUsageResponse = await caller.call("GetUsage", api.GetUsageRequest(**fields))
    return answer


# --- what is told ---------------------------------------------------------------------------------


async def test_a_reply_is_booked_as_it_was_counted_with_the_price_of_kept_input(
    colloquy: Colloquy, alice: Caller
) -> None:
    counts = {
        "prompt_tokens": 1_000,
        "completion_tokens": 100,
        "total_tokens": 1_100,
        "prompt_tokens_details": {"cached_tokens": 400},
    }
    colloquy.provider.script(Answer(counts=counts))
    talk = await alice.create(title="Titled")
    await alice.send(talk.id).reply()
    (row,) = await usage_of(colloquy, alice, BY_MODEL)
    assert row.model == "test-model"
    assert (row.replies, row.input_tokens, row.cached_input_tokens) == (1, 1_000, 400)
    assert (row.output_tokens, row.estimated_tokens) == (100, 0)
    assert row.cost_usd == pytest.approx(1_000 * 1e-6 + 100 * 2e-6, abs=1e-12)


@ALONE
async def test_each_attempt_costs_and_one_that_was_refused_does_not(
    colloquy: Colloquy, alice: Caller
) -> None:
    colloquy.provider.script(
        Answer(status=503),
        Answer(tokens=4, error_after=2),  # breaks off, and tells nothing
        Answer(tokens=4, done=False, reset_at_end=True, finish=None),  # tells it, and breaks off
        Answer(tokens=4),
    )
    talk = await alice.create(title="Titled")
    reply = await alice.send(talk.id, PROMPT).reply()
    requests = colloquy.provider.reply_requests
    told = [request.told for request in requests if request.told]
    row = await total(colloquy, alice)
    broken = len(requests[1].text) // 4
    assert row.replies == 1
    assert row.estimated_tokens == ASKED + broken
    assert row.input_tokens == ASKED + sum(each["prompt_tokens"] for each in told)
    assert row.output_tokens == broken + sum(each["completion_tokens"] for each in told)
    # A message says what its provider told.
    assert reply.usage.input_tokens == sum(each["prompt_tokens"] for each in told)


async def _cancelled(colloquy: Colloquy, alice: Caller, talk: str) -> None:
    held = await hold(colloquy, alice, talk, PROMPT)
    await alice.cancel(held.id)


async def _deleted(colloquy: Colloquy, alice: Caller, talk: str) -> None:
    held = await hold(colloquy, alice, talk, PROMPT)
    await _saved(colloquy, held.id)
    await alice.call("DeleteMessage", api.DeleteMessageRequest(message_id=held.prompt.id))


async def _forced(colloquy: Colloquy, alice: Caller, talk: str) -> None:
    """Its owner does not answer: another process ends it."""
    held = await hold(colloquy, alice, talk, PROMPT)
    await _saved(colloquy, held.id)
    with forgotten(colloquy, held.id):
        await alice.cancel(held.id)


async def _taken_over(colloquy: Colloquy, alice: Caller, talk: str) -> None:
    """Its owner is dead, and it was to be cancelled."""
    held = await hold(colloquy, alice, talk, PROMPT)
    await _saved(colloquy, held.id)
    cancelled = resources.Message.STATE_CANCELLED

    async def state() -> int:
        return (await alice.message(held.id)).state

    with forgotten(colloquy, held.id):
        await change(
            colloquy, "UPDATE messages SET lease_until = 1, cancel_requested = true WHERE state = 2"
        )
        assert await eventually(state, int(cancelled)) == cancelled


async def _saved(colloquy: Colloquy, message_id: str) -> None:
    """Waits until the text that came is saved."""

    async def words() -> int:
        query = "SELECT content FROM messages WHERE id = :id"
        ((content,),) = await stored(colloquy, query, id=message_id)
        return len(content.split())

    assert await eventually(words, HALF) == HALF


Cut = Callable[[Colloquy, Caller, str], Awaitable[None]]


@ALONE
@pytest.mark.parametrize("cut", [_cancelled, _deleted, _forced, _taken_over])
async def test_an_answer_that_is_cut_off_is_booked_once_as_an_estimate(
    colloquy: Colloquy, alice: Caller, cut: Cut
) -> None:
    talk = await alice.create(title="Titled")
    await cut(colloquy, alice, talk.id)
    (request,) = colloquy.provider.reply_requests
    written = len(request.text) // 4
    row = await total(colloquy, alice)
    assert (row.replies, row.input_tokens, row.output_tokens) == (1, ASKED, written)
    assert row.estimated_tokens == ASKED + written
    assert row.cost_usd == pytest.approx(ASKED * 1e-6 + written * 2e-6, abs=1e-12)


@ALONE
async def test_what_attempts_used_is_booked_when_the_next_comes_to_text_and_not_twice(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    colloquy.provider.script(
        Answer(tokens=4, error_after=2), Answer(tokens=4, gate_after=2, gate=gate)
    )
    talk = await alice.create(title="Titled")
    stream = alice.send(talk.id, PROMPT)
    await stream.until(lambda e: e.HasField("delta") and e.delta.attempt == 2)
    before = await total(colloquy, alice)
    broken = len(colloquy.provider.reply_requests[0].text) // 4
    assert (before.replies, before.estimated_tokens) == (0, ASKED + broken)
    gate.set()
    await stream.reply()
    after = await total(colloquy, alice)
    assert (after.replies, after.estimated_tokens) == (1, before.estimated_tokens)
    # A transaction that is tried again, as its commit may have come through, books nothing more.
    ((reply_id, conversation_id, epoch),) = await stored(
        colloquy, "SELECT id, conversation_id, epoch FROM messages WHERE role = 2"
    )
    await change(colloquy, "UPDATE messages SET state = 2 WHERE role = 2")
    spent = [Spent("test-model", input_tokens=7)]
    await colloquy.app.db.write(
        alice.account_id,
        leases.begin_attempt,
        conversation_id,
        reply_id,
        epoch,
        "x",
        "test-model",
        1,
        spent,
    )
    assert (await total(colloquy, alice)).input_tokens == after.input_tokens
    await change(colloquy, "UPDATE messages SET state = 3 WHERE role = 2")


@ALONE
async def test_a_title_is_booked_for_who_began_the_conversation(
    colloquy: Colloquy, alice: Caller
) -> None:
    mia, user = await member(colloquy, alice, "mia")
    talk = await mia.create()
    await mia.send(talk.id).reply()

    async def title() -> str:
        return (await alice.conversation(talk.id)).title

    assert await eventually(title, TITLE) == TITLE
    (request,) = colloquy.provider.title_requests
    assert request.told is not None
    rows = {row.model: row for row in await usage_of(colloquy, alice, BY_MODEL, BY_USER)}
    row = rows["title-model"]
    assert (row.user.id, row.replies) == (user.id, 0)
    assert (row.input_tokens, row.output_tokens) == (
        request.told["prompt_tokens"],
        request.told["completion_tokens"],
    )


@ALONE
async def test_a_title_that_a_kill_cut_off_is_booked_as_an_estimate(
    colloquy: Colloquy, alice: Caller
) -> None:
    await colloquy.stop()
    process = ServerProcess(colloquy, LEASE_TTL="1")
    there = alice.on(await process.start())
    colloquy.provider.script_titles(Answer(gate_after=0, gate=asyncio.Event()))
    talk = await there.create()
    await there.send(talk.id).rest()
    await colloquy.provider.wait_for_titles(1)
    await process.end(signal.SIGKILL)
    await colloquy.start()
    alice = alice.at(colloquy)

    async def title() -> str:
        return (await alice.conversation(talk.id)).title

    assert await eventually(title, TITLE) == TITLE
    cut, last = colloquy.provider.title_requests
    assert cut.told is None
    assert last.told is not None
    asked = estimate_tokens("".join(message["content"] for message in cut.messages))
    rows = {row.model: row for row in await usage_of(colloquy, alice, BY_MODEL)}
    row = rows["title-model"]
    assert (row.replies, row.estimated_tokens) == (0, asked)
    assert row.input_tokens == asked + last.told["prompt_tokens"]
    assert row.output_tokens == last.told["completion_tokens"]


@ALONE
async def test_who_was_overtaken_in_asking_for_a_title_neither_books_nor_stores(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Titles, "begin", lambda *_: None)  # the server asks for none
    talk = await alice.create()
    await alice.send(talk.id).reply()
    db, account_id = colloquy.app.db, alice.account_id
    asks = []
    for _ in range(2):
        claimed = await db.write(account_id, title_rows.claim, talk.id, 1_000_000_000)
        assert claimed is not None
        asks.append(claimed)
        await change(colloquy, "UPDATE conversations SET title_lease_until = 1")
    overtaken, last = asks
    assert (overtaken.cut_off, last.cut_off) == (0, 1)
    spent = [Spent("title-model", input_tokens=7)]
    assert (
        await db.write(account_id, title_rows.set_title, talk.id, "Late", overtaken, spent) is None
    )
    await db.write(account_id, title_rows.book, account_id, talk.id, overtaken, spent)
    assert await db.write(account_id, title_rows.set_title, talk.id, "Right", last, spent)
    assert (await alice.conversation(talk.id)).title == "Right"
    rows = {row.model: row for row in await usage_of(colloquy, alice, BY_MODEL)}
    assert rows["title-model"].input_tokens == 7


# --- who sees it ----------------------------------------------------------------------------------


@ALONE
async def test_usage_is_apart_in_what_is_asked_and_a_member_sees_their_own(
    colloquy: Colloquy, alice: Caller
) -> None:
    mia, mias = await member(colloquy, alice, "mia")
    noah, noahs = await member(colloquy, alice, "noah", admin_api.ApiKey.ROLE_ADMIN)
    talk = await alice.create(title="Titled")
    for caller, model in ((mia, ""), (mia, "other-model"), (noah, ""), (alice, "")):
        reply = await caller.send(talk.id).reply()
        if model:
            await caller.regenerate(reply.id, model=model).reply()
    own = await report(mia, group_by=[BY_MODEL])
    assert {row.model: row.replies for row in own.rows} == {"test-model": 2, "other-model": 1}
    assert await report(mia, user_id=mias.id.upper(), group_by=[BY_MODEL]) == own
    assert (await refused(report(mia, user_id=noahs.id))).reason == "PERMISSION_DENIED"
    for caller in (noah, alice):
        rows = (await report(caller, group_by=[BY_DAY, BY_USER, BY_KEY])).rows
        assert [row.replies for row in rows] == [3, 1, 1]
        assert len({row.api_key_id for row in rows}) == 3
        assert rows[0].user == mias
        assert {row.day for row in rows} <= {
            (datetime.now(UTC) - timedelta(days=ago)).date().isoformat() for ago in (0, 1)
        }
        (row,) = (await report(caller, user_id=mias.id)).rows
        assert (row.replies, row.day, row.model) == (3, "", "")
        assert not row.HasField("user")
    assert (await report(noah)).rows == await usage_of(colloquy, alice)


@ALONE
async def test_a_member_is_told_the_budgets_that_apply_to_them(
    colloquy: Colloquy, alice: Caller
) -> None:
    mia, mias = await member(colloquy, alice, "mia")
    noah, noahs = await member(colloquy, alice, "noah")
    keys = await ask(
        colloquy, "ListApiKeys", admin_api.ListApiKeysRequest(account_id=alice.account_id)
    )
    of_mia = next(key.id for key in keys.api_keys if key.user.id == mias.id)
    wide = await set_budget(colloquy, alice, 1, period=MONTH)
    model = await set_budget(colloquy, alice, 2, model="other-model")
    key = await set_budget(colloquy, alice, 3, api_key_id=of_mia)
    user = await set_budget(colloquy, alice, 4, user_id=noahs.id)
    assert list((await report(mia)).budgets) == [wide, model, key]
    assert list((await report(noah)).budgets) == [wide, model, user]
    assert list((await report(alice)).budgets) == [wide, model, key, user]


@ANY
async def test_days_that_are_none_are_refused_and_others_hold(
    colloquy: Colloquy, alice: Caller
) -> None:
    talk = await alice.create(title="Titled")
    await alice.send(talk.id).reply()
    await change(colloquy, "UPDATE usage_days SET day = :day", day=20_000)  # 2024-10-04
    for fields, name in (
        ({"start_day": "2026-02-30"}, "start_day"),
        ({"end_day": "2026-13-01"}, "end_day"),
        ({"start_day": "yesterday"}, "start_day"),
        ({"start_day": "2026-01-02", "end_day": "2026-01-01"}, "start_day"),
    ):
        refusal = await refused(report(alice, **fields))
        assert (refusal.reason, list(refusal.fields)) == ("INVALID_FIELD", [name])
    days = {"start_day": "2024-10-04", "end_day": "2024-10-04", "group_by": [BY_DAY]}
    assert [row.day for row in (await report(alice, **days)).rows] == ["2024-10-04"]
    assert (await report(alice)).rows[0].replies == 0
    assert (await report(alice, start_day="2024-10-05")).rows[0].replies == 0
    assert not (await report(alice, group_by=[BY_DAY])).rows


# --- what stays -----------------------------------------------------------------------------------


@ALONE
async def test_of_who_is_deleted_what_they_used_stays_without_them(
    colloquy: Colloquy, alice: Caller
) -> None:
    mia, mias = await member(colloquy, alice, "mia")
    await set_budget(colloquy, alice, 100, user_id=mias.id)
    talk = await alice.create(title="Titled")
    reply = await alice.send(talk.id).reply()
    await mia.send(talk.id).reply()
    await mia.regenerate(reply.id).reply()  # of somebody else's prompt
    await alice.send(talk.id, author=resources.User(id=mias.id)).reply()
    before = await total(colloquy, alice)
    await ask(colloquy, "DeleteUser", admin_api.DeleteUserRequest(user_id=mias.id))
    assert await total(colloquy, alice) == before
    rows = await usage_of(colloquy, alice, BY_USER)
    assert sorted((row.HasField("user"), row.replies) for row in rows) == [(False, 3), (True, 1)]
    late = Spent("title-model", input_tokens=1)  # of what was on its way as they left
    book = accounting.book_alone
    await colloquy.app.db.write(alice.account_id, book, alice.account_id, Payer(mias.id), late)
    for table in ("usage_days", "messages", "budgets", "budget_periods", "reservations"):
        assert mias.id not in str(await stored(colloquy, f"SELECT * FROM {table}")), table
    (key_id,) = {row.api_key_id for row in await usage_of(colloquy, alice, BY_KEY)} - {""}
    assert await stored(colloquy, "SELECT id FROM api_keys") == [(key_id,)]


@ALONE
async def test_of_an_account_that_is_deleted_nothing_stays(
    colloquy: Colloquy, alice: Caller
) -> None:
    await set_budget(colloquy, alice, 100)
    talk = await alice.create(title="Titled")
    await alice.send(talk.id).reply()
    held = await hold(colloquy, alice, talk.id)
    await ask(
        colloquy, "DeleteAccount", admin_api.DeleteAccountRequest(account_id=alice.account_id)
    )
    held.gate.set()
    for table in ("usage_days", "budgets", "budget_periods", "reservations"):
        assert await stored(colloquy, f"SELECT * FROM {table}") == [], table

"""A model that cannot answer has a fallback asked in its place, and there is one text in the
end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import error_reason_pb2 as reasons
from colloquy.api import resources_pb2 as resources

from tests.books import budget_of, set_budget, settled
from tests.e2e.talk import HALF, half, said, text_of
from tests.fakes.provider import Answer
from tests.fakes.samples import png
from tests.fleets import ANY, FLEETS
from tests.harness import Caller, Colloquy, ServerProcess
from tests.slack_harness import SlackStage
from tests.slack_harness import text_of as text_in_slack
from tests.uploads import upload

CANCELLED = resources.Message.STATE_CANCELLED
COMPLETED = resources.Message.STATE_COMPLETED
FAILED = resources.Message.STATE_FAILED

MODELS = """
providers:
  double: {{base_url: "{base_url}", api_key_env: DOUBLE_KEY}}
  other: {{base_url: "{base_url}", api_key_env: DOUBLE_KEY}}
  strict: {{base_url: "{base_url}", api_key_env: DOUBLE_KEY, alternate_roles: true}}
  keyless: {{base_url: "{base_url}", api_key_env: NO_SUCH_KEY}}
models:
  first: &large
    {{provider: double, input_kinds: [image], context_window: 128000, max_output_tokens: 4096,
     input_price: 0.001, output_price: 0.002, fallbacks: [locked, second, third]}}
  pair: {{<<: *large, fallbacks: second}}
  hasty: {{<<: *large, timeouts: {{first_byte: 0.2}}, fallbacks: second}}
  locked: {{<<: *large, provider: keyless, fallbacks: []}}
  second:
    {{provider: other, context_window: 1000, max_output_tokens: 200, input_price: 0.01,
     output_price: 0.02, fallbacks: [never]}}
  third: {{<<: *large, provider: strict, fallbacks: [first]}}
  never: {{<<: *large, fallbacks: []}}
  title-model: {{<<: *large, fallbacks: []}}
default_model: first
title_model: title-model
"""

DOWN = Answer(status=503, headers={"Retry-After": "0"})
WRONG_KEY = Answer(status=401)
LIMITED = Answer(status=429, headers={"Retry-After": "0"})
PAID = {"prompt_tokens": 100, "completion_tokens": 50}


class Falling(Colloquy):
    """A fleet whose models have fallbacks."""

    models = MODELS


@pytest.fixture(params=FLEETS)
async def colloquy(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Colloquy]:
    kind, _, replicas = request.param.partition("-")
    url = request.getfixturevalue("postgres_url") if kind == "postgres" else ""
    async with Falling(tmp_path, url, replicas=int(replicas or 1)) as running:
        yield running


def asked(colloquy: Colloquy, since: int = 0) -> list[str]:
    """The models that were asked, in order."""
    return [request.body["model"] for request in colloquy.provider.reply_requests[since:]]


def reason_of(reply: resources.Message) -> str:
    return reasons.ErrorReason.Name(reply.error.reason).removeprefix("ERROR_REASON_")


async def test_a_provider_that_dies_in_mid_reply_has_its_fallback_finish_one_text(
    colloquy: Colloquy, alice: Caller
) -> None:
    died, going = asyncio.Event(), asyncio.Event()
    colloquy.provider.script(
        Answer(tokens=4, finish="error", counts=PAID),
        Answer(tokens=20, gate_after=10, gate=died, drop_after=10),
        DOWN,
        Answer(tokens=2 * HALF, gate_after=HALF, gate=going, counts=PAID),
    )
    conversation = await alice.create(title="Fallbacks")
    stream = alice.send(conversation.id)
    reply_id = (await stream.accepted()).reply.id
    await stream.until(lambda e: e.HasField("message") and e.message.attempt == 2)
    await text_of(stream, reply_id, 10)
    watch = alice.watch(conversation.id)
    await text_of(watch, reply_id, 10)
    assert watch.transcript.messages[reply_id].model == "first"
    died.set()
    await stream.until(lambda e: e.HasField("message") and e.message.attempt == 3)
    late = alice.watch(conversation.id)
    await text_of(late, reply_id, HALF)
    going.set()
    reply = await stream.reply()
    assert asked(colloquy) == ["first", "first", "first", "second"], "and none that has no key"
    requests = colloquy.provider.reply_requests
    assert (reply.state, reply.attempt) == (COMPLETED, 3)
    assert (reply.model, reply.requested_model) == ("second", "first")
    assert reply.content == requests[3].text
    for seen in (stream, watch, late):
        if seen is not stream:
            assert await seen.final(reply_id) == reply
        # Transcript has checked that no delta left a gap or overlapped.
        assert seen.transcript.messages[reply_id] == reply
        joined = seen.transcript.joined[reply_id, 3]
        assert reply.content.endswith(joined) if seen is late else joined == reply.content
    begun = next(e.message for e in watch.events if e.HasField("message") and e.message.attempt > 2)
    assert (begun.content, begun.model, begun.requested_model) == ("", "second", "first")
    assert await alice.message(reply_id) == reply
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (200, 100)
    assert reply.usage.cost_usd == pytest.approx(0.1 * (0.001 + 0.01) + 0.05 * (0.002 + 0.02))
    used = await used_by_model(alice)
    assert used.keys() == {"first", "second"}
    second = used["second"]
    assert (second.input_tokens, second.output_tokens, second.estimated_tokens) == (100, 50, 0)
    assert second.cost_usd == pytest.approx(0.1 * 0.01 + 0.05 * 0.02)
    # What it told of one answer, and an estimate for the one that broke off.
    first = used["first"]
    assert first.input_tokens + first.output_tokens == 150 + first.estimated_tokens
    assert first.output_tokens > 50
    assert first.input_tokens > 100
    assert (first.replies, second.replies) == (0, 1)
    watch.cancel()
    late.cancel()


async def used_by_model(caller: Caller) -> dict[str, resources.UsageRow]:
    request = api.GetUsageRequest(group_by=[resources.USAGE_GROUP_MODEL])
    return {row.model: row for row in (await caller.call("GetUsage", request)).rows}


@ANY
async def test_a_fallback_whose_budget_is_used_up_is_passed_over(
    colloquy: Colloquy, alice: Caller
) -> None:
    budget = admin_api.SetBudgetRequest(
        account_id=alice.account_id,
        model="second",
        period=resources.Budget.PERIOD_DAY,
        unit=resources.Budget.UNIT_REPLIES,
        limit=1,
    )
    await colloquy.admin.admin.SetBudget(budget, metadata=colloquy.admin.metadata)
    conversation = await alice.create(title="Fallbacks")
    colloquy.provider.script(WRONG_KEY, Answer(), WRONG_KEY)
    replies = [await alice.send(conversation.id).reply() for _ in range(2)]
    assert [reply.model for reply in replies] == ["second", "third"]
    assert asked(colloquy) == ["first", "second", "first", "third"]


@ANY
async def test_no_more_replies_are_written_by_a_fallback_at_once_than_its_budget_has(
    colloquy: Colloquy, alice: Caller
) -> None:
    await set_budget(colloquy, alice, 1, model="second")
    talks = [(await alice.create(title="Fallbacks")).id for _ in range(2)]
    gate = asyncio.Event()
    colloquy.provider.script(WRONG_KEY, half(gate), WRONG_KEY)
    stream = alice.send(talks[0])
    await text_of(stream, (await stream.accepted()).reply.id, HALF)
    other = await alice.send(talks[1]).reply()
    gate.set()
    assert [(await stream.reply()).model, other.model] == ["second", "third"]
    budget = await budget_of(colloquy, alice)
    assert (budget.used, budget.reserved) == (1, 0)
    await settled(colloquy)


LEADS_ON: dict[str, tuple[str, list[Answer]]] = {
    "rate limit": ("first", [LIMITED] * 3),
    "unavailable": ("first", [DOWN] * 3),
    "silence": ("hasty", [Answer(stall_after=0)] * 3),
    "wrong key": ("first", [WRONG_KEY]),
    "no credit": (
        "first",
        [Answer(status=429, body={"error": {"message": "x", "code": "insufficient_quota"}})],
    ),
    "only thoughts": (
        "first",
        [Answer(tokens=0, deltas=[{"reasoning_content": "hm"}], finish="length")],
    ),
}


@ANY
async def test_what_another_provider_may_not_have_leads_to_the_fallback_after_the_retries(
    colloquy: Colloquy, alice: Caller
) -> None:
    for fault, (model, answers) in LEADS_ON.items():
        before = len(colloquy.provider.reply_requests)
        conversation = await alice.create(title="Fallbacks", model=model)
        colloquy.provider.script(*answers)
        reply = await alice.send(conversation.id).reply()
        assert asked(colloquy, before) == [model] * len(answers) + ["second"], fault
        assert (reply.state, reply.model, reply.requested_model) == (COMPLETED, "second", model)
        assert (reply.attempt, reply.content) == (2, colloquy.provider.reply_requests[-1].text)
        assert not reply.HasField("error"), fault
        # What was chosen stays chosen.
        assert (await alice.conversation(conversation.id)).model == model


@ANY
async def test_what_is_refused_for_what_it_says_is_not_taken_to_another_provider(
    colloquy: Colloquy, alice: Caller
) -> None:
    too_long = {"error": {"message": "x", "code": "context_length_exceeded"}}
    filtered = {"error": {"message": "x", "code": "content_filter"}}
    conversation = await alice.create(title="Fallbacks")
    for body, requests, reason in (
        (None, 1, "PROVIDER_REJECTED"),
        (too_long, 2, "PROVIDER_REJECTED"),  # a shorter one is tried
        (filtered, 1, "CONTENT_FILTERED"),
    ):
        before = len(colloquy.provider.reply_requests)
        colloquy.provider.script(*[Answer(status=400, body=body)] * requests)
        reply = await alice.send(conversation.id).reply()
        assert (reply.state, reason_of(reply)) == (FAILED, reason)
        assert (reply.model, reply.requested_model) == ("first", "first")
        assert asked(colloquy, before) == ["first"] * requests
    colloquy.provider.script(Answer(tokens=4, finish="content_filter"))
    assert reason_of(await alice.send(conversation.id).reply()) == "CONTENT_FILTERED"
    # Nor is what a fallback's filter stops, though it is no word of the first one's.
    before = len(colloquy.provider.reply_requests)
    colloquy.provider.script(WRONG_KEY, Answer(status=400, body=filtered))
    reply = await alice.send(conversation.id).reply()
    assert reason_of(reply) == "PROVIDER_AUTHENTICATION"
    assert asked(colloquy, before) == ["first", "second"]


@ANY
async def test_where_all_fail_the_reply_fails_for_the_first_ones_reason_and_names_all(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Fallbacks")
    colloquy.provider.script(LIMITED, LIMITED, LIMITED, Answer(status=400), WRONG_KEY)
    reply = await alice.send(conversation.id).reply()
    assert asked(colloquy) == ["first"] * 3 + ["second", "third"]
    assert (reply.state, reason_of(reply)) == (FAILED, "PROVIDER_RATE_LIMITED")
    assert "first, second and third were asked, and none could answer." in reply.error.message
    assert (reply.content, reply.attempt) == ("", 1)
    assert (reply.model, reply.requested_model) == ("first", "first")
    # Whose text there is, its model and its receipt are named.
    picture = await upload(alice, png(), "picture.png")
    pair = await alice.create(title="Fallbacks", model="pair")
    colloquy.provider.script(Answer(drop_after=4), DOWN, DOWN, WRONG_KEY)
    reply = await alice.send(pair.id, "Look", attachment_ids=[picture.id]).reply()
    assert (reply.state, reply.attempt, reply.model) == (FAILED, 1, "pair")
    assert reply.content == colloquy.provider.reply_requests[5].text
    assert not (await alice.receipt(reply.id)).left_out, "it had the picture"
    colloquy.provider.script(WRONG_KEY, Answer(drop_after=3), DOWN, DOWN, WRONG_KEY)
    reply = await alice.send(conversation.id).reply()
    assert (reply.state, reply.attempt, reply.model) == (FAILED, 2, "second")
    assert reason_of(reply) == "PROVIDER_AUTHENTICATION"
    assert len(reply.content.split()) == 3


@ANY
async def test_a_fallback_gets_what_its_window_holds_and_files_in_the_form_that_it_takes(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Fallbacks")
    for number in range(4):
        await alice.send(conversation.id, f"{number} " + "many words " * 90).rest()
    picture = await upload(alice, png(), "picture.png")
    colloquy.provider.script(WRONG_KEY)
    reply = await alice.send(conversation.id, "And now?", attachment_ids=[picture.id]).reply()
    assert (reply.state, reply.model) == (COMPLETED, "second")
    whole, trimmed = (request.messages for request in colloquy.provider.reply_requests[-2:])
    assert len(whole) == 9
    assert len(trimmed) == 5
    assert trimmed[:-1] == whole[4:-1], "the newest of it"
    assert "image_url" in str(whole[-1])
    assert "image_url" not in str(trimmed[-1])
    assert "picture.png" in str(trimmed[-1])
    receipt = await alice.receipt(reply.id)
    assert len(receipt.message_ids) == 5
    assert picture.id in [left.attachment_id for left in receipt.left_out]
    # One that could not hold even the newest message is passed over.
    colloquy.provider.script(WRONG_KEY)
    reply = await alice.send(conversation.id, "very many words " * 300).reply()
    assert (reply.state, reply.model) == (COMPLETED, "third")


@ANY
async def test_what_is_told_after_a_fallback_is_in_the_form_of_who_is_told(
    colloquy: Colloquy, alice: Caller
) -> None:
    """Also where what was said before is kept ready to send."""
    for model, other in (("first", "third"), ("third", "first")):
        conversation = await alice.create(title="Fallbacks", model=model)
        colloquy.provider.script(Answer(status=400))
        await alice.send(conversation.id, "P1").rest()
        skipped = [WRONG_KEY, WRONG_KEY] if model == "first" else [WRONG_KEY]
        colloquy.provider.script(*skipped)
        answer = await alice.send(conversation.id, "P2").reply()
        assert answer.model == other
        await alice.send(conversation.id, "P3").rest()
        apart = [("user", "P1"), ("user", "P2")]
        before = [role for role, _ in said(colloquy.provider.reply_requests[-2].body)]
        told = said(colloquy.provider.reply_requests[-1].body)
        assert told[-2:] == [("assistant", answer.content), ("user", "P3")]
        if model == "first":
            assert before == ["user"]
            assert told[:-2] == apart
        else:
            assert before == ["user", "user"]
            assert [role for role, _ in told[:-2]] == ["user"]


@ANY
async def test_a_reply_is_stopped_at_once_while_its_fallback_is_asked(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Fallbacks")
    colloquy.provider.script(Answer(drop_after=4), DOWN, DOWN, Answer(stall_after=0))
    stream = alice.send(conversation.id)
    reply_id = (await stream.accepted()).reply.id
    requests = await colloquy.provider.wait_for_requests(4)
    await alice.cancel(reply_id)
    reply = await stream.reply()
    assert (reply.state, reply.attempt, reply.model) == (CANCELLED, 1, "first")
    assert reply.content == requests[0].text
    await requests[3].ended()
    assert requests[3].outcome == "client closed"
    assert asked(colloquy) == ["first"] * 3 + ["second"]


@ANY
async def test_a_fallbacks_reply_is_made_again_and_found_again_by_the_model_that_was_asked_for(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Fallbacks")
    colloquy.provider.script(WRONG_KEY)
    old = await alice.send(conversation.id).reply()
    assert old.model == "second"
    colloquy.provider.script(WRONG_KEY)
    new = await alice.regenerate(old.id, model="first", request_id="again").reply()
    assert (new.model, new.requested_model) == ("second", "first")
    again = await alice.regenerate(old.id, model="first", request_id="again").reply()
    assert again == new
    with pytest.raises(grpc.aio.AioRpcError, match="used before"):
        await alice.regenerate(old.id, model="second", request_id="again").rest()
    # Who names none asks for the conversation's.
    assert (await alice.regenerate(old.id).reply()).model == "first"
    assert asked(colloquy) == ["first", "second"] * 2 + ["first"]


@ANY
async def test_a_reply_whose_model_is_gone_when_its_turn_comes_is_written_by_its_fallback(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Fallbacks")
    colloquy.provider.script(half(asyncio.Event()))
    stream = alice.send(conversation.id)
    reply_id = (await stream.accepted()).reply.id
    await text_of(stream, reply_id, HALF)
    await colloquy.stop(grace=0)
    models = colloquy.models_file.read_text()
    colloquy.models_file.write_text(models.replace("DOUBLE_KEY", "NO_SUCH_KEY", 1))
    await colloquy.start()
    watch = alice.at(colloquy).watch(conversation.id)
    reply = await watch.final(reply_id)
    assert (reply.state, reply.model, reply.requested_model) == (COMPLETED, "second", "first")
    watch.cancel()


@ANY
@pytest.mark.timeout(180)
async def test_a_fallbacks_reply_whose_server_is_killed_is_gone_on_with_by_the_same_model(
    colloquy: Colloquy,
) -> None:
    process = ServerProcess(colloquy, LEASE_TTL="5")
    channel = await process.start()
    alice = await colloquy.account()
    conversation = await alice.create(title="Fallbacks")
    colloquy.provider.script(WRONG_KEY, half(asyncio.Event()))
    sending = alice.on(channel).send(conversation.id)
    await sending.until("delta")
    watch = alice.watch(conversation.id)
    reply_id = sending.events[0].accepted.reply.id
    await process.end(signal.SIGKILL)
    reply = await watch.final(reply_id)
    assert (reply.state, reply.model, reply.requested_model) == (COMPLETED, "second", "first")
    last = colloquy.provider.reply_requests[-1]
    assert (last.body["model"], last.text) == ("second", reply.content)
    assert watch.transcript.joined[reply_id, reply.attempt] == reply.content
    watch.cancel()


@ANY
async def test_in_slack_the_fallbacks_text_takes_the_place_of_what_broke_off(
    colloquy: Colloquy,
) -> None:
    async with SlackStage(colloquy) as stage:
        colloquy.provider.script(Answer(tokens=20, drop_after=10), WRONG_KEY, Answer(tokens=15))
        asked_for = stage.alice.post(stage.general, "Hello", mention=True)
        messages = await stage.answered(stage.general, asked_for.ts)
        assert text_in_slack(messages) == colloquy.provider.reply_requests[2].text
        assert "second instead of first" in str(messages[-1].blocks)

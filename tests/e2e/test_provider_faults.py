"""Whatever a provider does, a reply ends in good order: whole, or with a reason and what it had.

Every fault is a real one: the double answers over HTTP, and is asked through SendMessage.
"""

from __future__ import annotations

import asyncio

import pytest
import structlog
from colloquy.api import error_reason_pb2 as reasons
from colloquy.api import resources_pb2 as resources
from colloquy_server.replies.generation import MAX_RETRY_AFTER, RetryPolicy

from tests.e2e.talk import HALF, half, said, text_of
from tests.fakes.provider import Answer
from tests.fleets import ANY
from tests.harness import Caller, Colloquy

COMPLETED = resources.Message.STATE_COMPLETED
FAILED = resources.Message.STATE_FAILED

MIB = 1 << 20


def reason_of(reply: resources.Message) -> str:
    return reasons.ErrorReason.Name(reply.error.reason).removeprefix("ERROR_REASON_")


async def test_two_rate_limits_are_waited_out(colloquy: Colloquy, alice: Caller) -> None:
    limited = Answer(status=429, headers={"Retry-After": "0"})
    colloquy.provider.script(limited, limited, Answer(tokens=5))
    conversation = await alice.create(title="Faults")
    stream = alice.send(conversation.id)
    reply = await stream.reply()
    assert reply.state == COMPLETED
    assert not reply.HasField("error")
    assert reply.content == colloquy.provider.reply_requests[2].text
    assert stream.transcript.joined[reply.id, reply.attempt] == reply.content


@ANY
async def test_retry_after_is_honoured(colloquy: Colloquy, alice: Caller) -> None:
    colloquy.provider.script(Answer(status=429, headers={"Retry-After": "1"}))
    conversation = await alice.create(title="Faults")
    reply = await alice.send(conversation.id).reply()
    assert reply.state == COMPLETED
    first, second = colloquy.provider.reply_requests
    assert first.ended_at is not None
    assert second.arrived_at - first.ended_at >= 1


def test_retry_after_is_honoured_up_to_a_minute_and_waits_grow() -> None:
    retries = RetryPolicy(attempts=3, base=0.5)
    assert MAX_RETRY_AFTER == 60
    assert retries.backoff(1, 59.0) == 59
    assert retries.backoff(1, 3_600.0) == 60
    assert 0.25 <= retries.backoff(1, 0.0) <= 0.75
    assert 0.25 <= retries.backoff(1, None) <= 0.75
    assert 1.0 <= retries.backoff(2, None) <= 3.0
    assert len({retries.backoff(1, None) for _ in range(20)}) > 1, "jitter"


FAULTS: dict[str, tuple[Answer, str, int]] = {
    "429": (Answer(status=429, headers={"Retry-After": "0"}), "PROVIDER_RATE_LIMITED", 3),
    "500": (Answer(status=500), "PROVIDER_UNAVAILABLE", 3),
    "503": (Answer(status=503, headers={"Retry-After": "0"}), "PROVIDER_UNAVAILABLE", 3),
    "a page": (Answer(status=502, body=b"<html>Bad gateway</html>"), "PROVIDER_UNAVAILABLE", 3),
    "dropped at once": (Answer(drop_after=0), "PROVIDER_UNAVAILABLE", 3),
    "no end": (Answer(tokens=0, finish=None, done=False, usage=False), "PROVIDER_UNAVAILABLE", 3),
    "silence": (Answer(stall_after=0), "PROVIDER_TIMEOUT", 3),
    "401": (Answer(status=401), "PROVIDER_AUTHENTICATION", 1),
    "403": (Answer(status=403), "PROVIDER_AUTHENTICATION", 1),
    "400": (Answer(status=400), "PROVIDER_REJECTED", 1),
    "404": (Answer(status=404), "PROVIDER_REJECTED", 1),
    "no credit": (
        Answer(status=429, body={"error": {"message": "x", "code": "insufficient_quota"}}),
        "PROVIDER_QUOTA",
        1,
    ),
    "filtered": (
        Answer(status=400, body={"error": {"message": "x", "code": "content_filter"}}),
        "CONTENT_FILTERED",
        1,
    ),
}


@ANY
async def test_each_fault_fails_with_its_reason_and_is_retried_only_if_that_helps(
    colloquy: Colloquy, alice: Caller
) -> None:
    await colloquy.restart(provider_first_byte_timeout=0.2, provider_idle_timeout=0.2)
    alice = alice.at(colloquy)
    conversation = await alice.create(title="Faults")
    messages = set()
    for fault, (answer, reason, attempts) in FAULTS.items():
        colloquy.provider.script(*[answer] * attempts)
        before = len(colloquy.provider.reply_requests)
        reply = await alice.send(conversation.id).reply()
        assert reply.state == FAILED, fault
        assert reason_of(reply) == reason, fault
        assert len(colloquy.provider.reply_requests) - before == attempts, fault
        assert (reply.content, reply.attempt) == ("", 1), fault
        assert not reply.HasField("usage"), fault
        assert "secret" not in reply.error.message, fault
        assert reply.error.message.endswith("."), fault
        assert await alice.message(reply.id) == reply, fault
        messages.add(reply.error.message)
    assert len(messages) >= 7, "each says what can be done"
    # None of it is in the context of what is asked next.
    assert (await alice.send(conversation.id, "Now?").reply()).state == COMPLETED
    assert {role for role, _ in said(colloquy.provider.reply_requests[-1].body)} == {"user"}


async def test_a_dropped_stream_is_retried_and_watchers_see_one_clean_text(
    colloquy: Colloquy, alice: Caller
) -> None:
    gate = asyncio.Event()
    colloquy.provider.script(
        Answer(tokens=20, gate_after=10, gate=gate, drop_after=10), Answer(tokens=15)
    )
    conversation = await alice.create(title="Faults")
    stream = alice.send(conversation.id)
    reply_id = (await stream.accepted()).reply.id
    await text_of(stream, reply_id, 10)
    watch = alice.watch(conversation.id)
    await text_of(watch, reply_id, 10)
    gate.set()
    reply = await stream.reply()
    await watch.final(reply_id)
    assert (reply.state, reply.attempt) == (COMPLETED, 2)
    requests = colloquy.provider.reply_requests
    assert reply.content == requests[1].text
    for seen in (stream, watch):
        # Transcript has checked that no delta left a gap or overlapped.
        assert seen.transcript.messages[reply_id].content == reply.content
        assert seen.transcript.joined[reply_id, 2] == reply.content
        begun = [
            event.message
            for event in seen.events
            if event.WhichOneof("event") == "message" and event.message.attempt == 2
        ]
        assert begun[0].content == "", "a new attempt begins empty"
    assert stream.transcript.joined[reply_id, 1] == requests[0].text
    watch.cancel()


async def test_a_reply_that_fails_in_the_end_keeps_the_text_that_it_had(
    colloquy: Colloquy, alice: Caller
) -> None:
    colloquy.provider.script(
        Answer(tokens=20, drop_after=4), Answer(status=500), Answer(status=500)
    )
    conversation = await alice.create(title="Faults")
    stream = alice.send(conversation.id)
    reply = await stream.reply()
    assert (reply.state, reply.attempt) == (FAILED, 1)
    assert reply.content == colloquy.provider.reply_requests[0].text
    assert len(reply.content.split()) == 4
    assert reason_of(reply) == "PROVIDER_UNAVAILABLE"
    assert stream.transcript.joined[reply.id, 1] == reply.content


async def test_each_attempt_that_comes_to_text_has_a_larger_number(
    colloquy: Colloquy, alice: Caller
) -> None:
    colloquy.provider.script(Answer(drop_after=3), Answer(drop_after=5), Answer(drop_after=2))
    conversation = await alice.create(title="Faults")
    stream = alice.send(conversation.id)
    reply = await stream.reply()
    assert (reply.state, reply.attempt) == (FAILED, 3)
    texts = [request.text for request in colloquy.provider.reply_requests]
    assert [stream.transcript.joined[reply.id, attempt] for attempt in (1, 2, 3)] == texts
    assert reply.content == texts[2], "the text of the last attempt"


@ANY
async def test_a_stream_that_stalls_is_timed_out_and_retried(
    colloquy: Colloquy, alice: Caller
) -> None:
    await colloquy.restart(provider_idle_timeout=0.2)
    alice = alice.at(colloquy)
    colloquy.provider.script(
        Answer(tokens=10, stall_after=5), Answer(stall_after=2), Answer(stall_after=3)
    )
    conversation = await alice.create(title="Faults")
    reply = await alice.send(conversation.id).reply()
    assert (reply.state, reply.attempt) == (FAILED, 3)
    assert reason_of(reply) == "PROVIDER_TIMEOUT"
    assert reply.content == colloquy.provider.reply_requests[2].text
    assert all(r.outcome == "client closed" for r in colloquy.provider.reply_requests)


@ANY
async def test_an_error_in_the_middle_of_a_stream_is_an_error_of_the_reply(
    colloquy: Colloquy, alice: Caller
) -> None:
    rejected = {"message": "secret detail", "type": "invalid_request_error"}
    colloquy.provider.script(Answer(error_after=3), Answer(error_after=2, error=rejected))
    conversation = await alice.create(title="Faults")
    reply = await alice.send(conversation.id).reply()
    assert (reply.state, reply.attempt) == (FAILED, 2)
    assert reason_of(reply) == "PROVIDER_REJECTED"
    assert reply.content == colloquy.provider.reply_requests[1].text
    assert "secret" not in str(reply)


@ANY
async def test_a_filtered_reply_keeps_its_text_and_its_cost_and_says_why_it_ended(
    colloquy: Colloquy, alice: Caller
) -> None:
    colloquy.provider.script(Answer(tokens=4, finish="content_filter"))
    conversation = await alice.create(title="Faults")
    reply = await alice.send(conversation.id).reply()
    assert (reply.state, reason_of(reply)) == (FAILED, "CONTENT_FILTERED")
    assert reply.finish_reason == "content_filter"
    assert reply.content == colloquy.provider.reply_requests[0].text
    assert reply.usage.output_tokens == 4
    assert reply.usage.cost_usd > 0
    assert await alice.message(reply.id) == reply
    assert len(colloquy.provider.reply_requests) == 1


@ANY
async def test_odd_but_whole_answers_are_taken(colloquy: Colloquy, alice: Caller) -> None:
    """No usage, no [DONE], comments, CRLF, empty choices, split UTF-8, no last blank line."""
    odd = [
        Answer(pieces=["naïve ", "日本"], usage=False),
        Answer(pieces=["naïve ", "日本"], done=False, final_blank_line=False),
        Answer(pieces=["naïve ", "日本"], comments=True, end_of_line="\r\n", empty_choices=True),
        Answer(pieces=["naïve ", "日本"], packet_size=1),
    ]
    colloquy.provider.script(*odd)
    conversation = await alice.create(title="Faults")
    for answer in odd:
        reply = await alice.send(conversation.id).reply()
        assert (reply.state, reply.content) == (COMPLETED, "naïve 日本")
        assert reply.HasField("usage") == answer.usage
    assert len(colloquy.provider.reply_requests) == len(odd)


async def test_usage_cost_and_finish_reason_are_the_providers(
    colloquy: Colloquy, alice: Caller
) -> None:
    colloquy.provider.script(Answer(tokens=7, finish="length"))
    conversation = await alice.create(title="Usage")
    reply = await alice.send(conversation.id, "one two three").reply()
    assert reply.finish_reason == "length"
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (3, 7)
    assert reply.usage.cost_usd == pytest.approx(3 * 0.001 / 1_000 + 7 * 0.002 / 1_000)
    assert (await alice.message(reply.id)).usage == reply.usage


THINKING = [{"reasoning_content": "hm"}]
PAID = {"prompt_tokens": 100, "completion_tokens": 50}

BLANK: dict[str, tuple[Answer, str, int]] = {
    "nothing": (Answer(tokens=0, counts=PAID), "was empty", 3),
    "the end alone": (Answer(raw=[b"data: [DONE]\n\n"]), "was empty", 3),
    "spaces": (Answer(pieces=[" ", "\n"], counts=PAID), "was empty", 3),
    "thinking": (
        Answer(tokens=0, deltas=THINKING, finish="length", counts=PAID),
        "its whole output on thinking",
        1,
    ),
    "a tool": (
        Answer(tokens=0, deltas=[{"tool_calls": [{}]}], finish="tool_calls", counts=PAID),
        "asked for a tool",
        1,
    ),
    "a picture": (Answer(tokens=0, deltas=[{"images": [{}]}], counts=PAID), "a picture", 1),
    "sound": (Answer(tokens=0, deltas=[{"audio": {"transcript": "la"}}]), "sound", 1),
}


@ANY
async def test_a_blank_reply_is_no_success_and_its_cost_is_counted(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Blank")
    for name, (answer, told, requests) in BLANK.items():
        before = len(colloquy.provider.reply_requests)
        colloquy.provider.script(*[answer] * requests)
        reply = await alice.send(conversation.id).reply()
        assert (reply.state, reason_of(reply)) == (FAILED, "PROVIDER_UNAVAILABLE"), name
        assert told in reply.error.message, name
        assert not reply.content.strip(), name
        assert len(colloquy.provider.reply_requests) - before == requests, name
        if answer.counts is not None:
            counted = (reply.usage.input_tokens, reply.usage.output_tokens)
            assert counted == (100 * requests, 50 * requests), f"{name}: all attempts cost"
            assert reply.usage.cost_usd > 0, name
        assert await alice.message(reply.id) == reply, name


async def test_what_an_attempt_cost_that_failed_is_counted_too(
    colloquy: Colloquy, alice: Caller
) -> None:
    colloquy.provider.script(Answer(tokens=0, counts=PAID), Answer(tokens=5, counts=PAID))
    conversation = await alice.create(title="Cost")
    reply = await alice.send(conversation.id).reply()
    assert (reply.state, len(reply.content.split())) == (COMPLETED, 5)
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (200, 100)


async def test_what_a_reply_cost_before_it_was_cancelled_is_counted(
    colloquy: Colloquy, alice: Caller
) -> None:
    colloquy.provider.script(Answer(tokens=0, counts=PAID), Answer(tokens=5, stall_after=2))
    conversation = await alice.create(title="Cancelled")
    stream = alice.send(conversation.id)
    reply_id = (await stream.accepted()).reply.id
    await text_of(stream, reply_id, 2)
    await alice.cancel(reply_id)
    reply = await stream.reply()
    assert reply.state == resources.Message.STATE_CANCELLED
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (100, 50)


async def test_a_failure_inside_a_choice_fails_the_reply(colloquy: Colloquy, alice: Caller) -> None:
    colloquy.provider.script(Answer(tokens=3, finish="error"), Answer(tokens=4, finish="SAFETY"))
    conversation = await alice.create(title="Choice")
    reply = await alice.send(conversation.id).reply()
    assert (reply.state, reason_of(reply), reply.attempt) == (FAILED, "CONTENT_FILTERED", 2)
    assert reply.finish_reason == "content_filter"
    assert reply.content == colloquy.provider.reply_requests[1].text


@ANY
async def test_an_answer_whose_frame_a_proxy_broke_is_taken(
    colloquy: Colloquy, alice: Caller
) -> None:
    said = '{"choices": [{"index": 0, "delta": {"content": "so"}}]}'
    end = '{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}'
    frames = [
        f"data: data: {said}\ndata:\n\ndata: data: {end}\n\ndata: data: [DONE]\n\n",
        f"data: : PROCESSING\n\ndata: ping\n\ndata: {said}{end}\n\n",
        f"data: {said}\ndata: {end}\ndata: [DONE]\n",
        f"{said}\n{end}\n",
    ]
    colloquy.provider.script(*(Answer(raw=[frame.encode()]) for frame in frames))
    conversation = await alice.create(title="Frames")
    for _ in frames:
        reply = await alice.send(conversation.id).reply()
        assert (reply.state, reply.content, reply.attempt) == (COMPLETED, "so", 1)


PAGE = b"<!DOCTYPE html><title>Just a moment...</title>"
NO_PICTURES = {"error": {"code": 404, "message": "No endpoints found that support image input"}}
NO_SYSTEM = {"object": "error", "message": "System role not supported", "code": 400}
LOGIN = {"choices": None, "base_resp": {"status_code": 1004, "status_msg": "login fail: secret"}}


@pytest.mark.parametrize(
    ("answer", "reason", "told"),
    [
        (Answer(status=403, body=PAGE), "PROVIDER_REJECTED", "turned this server away"),
        (Answer(status=404, body=NO_PICTURES), "PROVIDER_REJECTED", "does not take pictures"),
        (Answer(status=400, body=NO_SYSTEM), "PROVIDER_REJECTED", "takes no system prompt"),
        (Answer(body=LOGIN), "PROVIDER_AUTHENTICATION", "API key"),
        (Answer(raw=[b"data: Prompt too long\n\n"]), "PROVIDER_REJECTED", "too long"),
    ],
)
async def test_a_failure_is_told_where_others_say_it(
    colloquy: Colloquy, alice: Caller, answer: Answer, reason: str, told: str
) -> None:
    colloquy.provider.script(answer, answer)
    conversation = await alice.create(title="Words")
    reply = await alice.send(conversation.id).reply()
    assert (reply.state, reason_of(reply), reply.attempt) == (FAILED, reason, 1)
    assert told in reply.error.message


async def test_a_reset_with_the_counts_still_owed_is_asked_again(
    colloquy: Colloquy, alice: Caller
) -> None:
    cut = Answer(tokens=3, usage=False, done=False, reset_at_end=True)
    colloquy.provider.script(cut, Answer(tokens=4, done=False, reset_at_end=True))
    conversation = await alice.create(title="Owed")
    reply = await alice.send(conversation.id).reply()
    assert (reply.state, reply.attempt) == (COMPLETED, 2)
    assert reply.content == colloquy.provider.reply_requests[1].text


async def test_a_finish_reason_of_another_name_is_told_by_the_apis(
    colloquy: Colloquy, alice: Caller
) -> None:
    colloquy.provider.script(Answer(tokens=3, finish="MAX_TOKENS"))
    conversation = await alice.create(title="Names")
    assert (await alice.send(conversation.id).reply()).finish_reason == "length"


async def test_each_failure_is_logged_by_what_the_provider_calls_it_and_without_text(
    colloquy: Colloquy, alice: Caller
) -> None:
    error = {"message": "secret detail", "code": "unsupported_value", "param": "temperature"}
    headers = {"x-request-id": "req_42"}
    colloquy.provider.script(
        Answer(status=503, headers={**headers, "Retry-After": "0"}),
        Answer(status=400, headers=headers, body={"error": error}),
    )
    conversation = await alice.create(title="Log")
    with structlog.testing.capture_logs() as lines:
        reply = await alice.send(conversation.id, "what I say").reply()
    assert (reply.state, reason_of(reply)) == (FAILED, "PROVIDER_REJECTED")
    assert "settings" in reply.error.message, "the operator's, not the person's"
    first, last = [line for line in lines if line["event"] == "provider failed"]
    assert (first["status"], first["provider_request_id"]) == (503, "req_42")
    assert first["retry_in"] is not None
    assert last["retry_in"] is None
    names = ("status", "code", "param", "provider_request_id", "message_id")
    named = {name: last[name] for name in names}
    assert named == {
        "status": 400,
        "code": "unsupported_value",
        "param": "temperature",
        "provider_request_id": "req_42",
        "message_id": reply.id,
    }
    assert "secret" not in str(lines)
    assert "what I say" not in str(lines)


async def test_a_reply_ends_at_one_mib(colloquy: Colloquy, alice: Caller) -> None:
    piece = "é" * 10_000
    colloquy.provider.script(Answer(pieces=[piece] * 60))
    conversation = await alice.create(title="Long")
    stream = alice.send(conversation.id)
    reply = await stream.reply()
    assert (reply.state, reply.finish_reason) == (COMPLETED, "length")
    assert len(reply.content.encode()) == MIB
    assert set(reply.content) == {"é"}
    assert stream.transcript.joined[reply.id, 1] == reply.content
    (request,) = colloquy.provider.reply_requests
    await request.ended()
    assert (await alice.message(reply.id)).content == reply.content


async def test_text_that_no_database_takes_is_repaired(colloquy: Colloquy, alice: Caller) -> None:
    colloquy.provider.script(
        Answer(pieces=["a\0b", "\0", "\ud83d", "\ude00", " \udc00lone", "end\ud800"])
    )
    conversation = await alice.create(title="Odd")
    stream = alice.send(conversation.id)
    reply = await stream.reply()
    assert reply.content == "ab😀 \ufffdloneend\ufffd"
    assert stream.transcript.joined[reply.id, 1] == reply.content
    assert (await alice.message(reply.id)).content == reply.content


async def test_a_provider_that_is_not_there_is_unavailable(
    colloquy: Colloquy, alice: Caller
) -> None:
    await colloquy.provider.close()
    conversation = await alice.create(title="Away")
    reply = await alice.send(conversation.id).reply()
    assert (reply.state, reason_of(reply)) == (FAILED, "PROVIDER_UNAVAILABLE")


async def test_trouble_of_one_conversation_is_none_of_another(
    colloquy: Colloquy, alice: Caller
) -> None:
    """While one waits for its next attempt, the others are written."""
    colloquy.provider.script(Answer(status=503, headers={"Retry-After": "55"}))
    troubled, well = await alice.create(title="Troubled"), await alice.create(title="Well")
    stream = alice.send(troubled.id)
    waiting = (await stream.accepted()).reply
    await colloquy.provider.wait_for_requests(1)
    gate = asyncio.Event()
    colloquy.provider.script(half(gate))
    other = alice.send(well.id)
    await text_of(other, (await other.accepted()).reply.id, HALF)
    gate.set()
    assert (await other.reply()).state == COMPLETED
    # Nobody asked again for the one that waits.
    assert len(colloquy.provider.reply_requests) == 2
    assert (await alice.message(waiting.id)).state == resources.Message.STATE_GENERATING
    await alice.cancel(waiting.id)
    await stream.rest()

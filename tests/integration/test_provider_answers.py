"""What a provider's answer is when it is not what it seems, over real HTTP against the double."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from colloquy_server.providers.catalog import Catalog
from colloquy_server.providers.chunks import AnswerReader
from colloquy_server.providers.client import ProviderError, Providers
from colloquy_server.providers.usage import TokenUsage
from colloquy_server.providers.watchdog import Watchdog

from tests.fakes.provider import Answer, ProviderDouble

IDLE = 60.0
"""Seconds that may pass between two packets."""

MESSAGES = b'[{"role":"user","content":"one two three"}]'
THINKING = [{"role": "assistant", "content": ""}, {"reasoning_content": "hm"}]


class Asked:
    """What came of one answer."""

    def __init__(self) -> None:
        self.text = ""
        self.finish_reason: str | None = None
        self.usage: TokenUsage | None = None
        self.error: ProviderError | None = None

    @property
    def failure(self) -> ProviderError:
        assert self.error is not None
        return self.error


class Asker:
    """Asks the double one question after the other."""

    def __init__(self, double: ProviderDouble, providers: Providers, catalog: Catalog) -> None:
        self._double, self._providers, self._catalog = double, providers, catalog
        self.has_text = asyncio.Event()

    async def __call__(self, answer: Answer) -> Asked:
        self._double.script(answer)
        asked = Asked()
        try:
            async with self._providers.open(self._catalog.resolve("gpt"), MESSAGES) as stream:
                try:
                    async for piece in stream:
                        asked.text += piece
                        self.has_text.set()
                finally:
                    asked.finish_reason, asked.usage = stream.finish_reason, stream.usage
        except ProviderError as error:
            asked.error = error
        return asked


@pytest.fixture
async def ask(tmp_path: Path) -> AsyncIterator[Asker]:
    async with ProviderDouble(title_models=set()) as double:
        entry = {"context_window": 1000, "max_output_tokens": 100}
        content = {
            "providers": {"openai": {"base_url": double.base_url}},
            "models": {"gpt": {**entry, "provider": "openai", "input_price": 0, "output_price": 0}},
            "default_model": "gpt",
            "title_model": "gpt",
        }
        path = tmp_path / "models.yml"
        path.write_text(yaml.safe_dump(content))
        catalog = Catalog.load(path, lambda _: None)
        providers = Providers({}, idle_timeout=IDLE, local_model=None)
        try:
            yield Asker(double, providers, catalog)
        finally:
            await providers.close()


def events(*values: Any) -> list[bytes]:
    texts = (value if isinstance(value, str) else json.dumps(value) for value in values)
    return [f"data: {text}\n\n".encode() for text in texts]


def choice(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, **fields}]}


def said(text: str, **fields: Any) -> dict[str, Any]:
    return choice(delta={"content": text}, **fields)


FINISHED = choice(delta={}, finish_reason="stop")
COUNTED = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}


# Answers without a text.

NOTHING: dict[str, Answer] = {
    "no text": Answer(tokens=0),
    "spaces": Answer(pieces=[" ", "\n", "\t "]),
    "the end alone": Answer(raw=events("[DONE]")),
    "a role": Answer(raw=events(choice(delta={"role": "assistant", "content": ""}), "[DONE]")),
    "a stop": Answer(raw=events(FINISHED, "[DONE]")),
    "a body": Answer(body={"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]}),
    "an empty message": Answer(body={"choices": [{"message": {}}]}),
    "another choice": Answer(raw=events({"choices": [{"index": 1, "delta": {"content": "b"}}]},
                                        FINISHED)),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTHING)
async def test_nothing_at_all_may_be_had_again(ask: Asker, name: str) -> None:
    asked = await ask(NOTHING[name])
    assert (asked.failure.reason, asked.failure.retryable) == ("PROVIDER_UNAVAILABLE", True)
    assert "empty" in asked.failure.message


PAID: dict[str, tuple[Answer, str]] = {
    "thinking to the limit": (
        Answer(pieces=[], deltas=THINKING, finish="length"),
        "used its whole output on thinking",
    ),
    "thinking that is only counted": (
        Answer(
            pieces=[],
            finish="length",
            counts={
                "prompt_tokens": 3,
                "completion_tokens": 9,
                "completion_tokens_details": {"reasoning_tokens": 9},
            },
        ),
        "used its whole output on thinking",
    ),
    "thinking in the total alone": (
        Answer(
            pieces=[],
            finish="MAX_TOKENS",
            counts={"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 103},
        ),
        "used its whole output on thinking",
    ),
    "a limit": (Answer(pieces=[], finish="length"), "output limit before it said anything"),
    "thinking": (Answer(pieces=[], deltas=THINKING), "thought, but gave no answer"),
    "thinking in parts": (
        Answer(pieces=[], deltas=[{"content": [{"type": "thinking", "thinking": [{}]}]}]),
        "thought, but gave no answer",
    ),
    "a tool": (
        Answer(pieces=[], deltas=[{"tool_calls": [{"index": 0}]}], finish="tool_calls"),
        "asked for a tool",
    ),
    "a tool by its reason": (Answer(pieces=[], finish="tool_calls"), "asked for a tool"),
    "a picture": (Answer(pieces=[], deltas=[{"images": [{"type": "image_url"}]}]), "a picture"),
    "sound": (Answer(pieces=[], deltas=[{"audio": {"transcript": "la"}}]), "sound alone"),
    "a body": (
        Answer(
            body={
                "choices": [
                    {"message": {"reasoning": "hm", "content": None}, "finish_reason": "length"}
                ],
                "usage": {"prompt_tokens": 3, "completion_tokens": 1},
            }
        ),
        "used its whole output on thinking",
    ),
}


@pytest.mark.parametrize("name", PAID)
async def test_what_was_paid_for_and_has_no_text_says_what_it_was(ask: Asker, name: str) -> None:
    answer, told = PAID[name]
    asked = await ask(answer)
    assert told in asked.failure.message
    assert (asked.failure.reason, asked.failure.retryable) == ("PROVIDER_UNAVAILABLE", False)
    assert asked.failure.is_blank
    assert asked.usage is not None


# Text where others have it.


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (events(choice(message={"content": "whole"}, finish_reason="stop")), "whole"),
        (events(choice(message={"content": "a"}), choice(message={"content": "b"}), FINISHED),
         "ab"),
        (events(choice(message={"content": "a"}), choice(message={"content": "ab"}), FINISHED),
         "ab"),
        (events(choice(delta={"content": "a"}, message={"content": "a"}),
                choice(delta={"content": "b"}, message={"content": "ab"}),
                choice(delta={}, message={"content": "ab"}, finish_reason="stop")), "ab"),
        (events(choice(text="a"), choice(text="b"), choice(text="", finish_reason="stop")), "ab"),
        (events(choice(delta={"content": {"type": "text", "text": "a"}}), FINISHED), "a"),
        (events({"choices": [{"index": "0", "delta": {"content": "a"}}]}, FINISHED), "a"),
        ([b'{"choices": [{"text": "a"}]}'], "a"),
        ([b'{"choices": [{"index": 1, "message": {"content": "b"}},',
          b' {"index": 0, "message": {"content": "a"}}]}'], "a"),
    ],
)  # fmt: skip
async def test_text_is_found_where_others_have_it(
    ask: Asker, raw: Sequence[bytes], text: str
) -> None:
    asked = await ask(Answer(raw=raw))
    assert (asked.text, asked.finish_reason, asked.error) == (text, "stop", None)


async def test_of_choices_that_come_in_turns_only_the_first_is_read(ask: Asker) -> None:
    def other(text: str, **fields: Any) -> dict[str, Any]:
        return {"choices": [{"index": 1, "delta": {"content": text}, **fields}]}

    both = {"choices": [*other("d")["choices"], *said("c")["choices"]]}
    raw = events(other("x"), said("a"), other("y"), said("b"), other("z", finish_reason="length"),
                 both, FINISHED, other("late"), "[DONE]")  # fmt: skip
    asked = await ask(Answer(raw=raw))
    assert (asked.text, asked.finish_reason, asked.error) == ("abc", "stop", None)


# Failures inside a choice.


@pytest.mark.parametrize(
    ("last", "reason", "retryable"),
    [
        ([choice(delta={}, finish_reason="error")], "PROVIDER_UNAVAILABLE", True),
        ([choice(delta={}, finish_reason="error"), {"error": {"code": 402, "message": "secret"}}],
         "PROVIDER_QUOTA", False),
        ([choice(delta={}, finish_reason="error", error={"code": 429})],
         "PROVIDER_RATE_LIMITED", True),
        ([choice(error={"code": 400, "message": "secret"})], "PROVIDER_REJECTED", False),
        ([{"choices": [{"delta": {}, "finish_reason": "error"}], "error": {"code": 502}}],
         "PROVIDER_UNAVAILABLE", True),
        *(([choice(delta={}, finish_reason=word)], "CONTENT_FILTERED", False)
          for word in ("SAFETY", "RECITATION", "PROHIBITED_CONTENT", "content_filter: SPII",
                       "refusal", "sensitive", "content_filter")),
        *(([choice(delta={}, finish_reason=word)], "PROVIDER_UNAVAILABLE", True)
          for word in ("insufficient_system_resource", "network_error", "abort")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("before", ["", "some text"])
async def test_a_failure_inside_a_choice_is_that_failure(
    ask: Asker, last: list[Any], reason: str, retryable: bool, before: str
) -> None:
    first = [said(before)] if before else []
    asked = await ask(Answer(raw=events(*first, *last, COUNTED, "[DONE]")))
    assert asked.text == before
    assert (asked.failure.reason, asked.failure.retryable) == (reason, retryable)
    assert not asked.failure.is_blank


# Finish reasons.


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("length", "length"),
        ("MAX_TOKENS", "length"),
        ("max_output_tokens", "length"),
        ("model_length", "length"),
        ("STOP", "stop"),
        ("end_turn", "stop"),
        ("null", "stop"),
        ("None", "stop"),
        ("", "stop"),
        (7, "stop"),
        ("of its own", "of its own"),
    ],
)
async def test_finish_reasons_are_told_by_the_names_that_the_api_has(
    ask: Asker, word: object, reason: str
) -> None:
    asked = await ask(Answer(raw=events(said("a", finish_reason=word), "[DONE]")))
    assert (asked.text, asked.finish_reason, asked.error) == ("a", reason, None)


async def test_the_word_null_is_no_end(ask: Asker) -> None:
    asked = await ask(Answer(raw=events(said("a", finish_reason="null"))))
    assert (asked.text, asked.failure.reason) == ("a", "PROVIDER_UNAVAILABLE")


async def test_text_after_a_finish_reason_is_text(ask: Asker) -> None:
    raw = events(
        said("a", finish_reason="stop"), said("b", finish_reason="stop"), said("c"), COUNTED
    )
    asked = await ask(Answer(raw=raw))
    assert (asked.text, asked.finish_reason, asked.error) == ("abc", "stop", None)
    assert asked.usage == TokenUsage(3, 5)


@pytest.mark.parametrize(
    ("ending", "is_whole"),
    [
        ([FINISHED], False),
        ([FINISHED, COUNTED], True),
        ([{**FINISHED, "usage": COUNTED["usage"]}], True),
        ([FINISHED, "[DONE]"], True),
        ([FINISHED, COUNTED, "[DONE]"], True),
        ([COUNTED], False),
        ([FINISHED, COUNTED, said("b")], False),
    ],
)
async def test_a_reset_after_the_finish_reason_is_judged_by_what_was_still_owed(
    ask: Asker, ending: list[Any], is_whole: bool
) -> None:
    asked = await ask(Answer(raw=events(said("a"), *ending), drop_after=0))
    assert asked.text.startswith("a")
    if is_whole:
        assert (asked.finish_reason, asked.error) == ("stop", None)
    else:
        assert (asked.failure.reason, asked.failure.retryable) == ("PROVIDER_UNAVAILABLE", True)


async def test_half_an_event_before_a_reset_does_not_make_an_answer_whole(ask: Asker) -> None:
    asked = await ask(Answer(raw=[*events(said("a"), FINISHED), b'data: {"cho'], drop_after=0))
    assert asked.failure.reason == "PROVIDER_UNAVAILABLE"


@pytest.mark.parametrize(
    "body", [b'{"choices": [{"mess', b'{"choices": [{"message": {"content": "a"}}]}']
)
async def test_a_body_that_was_cut_is_not_whole(ask: Asker, body: bytes) -> None:
    asked = await ask(Answer(raw=[body], drop_after=0))
    is_json = body.endswith(b"}]}")
    assert (asked.text, asked.error is None) == (("a", True) if is_json else ("", False))


# Counts.

COUNTS: dict[str, tuple[list[dict[str, Any]], TokenUsage | None]] = {
    "as they should be": (
        [{"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}],
        TokenUsage(3, 5),
    ),
    "growing": (
        [{"prompt_tokens": 3, "completion_tokens": 1},
         {"prompt_tokens": 3, "completion_tokens": 5}],
        TokenUsage(3, 5),
    ),
    "in parts": ([{"prompt_tokens": 3}, {"completion_tokens": 5}], TokenUsage(3, 5)),
    "in parts with zeros": (
        [
            {"prompt_tokens": 3, "completion_tokens": 0},
            {"prompt_tokens": 0, "completion_tokens": 5},
        ],
        TokenUsage(3, 5),
    ),
    "thinking among the output": (
        [{"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12,
          "completion_tokens_details": {"reasoning_tokens": 4}}],
        TokenUsage(3, 9),
    ),
    "thinking in the total alone": (
        [{"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 208}],
        TokenUsage(3, 205),
    ),
    "thinking apart": (
        [{"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 18,
          "completion_tokens_details": {"reasoning_tokens": 10}}],
        TokenUsage(3, 15),
    ),
    "thinking apart without a total": (
        [{"prompt_tokens": 3, "completion_tokens": 5,
          "completion_tokens_details": {"reasoning_tokens": 10}}],
        TokenUsage(3, 15),
    ),
    "without completion tokens": (
        [{"prompt_tokens": 3, "total_tokens": 8}],
        TokenUsage(3, 5),
    ),
    "null completion tokens": (
        [{"prompt_tokens": 3, "completion_tokens": None, "total_tokens": 3}],
        TokenUsage(3, 0),
    ),
    "prompt tokens alone": ([{"prompt_tokens": 3}], TokenUsage(3, 0)),
    "without prompt tokens": ([{"completion_tokens": 5, "total_tokens": 8}], TokenUsage(3, 5)),
    "kept input": (
        [{"prompt_tokens": 30, "completion_tokens": 5,
          "prompt_tokens_details": {"cached_tokens": 20}}],
        TokenUsage(30, 5, 20),
    ),
    "kept input at DeepSeek": (
        [{"prompt_tokens": 30, "completion_tokens": 5, "prompt_cache_hit_tokens": 20}],
        TokenUsage(30, 5, 20),
    ),
    "Anthropic's names": (
        [{"input_tokens": 3, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 7,
          "output_tokens": 5}],
        TokenUsage(30, 5, 20),
    ),
    "more kept than there was": (
        [{"prompt_tokens": 3, "completion_tokens": 5,
          "prompt_tokens_details": {"cached_tokens": 20}}],
        TokenUsage(3, 5, 3),
    ),
    "nothing": ([{"prompt_tokens": None}, {"completion_tokens": True}], None),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
async def test_counts_are_read_in_all_their_forms(ask: Asker, name: str) -> None:
    counts, usage = COUNTS[name]
    parts = [{"choices": [], "usage": part} for part in counts]
    asked = await ask(Answer(raw=events(said("a"), FINISHED, *parts, "[DONE]")))
    assert (asked.text, asked.usage, asked.error) == ("a", usage, None)


@pytest.mark.parametrize(
    "chunk",
    [
        choice(delta={}, finish_reason="stop", usage={"prompt_tokens": 3, "completion_tokens": 5}),
        {**FINISHED, "x_groq": {"usage": {"prompt_tokens": 3, "completion_tokens": 5}}},
        {"choices": [], "x_groq": {"usage": {"prompt_tokens": 3, "completion_tokens": 5}}},
    ],
)
async def test_counts_are_found_where_others_have_them(ask: Asker, chunk: dict[str, Any]) -> None:
    asked = await ask(Answer(raw=events(said("a"), chunk, FINISHED, "[DONE]")))
    assert asked.usage == TokenUsage(3, 5)


# A body that is an error, whatever its status.


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"error": "Unexpected endpoint or method. (POST /chat/completions)"}, "address"),
        ([{"error": {"code": 400, "message": "API key not valid."}}], "API key"),
        ({"error": {"message": "prompt is too long"}, "choices": []}, "too long"),
    ],
)
async def test_an_error_with_the_status_of_a_success_is_one(
    ask: Asker, body: Any, told: str
) -> None:
    asked = await ask(Answer(body=body))
    assert told in asked.failure.message
    assert not asked.failure.retryable
    asked = await ask(Answer(raw=events(body)))
    assert told in asked.failure.message


# What the log may say.


async def test_a_failure_in_a_stream_has_the_requests_id(ask: Asker) -> None:
    headers = {"X-Request-Id": "req_7"}
    asked = await ask(Answer(error_after=1, headers=headers))
    assert asked.failure.log_fields() == {
        "reason": "PROVIDER_UNAVAILABLE",
        "detail": "server_error",
        "code": "server_error",
        "provider_request_id": "req_7",
    }
    asked = await ask(Answer(tokens=0, headers={**headers, "Content-Type": "text/event-stream"}))
    assert asked.failure.log_fields() == {
        "reason": "PROVIDER_UNAVAILABLE",
        "detail": "no text, finish reason stop",
        "provider_request_id": "req_7",
    }


async def test_one_that_says_stop_in_each_chunk_may_take_its_time(
    ask: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    restored: list[Watchdog] = []
    monkeypatch.setattr(Watchdog, "restore", lambda self: restored.append(self))
    gate = asyncio.Event()
    answer = Answer(pieces=["a", "b", "c"], finish_in_each=True, gate_after=1, gate=gate)
    asking = asyncio.create_task(ask(answer))
    await ask.has_text.wait()
    gate.set()
    asked = await asking
    assert (asked.text, asked.finish_reason, asked.error) == ("abc", "stop", None)
    assert restored, "after more text it is waited for as before"


async def test_a_watchdog_waits_as_before_when_it_is_restored() -> None:
    async def read() -> bytes:
        await asyncio.sleep(0.01)
        return b"a"

    watchdog = Watchdog(asyncio.get_running_loop().time(), IDLE, IDLE, IDLE)
    assert await watchdog.next(read) == b"a"
    watchdog.shorten(0.0)
    watchdog.restore()
    assert await watchdog.next(read) == b"a"
    watchdog.shorten(0.0)
    with pytest.raises(TimeoutError):
        await watchdog.next(read)
    watchdog.stop()


def test_silence_after_a_finish_reason_is_no_end_for_one_that_went_on_after_another() -> None:
    silence = ProviderError("PROVIDER_TIMEOUT")
    for texts, error in ((["a"], None), (["a", "b"], silence)):
        reader = AnswerReader()
        for text in texts:
            reader.feed(b"".join(events(said(text, finish_reason="stop"))))
        reader.close(silence)
        assert reader.error is error

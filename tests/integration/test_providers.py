"""Every fault of a provider, over real HTTP against the double."""

import asyncio
import contextlib
import gzip
import io
import json
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import http_writer
from colloquy_server.providers.catalog import Catalog, Model, Transcriber
from colloquy_server.providers.client import ProviderError, Providers, TokenUsage
from colloquy_server.providers.connection import BODY_PIECE, certificates

from tests.fakes.provider import Answer, ProviderDouble

MESSAGES = b'[{"role":"user","content":"one two three"}]'
KEY = "sk-the-secret-key"
PIECES = ["Hello", ", ", "wörld 🌍", "!"]
WHOLE = "".join(PIECES)

Make = Callable[..., Providers]


def _far(base_url: str) -> str:
    """The same address as one that does not look like this machine's own."""
    return base_url.replace("127.0.0.1", "0.0.0.0")


@pytest.fixture
async def double() -> AsyncIterator[ProviderDouble]:
    async with ProviderDouble(title_models=set()) as double:
        yield double


@pytest.fixture
def catalog(tmp_path: Path, double: ProviderDouble) -> Catalog:
    entry = {
        "context_window": 1000,
        "max_output_tokens": 100,
        "input_price": 0,
        "output_price": 0,
    }
    content = {
        "providers": {
            "openai": {"api_key_env": "OPENAI_API_KEY"},
            "other": {"base_url": double.base_url, "api_key_env": "OTHER_KEY"},
            "keyless": {"base_url": f"{double.base_url}/"},
            "far": {"base_url": f"{_far(double.base_url)}?version=1"},
        },
        "models": {
            "gpt": {**entry, "provider": "openai"},
            "claude": {**entry, "provider": "other"},
            "llama": {
                **entry,
                "provider": "keyless",
                "request": {"repeat_penalty": 1.1, "logit_bias": {7: -100}},
            },
            "far": {**entry, "provider": "far"},
        },
        "default_model": "gpt",
        "title_model": "gpt",
    }
    path = tmp_path / "models.yml"
    path.write_text(yaml.safe_dump(content))
    return Catalog.load(path, {"OPENAI_API_KEY": KEY, "OTHER_KEY": KEY}.get)


@pytest.fixture
async def make(catalog: Catalog, double: ProviderDouble) -> AsyncIterator[Make]:
    made: list[Providers] = []
    environ = {
        "OPENAI_API_KEY": KEY,
        "OTHER_KEY": f"{KEY}\n",
        "OPENAI_BASE_URL": double.base_url,
        "OPENAI_ORG_ID": "org-ours",
        "OPENAI_PROJECT_ID": " ",
    }

    def make(**timeouts: Any) -> Providers:
        made.append(Providers(environ, local_model=None, **timeouts))
        return made[-1]

    yield make
    for providers in made:
        await providers.close()


@pytest.fixture
def model(catalog: Catalog) -> Model:
    return catalog.resolve("gpt")


class Outcome:
    """What came of one answer."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.finish_reason: str | None = None
        self.usage: TokenUsage | None = None
        self.error: ProviderError | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def failure(self) -> ProviderError:
        assert self.error is not None
        return self.error


async def ask(providers: Providers, model: Model, **options: Any) -> Outcome:
    outcome = Outcome()
    try:
        async with providers.open(model, MESSAGES, **options) as stream:
            try:
                async for text in stream:
                    assert text
                    outcome.pieces.append(text)
            finally:
                outcome.finish_reason, outcome.usage = stream.finish_reason, stream.usage
    except ProviderError as error:
        outcome.error = error
    if outcome.error is not None:
        _assert_nothing_leaks(outcome.error)
    return outcome


def _assert_nothing_leaks(error: ProviderError) -> None:
    shown = f"{error} {error!r} {error.detail}"
    assert "secret" not in shown
    assert "sk-" not in shown
    assert error.__cause__ is None
    assert error.__context__ is None


def sse(*events: str) -> list[bytes]:
    return ["".join(f"data: {event}\n\n" for event in events).encode()]


def delta(text: str) -> str:
    return f'{{"choices": [{{"index": 0, "delta": {{"content": "{text}"}}}}]}}'


FINISHED = '{"choices": [{"delta": {}, "finish_reason": "stop"}]}'


# Good answers, in all the ways in which providers send them.


@pytest.mark.parametrize(
    "answer",
    [
        Answer(pieces=PIECES),
        Answer(pieces=PIECES, end_of_line="\r\n"),
        Answer(pieces=PIECES, end_of_line="\r"),
        Answer(pieces=PIECES, comments=True, empty_choices=True),
        Answer(pieces=PIECES, packet_size=1),
        Answer(pieces=PIECES, packet_size=7, end_of_line="\r\n", comments=True),
        Answer(pieces=PIECES, done=False),
        Answer(pieces=PIECES, finish=None),
        Answer(pieces=PIECES, final_blank_line=False),
        Answer(pieces=PIECES, done=False, final_blank_line=False),
        Answer(pieces=["Hello\0, w", "örld \ud83c", "\udf0d", "!"]),
    ],
)
async def test_an_answer_comes_whole(
    double: ProviderDouble, make: Make, model: Model, answer: Answer
) -> None:
    double.script(answer)
    outcome = await ask(make(), model)
    assert outcome.error is None
    assert outcome.text == WHOLE
    assert outcome.finish_reason == "stop"
    assert outcome.usage == TokenUsage(input_tokens=3, output_tokens=4)


async def test_usage_may_be_missing(double: ProviderDouble, make: Make, model: Model) -> None:
    double.script(Answer(pieces=PIECES, usage=False, finish="length"))
    outcome = await ask(make(), model)
    assert (outcome.text, outcome.finish_reason, outcome.usage) == (WHOLE, "length", None)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (sse(delta("a"), '{"choices": [{"delta": {"content": null}}]}', FINISHED), "a"),
        (sse('{"choices": [{"delta": {"refusal": "I cannot."}}]}', FINISHED), "I cannot."),
        (sse('{"choices": [{"delta": {"content": [{"text": "a"}]}}]}', FINISHED), "a"),
        (sse('{"choices": [{"delta": null}]}', delta("a"), FINISHED, "[DONE]"), "a"),
        (sse(delta("a"), FINISHED, '{"error": {"message": "too late"}}'), "a"),
        (sse(delta("a"), FINISHED, "not json"), "a"),
        (sse('{"usage": {"prompt_tokens": null}, "choices": null}', delta("a"), FINISHED), "a"),
        (sse("", delta("a"), "[DONE]"), "a"),
        (
            [b'{"choices": [{"message": {"content": "who', b'le"}, "finish_reason": "stop"}]}'],
            "whole",
        ),
        ([b'{"choices": [{"message": {"content": null, "refusal": "no"}}]}'], "no"),
    ],
)
async def test_odd_answers_are_understood(
    double: ProviderDouble, make: Make, model: Model, raw: list[bytes], text: str
) -> None:
    double.script(Answer(raw=raw))
    outcome = await ask(make(), model)
    assert outcome.error is None
    assert (outcome.text, outcome.finish_reason) == (text, "stop")


async def test_an_answer_that_is_compressed_unasked_is_understood(
    double: ProviderDouble, make: Make, model: Model
) -> None:
    raw = gzip.compress(b"".join(sse(delta("a"), FINISHED)))
    double.script(Answer(raw=[raw[:9], raw[9:]], headers={"Content-Encoding": "gzip"}))
    outcome = await ask(make(), model)
    assert (outcome.text, outcome.finish_reason, outcome.error) == ("a", "stop", None)


async def test_each_piece_is_given_as_it_comes(
    double: ProviderDouble, make: Make, model: Model
) -> None:
    gate = asyncio.Event()
    double.script(Answer(pieces=["one", "two"], gate=gate, gate_after=1))
    async with make().open(model, MESSAGES) as stream:
        pieces = aiter(stream)
        assert await anext(pieces) == "one"
        assert stream.finish_reason is None
        gate.set()
        assert [piece async for piece in pieces] == ["two"]
        assert stream.finish_reason == "stop"


# The request.


async def test_the_request_is_as_the_provider_wants_it(
    double: ProviderDouble, make: Make, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    providers = make()
    for model_id in ("gpt", "claude", "llama"):
        await ask(providers, catalog.resolve(model_id))
    await ask(providers, catalog.resolve("gpt"), max_output_tokens=7)
    openai, other, keyless, short = double.requests

    assert openai.body["model"] == "gpt"
    assert openai.body["messages"] == json.loads(MESSAGES)
    assert openai.body["stream"] is True
    assert openai.body["stream_options"] == {"include_usage": True}
    assert openai.body["max_completion_tokens"] == 100
    assert "max_tokens" not in openai.body
    assert openai.headers["Authorization"] == f"Bearer {KEY}"
    assert openai.headers["OpenAI-Organization"] == "org-ours"
    assert "OpenAI-Project" not in openai.headers

    assert other.body["max_tokens"] == 100
    assert "max_completion_tokens" not in other.body
    assert other.headers["Authorization"] == f"Bearer {KEY}"
    assert "OpenAI-Organization" not in other.headers

    assert keyless.body["repeat_penalty"] == 1.1
    assert keyless.body["logit_bias"] == {"7": -100}
    assert keyless.target == "/v1/chat/completions"
    assert "Authorization" not in keyless.headers
    assert short.body["max_completion_tokens"] == 7


async def test_a_proxy_of_the_environment_is_used_unless_an_exception_is_made(
    double: ProviderDouble, make: Make, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = double.base_url.removesuffix("/v1").replace("http://", "http://user:word@")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALL_PROXY", proxy)
    far = catalog.resolve("far")
    assert (await ask(make(), far)).error is None
    monkeypatch.setenv("NO_PROXY", "example.com,0.0.0.0")
    assert (await ask(make(), far)).error is None
    proxied, direct = double.requests
    assert proxied.target == f"{_far(double.base_url)}/chat/completions?version=1"
    assert proxied.headers["Proxy-Authorization"].startswith("Basic ")
    assert "Authorization" not in proxied.headers
    assert direct.target == "/v1/chat/completions?version=1"
    assert "Proxy-Authorization" not in direct.headers


@pytest.mark.parametrize("proxy", ["socks://127.0.0.1:9", "socks5h://127.0.0.1:9"])
async def test_a_proxy_of_another_kind_is_refused_in_words(
    make: Make, catalog: Catalog, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALL_PROXY", proxy)
    far, providers = catalog.resolve("far"), make()
    failure = (await ask(providers, far)).failure
    assert "one of HTTP" in failure.message
    assert (failure.reason, failure.retryable) == ("PROVIDER_UNAVAILABLE", False)
    with pytest.raises(ProviderError, match="one of HTTP"):
        await providers.transcribe(Transcriber("w", far.provider), io.BytesIO(b"la"), "a.mp3")


@pytest.mark.parametrize(
    "exceptions", ["0.0.0.0", "localhost,::1,[::1],fe11::/16,::1/128,10.0.0.0/8,0.0.0.0"]
)
async def test_exceptions_of_all_forms_are_made_for_text_and_for_recordings(
    double: ProviderDouble,
    make: Make,
    catalog: Catalog,
    monkeypatch: pytest.MonkeyPatch,
    exceptions: str,
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", exceptions)
    far, providers = catalog.resolve("far"), make()
    assert (await ask(providers, far)).error is None
    transcriber = Transcriber("w", far.provider)
    heard = await providers.transcribe(transcriber, io.BytesIO(b"la"), "a.mp3")
    assert heard.text == "what was said"


@pytest.mark.parametrize("size", [10, 3 * BODY_PIECE])
async def test_a_provider_that_moved_is_followed_with_the_whole_request(
    double: ProviderDouble, make: Make, model: Model, size: int
) -> None:
    moved = Answer(status=307, headers={"Location": f"{double.base_url}/chat/completions"})
    double.script(moved, Answer(pieces=PIECES))
    messages = json.dumps([{"role": "user", "content": "x" * size}]).encode()
    async with make().open(model, messages) as stream:
        assert "".join([piece async for piece in stream]) == WHOLE
    for request in double.requests:
        assert request.messages == json.loads(messages)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_that_loses_the_request_or_takes_it_elsewhere_is_refused_in_words(
    double: ProviderDouble, make: Make, catalog: Catalog, status: int
) -> None:
    is_kept = status in (307, 308)
    base_url = _far(double.base_url) if is_kept else double.base_url
    elsewhere = {"Location": f"{base_url}/chat/completions"}
    double.script(Answer(status=status, headers=elsewhere), Answer(pieces=PIECES))
    outcome = await ask(make(), catalog.resolve("claude"))
    assert len(double.requests) == 1, "neither a key nor a text goes there"
    assert (outcome.failure.reason, outcome.failure.retryable) == ("PROVIDER_REJECTED", False)
    assert "address" in outcome.failure.message
    assert outcome.failure.status == status


async def test_redirects_without_an_end_are_refused(
    double: ProviderDouble, make: Make, model: Model
) -> None:
    double.default = Answer(status=308, headers={"Location": "/v1/chat/completions"})
    assert (await ask(make(), model)).failure.reason == "PROVIDER_REJECTED"
    assert len(double.requests) == 5


@pytest.mark.parametrize("location", ["", "http://[bad", "http://a:b/", "ftp://127.0.0.1/x"])
async def test_a_redirect_to_nowhere_is_refused(
    double: ProviderDouble, make: Make, model: Model, location: str
) -> None:
    double.script(Answer(status=307, headers={"Location": location}))
    assert (await ask(make(), model)).failure.reason == "PROVIDER_REJECTED"


async def test_a_recording_is_not_lost_in_a_redirect(
    double: ProviderDouble, make: Make, catalog: Catalog
) -> None:
    location = {"Location": f"{double.base_url}/audio/transcriptions"}
    double.transcription = Answer(status=302, headers=location)
    transcriber = Transcriber("whisper", catalog.resolve("claude").provider)
    with pytest.raises(ProviderError, match="address") as caught:
        await make().transcribe(transcriber, io.BytesIO(b"la"), "a.mp3")
    assert caught.value.reason == "PROVIDER_REJECTED"


async def test_while_a_long_request_is_sent_everybody_else_has_turns(
    double: ProviderDouble, make: Make, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PDF of 12 MB in base64: what is handed over in one piece is encrypted in one."""
    turns, is_over = 0, False
    handed_over: list[tuple[int, int]] = []
    write = http_writer.StreamWriter.write

    async def recorded(self: http_writer.StreamWriter, chunk: Any, **options: Any) -> None:
        if isinstance(chunk, memoryview):  # ours: the double writes bytes
            handed_over.append((len(chunk), turns))
        await write(self, chunk, **options)

    async def take_turns() -> None:
        nonlocal turns
        while not is_over:
            turns += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(http_writer.StreamWriter, "write", recorded)
    messages = json.dumps([{"role": "user", "content": "x" * 16_000_000}]).encode()
    others = asyncio.create_task(take_turns())
    async with make().open(model, messages) as stream:
        assert [piece async for piece in stream]
    is_over = True
    await others

    (request,) = double.requests
    assert request.messages == json.loads(messages)
    assert int(request.headers["Content-Length"]) == sum(size for size, _ in handed_over)
    assert "Transfer-Encoding" not in request.headers
    assert max(size for size, _ in handed_over) <= BODY_PIECE
    assert all(before < after for (_, before), (_, after) in pairwise(handed_over))


async def test_a_connection_is_used_again_after_a_whole_answer(
    double: ProviderDouble, make: Make, model: Model
) -> None:
    providers = make()
    for _ in range(5):
        assert (await ask(providers, model)).error is None
    assert len({request.client_port for request in double.requests}) == 1


async def test_whom_to_trust_is_read_once_and_stops_no_stream(
    catalog: Catalog, make: Make, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def read(context: ssl.SSLContext, *args: Any, **kwargs: Any) -> None:
        threads.append(threading.current_thread())

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", read)
    certificates.cache_clear()
    try:
        for _ in range(2):
            providers = make()
            for one in (model, catalog.resolve("claude")):
                assert (await ask(providers, one)).error is None
    finally:
        certificates.cache_clear()
    (thread,) = threads
    assert thread is not threading.main_thread()


async def test_two_hundred_streams_at_once_share_nothing_that_runs_out(
    double: ProviderDouble, make: Make, model: Model
) -> None:
    gate = asyncio.Event()
    double.script(*[Answer(pieces=["a", "b"], gate=gate, gate_after=1)] * 200)
    providers = make()
    asked = [asyncio.create_task(ask(providers, model)) for _ in range(200)]
    await double.wait_for_requests(200)
    gate.set()
    assert {outcome.text for outcome in await asyncio.gather(*asked)} == {"ab"}


# Recordings.


async def test_nobody_else_hears_of_our_account_at_openai(
    double: ProviderDouble, make: Make, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-ours")  # where the SDK looks
    providers = make()
    for model_id in ("gpt", "claude", "llama"):
        transcriber = Transcriber("whisper", catalog.resolve(model_id).provider)
        heard = await providers.transcribe(transcriber, io.BytesIO(b"la"), "a.mp3")
        assert heard.text == "what was said"
    openai, other, keyless = double.transcriptions
    assert openai.data == b"la"
    assert openai.headers["OpenAI-Organization"] == "org-ours"
    assert openai.headers["Authorization"] == other.headers["Authorization"] == f"Bearer {KEY}"
    assert "OpenAI-Organization" not in other.headers
    assert "Authorization" not in keyless.headers


# Errors that the provider reports.


@pytest.mark.parametrize(
    ("status", "body", "reason", "retryable"),
    [
        (400, None, "PROVIDER_REJECTED", False),
        (400, {"error": {"code": "content_filter"}}, "CONTENT_FILTERED", False),
        (400, {"error": {"code": "content_policy_violation"}}, "CONTENT_FILTERED", False),
        (400, {"error": {"code": "context_length_exceeded"}}, "PROVIDER_REJECTED", False),
        (401, None, "PROVIDER_AUTHENTICATION", False),
        (402, None, "PROVIDER_QUOTA", False),
        (403, None, "PROVIDER_AUTHENTICATION", False),
        (404, None, "PROVIDER_REJECTED", False),
        (408, None, "PROVIDER_TIMEOUT", True),
        (409, None, "PROVIDER_UNAVAILABLE", True),
        (413, None, "PROVIDER_REJECTED", False),
        (422, None, "PROVIDER_REJECTED", False),
        (425, None, "PROVIDER_UNAVAILABLE", True),
        (429, None, "PROVIDER_RATE_LIMITED", True),
        (429, {"error": {"code": "insufficient_quota"}}, "PROVIDER_QUOTA", False),
        (429, {"error": {"type": "insufficient_quota"}}, "PROVIDER_QUOTA", False),
        (429, {"error": {"code": "billing_hard_limit_reached"}}, "PROVIDER_QUOTA", False),
        (500, None, "PROVIDER_UNAVAILABLE", True),
        (502, b"<html>secret sk-1</html>", "PROVIDER_UNAVAILABLE", True),
        (503, [], "PROVIDER_UNAVAILABLE", True),
        (504, None, "PROVIDER_TIMEOUT", True),
        (529, None, "PROVIDER_UNAVAILABLE", True),
    ],
)
async def test_each_status_has_its_error(
    double: ProviderDouble,
    make: Make,
    model: Model,
    status: int,
    body: object,
    reason: str,
    retryable: bool,
) -> None:
    double.script(Answer(status=status, body=body))
    outcome = await ask(make(), model)
    assert (outcome.failure.reason, outcome.failure.retryable) == (reason, retryable)
    assert outcome.failure.message
    assert str(status) in outcome.failure.detail
    assert len(double.requests) == 1, "the SDK's own retries are off"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "Retry-After": "9"}, 1.5),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({}, None),
    ],
)
async def test_retry_after_is_read(
    double: ProviderDouble,
    make: Make,
    model: Model,
    headers: dict[str, str],
    seconds: float | None,
) -> None:
    for status in (429, 503):
        double.script(Answer(status=status, headers=headers))
        assert (await ask(make(), model)).failure.retry_after == seconds


async def test_an_error_that_breaks_off_is_the_one_that_its_status_says(
    double: ProviderDouble, make: Make, model: Model
) -> None:
    double.script(Answer(status=401, raw=[b'{"error": {'], drop_after=0))
    assert (await ask(make(), model)).failure.reason == "PROVIDER_AUTHENTICATION"


async def test_an_error_may_hold_what_is_not_quite_json(
    double: ProviderDouble, make: Make, model: Model
) -> None:
    body = b'{"error": {"message": "\\ud83d", "code": "insufficient_quota"}}'
    double.script(Answer(status=429, body=body))
    assert (await ask(make(), model)).failure.reason == "PROVIDER_QUOTA"


async def test_an_error_without_an_end_is_not_read_to_it(
    double: ProviderDouble, make: Make, model: Model
) -> None:
    raw = [b'{"error": {"code": "insufficient_quota"}' + b" " * 65_536] + [b" " * 65_536] * 100
    double.script(Answer(status=429, raw=raw, gate=asyncio.Event()))
    outcome = await ask(make(), model)
    assert outcome.failure.reason == "PROVIDER_RATE_LIMITED"
    await double.requests[0].ended()
    assert double.requests[0].outcome == "client closed"


async def test_retry_after_may_be_a_date(double: ProviderDouble, make: Make, model: Model) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    double.script(Answer(status=429, headers={"Retry-After": date}))
    assert (await ask(make(), model)).failure.retry_after == pytest.approx(100, abs=5)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ({"message": "secret"}, "PROVIDER_UNAVAILABLE"),
        ("secret", "PROVIDER_UNAVAILABLE"),
        ({"type": "server_error"}, "PROVIDER_UNAVAILABLE"),
        ({"type": "overloaded_error"}, "PROVIDER_UNAVAILABLE"),
        ({"code": "rate_limit_exceeded", "type": "requests"}, "PROVIDER_RATE_LIMITED"),
        ({"code": 429}, "PROVIDER_RATE_LIMITED"),
        ({"code": 400, "type": "exceed_context_size_error"}, "PROVIDER_REJECTED"),
        ({"status": 401}, "PROVIDER_AUTHENTICATION"),
        ({"code": "invalid_api_key", "type": "invalid_request_error"}, "PROVIDER_AUTHENTICATION"),
        ({"type": "insufficient_quota", "code": 429}, "PROVIDER_QUOTA"),
        ({"code": "content_filter"}, "CONTENT_FILTERED"),
    ],
)
async def test_an_error_object_in_the_stream_or_in_its_place(
    double: ProviderDouble, make: Make, model: Model, error: object, reason: str
) -> None:
    double.script(Answer(pieces=["a", "b", "c"], error_after=2, error=error))
    outcome = await ask(make(), model)
    assert (outcome.text, outcome.failure.reason) == ("ab", reason)

    double.script(Answer(body={"error": error}))
    outcome = await ask(make(), model)
    assert (outcome.text, outcome.failure.reason) == ("", reason)


async def test_an_error_event_without_an_error_field(
    double: ProviderDouble, make: Make, model: Model
) -> None:
    raw = [*sse(delta("a")), b'event: error\ndata: {"message": "secret", "code": 429}\n\n']
    double.script(Answer(raw=raw))
    outcome = await ask(make(), model)
    assert (outcome.text, outcome.failure.reason) == ("a", "PROVIDER_RATE_LIMITED")


async def test_a_content_filter_keeps_what_came(
    double: ProviderDouble, make: Make, model: Model
) -> None:
    double.script(Answer(pieces=PIECES, finish="content_filter"))
    outcome = await ask(make(), model)
    assert (outcome.text, outcome.finish_reason) == (WHOLE, "content_filter")
    assert (outcome.failure.reason, outcome.failure.retryable) == ("CONTENT_FILTERED", False)
    assert outcome.usage is not None


# Broken streams.


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (Answer(pieces=PIECES, drop_after=2), "Hello, "),
        (Answer(pieces=PIECES, finish=None, done=False), WHOLE),
        (Answer(raw=[*sse(delta("a")), b"data: {broken\n\n", *sse(FINISHED)]), "a"),
        (Answer(raw=[*sse(delta("a")), b"data: [1, 2]\n\n", *sse(FINISHED)]), "a"),
        (Answer(raw=[*sse(delta("a")), b'data: {"choices": [7]}\n\n']), "a"),
        (Answer(raw=[*sse(delta("a")), b'data: {"choices": [{"del']), "a"),
        (Answer(raw=[b"<html><body>secret</body></html>"]), ""),
        (Answer(body=b"<!doctype html>secret"), ""),
        (Answer(body={"detail": "secret"}), ""),
        (Answer(raw=[b'{"choices": [{"mess']), ""),
        (Answer(raw=[]), ""),
        (Answer(raw=[b"data: " + b"x" * 65536] + [b"x" * 65536] * 64), ""),
        (Answer(raw=[b'{"a": "' + b"x" * 65536] + [b"x" * 65536] * 64), ""),
        (Answer(raw=[b"data: " + b"[" * 100_000 + b"\n\n"]), ""),
    ],
)
async def test_a_broken_stream_can_be_retried(
    double: ProviderDouble, make: Make, model: Model, answer: Answer, text: str
) -> None:
    double.script(answer)
    outcome = await ask(make(), model)
    assert outcome.text == text
    assert (outcome.failure.reason, outcome.failure.retryable) == ("PROVIDER_UNAVAILABLE", True)


async def test_nobody_answers(double: ProviderDouble, make: Make, model: Model) -> None:
    await double.close()
    outcome = await ask(make(), model)
    assert (outcome.failure.reason, outcome.failure.retryable) == ("PROVIDER_UNAVAILABLE", True)


async def test_a_server_that_hangs_up_before_it_answers(catalog: Catalog, model: Model) -> None:
    for greeting in (b"", b"nonsense\r\n\r\n"):
        hang_up = _hang_up_with(greeting)
        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        environ = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1"}
        providers = Providers(environ, local_model=None)
        outcome = await ask(providers, model)
        assert (outcome.failure.reason, outcome.failure.retryable) == ("PROVIDER_UNAVAILABLE", True)
        await providers.close()
        server.close()
        await server.wait_closed()


def _hang_up_with(greeting: bytes) -> Callable[..., Any]:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(greeting)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    return hang_up


# Timeouts.


async def test_no_answer_within_the_first_byte_timeout(
    double: ProviderDouble, make: Make, model: Model
) -> None:
    double.script(Answer(delay=60))
    outcome = await ask(make(first_byte_timeout=0.1), model)
    assert (outcome.failure.reason, outcome.failure.retryable) == ("PROVIDER_TIMEOUT", True)
    await double.requests[0].ended()
    assert double.requests[0].outcome == "client closed"


async def test_headers_alone_are_not_an_answer(
    double: ProviderDouble, make: Make, model: Model
) -> None:
    double.script(Answer(stall_after=0))
    outcome = await ask(make(first_byte_timeout=0.1), model)
    assert (outcome.text, outcome.failure.reason) == ("", "PROVIDER_TIMEOUT")


async def test_a_stream_that_stalls_keeps_its_text_and_is_closed(
    double: ProviderDouble, make: Make, model: Model
) -> None:
    double.script(Answer(pieces=PIECES, stall_after=2))
    outcome = await ask(make(idle_timeout=0.1), model)
    assert outcome.text == "Hello, "
    assert (outcome.failure.reason, outcome.failure.retryable) == ("PROVIDER_TIMEOUT", True)
    await double.requests[0].ended()
    assert double.requests[0].outcome == "client closed"


async def test_a_stall_after_the_finish_reason_is_a_good_end(
    double: ProviderDouble, make: Make, model: Model
) -> None:
    gate = asyncio.Event()
    double.script(Answer(raw=sse(delta("a"), FINISHED), gate=gate))
    outcome = await ask(make(idle_timeout=0.1), model)
    assert (outcome.text, outcome.finish_reason, outcome.error) == ("a", "stop", None)


async def test_the_consumers_own_work_is_not_timed(
    double: ProviderDouble, make: Make, model: Model
) -> None:
    gates = [asyncio.Event()]
    double.script(Answer(pieces=["one", "two"], gate=gates[0], gate_after=1))
    pieces = []
    async with make(idle_timeout=0.05, first_byte_timeout=0.05).open(model, MESSAGES) as stream:
        async for text in stream:
            pieces.append(text)
            if text == "one":
                gates[0].set()
                # Longer than both timeouts, but nobody waits for the provider.
                loop = asyncio.get_running_loop()
                woken = loop.create_future()
                loop.call_later(0.2, woken.set_result, None)
                await woken
    assert pieces == ["one", "two"]


async def test_a_slow_stream_of_single_chunks_is_not_timed_out(
    double: ProviderDouble, make: Make, model: Model
) -> None:
    double.script(Answer(tokens=20, rate=50))
    outcome = await ask(make(idle_timeout=0.2, first_byte_timeout=0.2), model)
    assert outcome.error is None
    assert outcome.finish_reason == "stop"


# Leaving.


async def _assert_closed(double: ProviderDouble) -> None:
    request = double.requests[0]
    await request.ended()
    assert request.outcome == "client closed"


async def test_leaving_early_closes_the_connection(
    double: ProviderDouble, make: Make, model: Model
) -> None:
    double.script(Answer(pieces=PIECES, stall_after=2))
    providers = make()
    async with providers.open(model, MESSAGES) as stream:
        async for _ in stream:
            break
    await _assert_closed(double)


@pytest.mark.parametrize("answer", [Answer(stall_after=2), Answer(stall_after=0), Answer(delay=60)])
async def test_cancelling_closes_the_connection(
    double: ProviderDouble, make: Make, model: Model, answer: Answer
) -> None:
    double.script(answer)
    task = asyncio.create_task(ask(make(), model))
    await double.wait_for_requests(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _assert_closed(double)


async def test_an_exception_of_the_consumer_passes_and_closes_the_connection(
    double: ProviderDouble, make: Make, model: Model
) -> None:
    double.script(Answer(stall_after=2))
    providers = make()
    with pytest.raises(ZeroDivisionError):
        async with providers.open(model, MESSAGES) as stream:
            async for _ in stream:
                raise ZeroDivisionError
    await _assert_closed(double)

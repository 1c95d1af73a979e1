"""What proxies and local servers make of an answer, over real HTTP: each was seen in the wild."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import yaml
from colloquy_server.providers.catalog import Catalog
from colloquy_server.providers.client import Providers
from colloquy_server.providers.loose_events import loosened

from tests.fakes.provider import Answer
from tests.integration.test_provider_answers import (
    COUNTED,
    FINISHED,
    Asker,
    ask,  # noqa: F401
    choice,
    events,
    said,
)

A, B, END = json.dumps(said("a")), json.dumps(said("b")), json.dumps(FINISHED)


# Framing.

FRAMED = {
    "the field's name twice": (
        f"data: data: {A}\ndata:\ndata:\n\ndata: data: {B}\ndata:\ndata:\n\n"
        f"data: data: {END}\n\ndata: data: [DONE]\n\n"
    ),
    "two chunks as one": f"data: {A}{B}\n\ndata: {END}\n\ndata: [DONE]\n\n",
    "two chunks as one, apart": f"data: {A} {B}\n\ndata: {END}\n\n",
    "no blank lines": f"data: {A}\ndata: {B}\ndata: {END}\ndata: [DONE]\n",
    "the end within the last chunk": f"data: {A}\n\ndata: {B}\n\ndata: {END}\ndata: [DONE]\n\n",
    "a comment as data": (
        f"data: : OPENROUTER PROCESSING\n\ndata: {A}\n\ndata: {B}\n\ndata: {END}\n\n"
    ),
    "signs of life as data": (
        f"data: ping\n\ndata: [HEARTBEAT]\n\ndata: {A}\n\ndata: keep-alive\n\ndata: null\n\n"
        f"data: {B}\n\ndata: {END}\n\n"
    ),
    "signs of life as events": (
        f'id: 1\ndata: {A}\n\n: ping\n\nretry: 3000\n\nevent: ping\ndata: {{"type": "ping"}}\n\n'
        f"event: heartbeat\ndata:\n\ndata: {B}\n\ndata: {END}\n\n"
    ),
    "lines of JSON": f"{A}\n{B}\n{END}\n",
    "lines of JSON, then events": f"{A}\n\ndata: {B}\n\ndata: {END}\n\ndata: [DONE]\n\n",
}  # fmt: skip


@pytest.mark.parametrize("size", [None, 1])
@pytest.mark.parametrize("name", FRAMED)
async def test_an_answer_in_a_broken_frame_is_read(
    ask: Asker,  # noqa: F811
    name: str,
    size: int | None,
) -> None:
    asked = await ask(Answer(raw=[FRAMED[name].encode()], packet_size=size))
    assert (asked.text, asked.finish_reason, asked.error) == ("ab", "stop", None)


@pytest.mark.parametrize(
    "event",
    [
        b'{"choices": [{"del',
        b'{"a": 1}{"b',
        b'{"a": 1} and so on',
        b"[1, 2]",
        b"7",
        b"a: b",
    ],
)
def test_what_is_half_an_event_is_none(event: bytes) -> None:
    assert loosened(event) is None


def test_of_one_event_no_more_is_read_than_an_answer_can_hold() -> None:
    assert loosened(b"{}" * 100_000) is None
    assert loosened(b"{}\n" * 100_000) is None
    assert loosened(b"data:" * 100_000) == []


async def test_nothing_is_read_behind_the_end(ask: Asker) -> None:  # noqa: F811
    raw = f"data: {A}\ndata: {END}\ndata: [DONE]\ndata: {B}\n\n"
    asked = await ask(Answer(raw=[raw.encode()]))
    assert (asked.text, asked.error) == ("a", None)


# Failures in words.

WORDS = {
    "too long": (b"data: Prompt too long: 9000 tokens, 4096 allowed\n\n", "PROVIDER_REJECTED"),
    "rate": (b'event: error\ndata: "Rate limit exceeded"\n\n', "PROVIDER_RATE_LIMITED"),
    "anything": (
        b"data: Number of choices must be greater than 0.\n\n",
        "PROVIDER_UNAVAILABLE",
    ),
}


@pytest.mark.parametrize("name", WORDS)
async def test_a_failure_in_words_ends_a_stream_that_stays_open(
    ask: Asker,  # noqa: F811
    name: str,
) -> None:
    raw, reason = WORDS[name]
    asked = await ask(Answer(raw=[*events(said("a")), raw], gate=asyncio.Event()))
    assert (asked.text, asked.failure.reason) == ("a", reason)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("login fail: Please carry the API secret key", "PROVIDER_AUTHENTICATION"),
        ("insufficient balance", "PROVIDER_QUOTA"),
        ("input new_sensitive", "CONTENT_FILTERED"),
        ("unknown error", "PROVIDER_UNAVAILABLE"),
    ],
)
@pytest.mark.parametrize("is_streamed", [True, False])
async def test_a_failure_beside_the_answer_that_is_not_there(
    ask: Asker,  # noqa: F811
    words: str,
    reason: str,
    is_streamed: bool,
) -> None:
    body = {"choices": None, "base_resp": {"status_code": 1004, "status_msg": words}}
    asked = await ask(Answer(raw=events(body)) if is_streamed else Answer(body=body))
    assert asked.failure.reason == reason
    assert asked.failure.codes == ("1004",)


async def test_a_status_of_success_beside_an_answer_is_none_of_a_failure(
    ask: Asker,  # noqa: F811
) -> None:
    fine = {**COUNTED, "base_resp": {"status_code": 0, "status_msg": "success"}}
    asked = await ask(Answer(raw=events(said("a"), FINISHED, fine)))
    assert (asked.text, asked.error) == ("a", None)


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (403, b"<!DOCTYPE html><title>Just a moment...</title>", "turned this server away"),
        (403, b"error code: 1010", "turned this server away"),
        (403, b"", "turned this server away"),
        (403, b"API key expired", "did not accept this server's API key"),
        (404, b"model 'llama' not found", "does not offer this model"),
        (404, b"404 page not found", "address"),
        (404, b"<html><h1>Not Found</h1></html>", "address"),
        (400, b"prompt is too long", "too long"),
    ],
)
async def test_an_error_that_is_no_json_is_what_it_says(
    ask: Asker,  # noqa: F811
    status: int,
    body: bytes,
    told: str,
) -> None:
    asked = await ask(Answer(status=status, body=body))
    assert told in asked.failure.message
    assert (asked.failure.status, asked.failure.retryable) == (status, False)


# Parts.


async def test_a_refusal_that_is_a_part_is_the_answer(ask: Asker) -> None:  # noqa: F811
    part = {"type": "refusal", "refusal": "I cannot."}
    asked = await ask(Answer(raw=events(choice(delta={"content": [part]}), FINISHED)))
    assert (asked.text, asked.error) == ("I cannot.", None)


@pytest.mark.parametrize("kind", ["thinking", "reasoning"])
async def test_thinking_that_is_a_part_is_not_shown(ask: Asker, kind: str) -> None:  # noqa: F811
    parts = [{"type": kind, "text": "hm"}, {"type": "text", "text": "a"}]
    asked = await ask(Answer(raw=events(choice(delta={"content": parts}), FINISHED)))
    assert (asked.text, asked.error) == ("a", None)
    asked = await ask(Answer(raw=events(choice(delta={"content": parts[:1]}), FINISHED)))
    assert "thought, but gave no answer" in asked.failure.message


# HTTP.

AskRaw = Callable[[bytes], Awaitable[str]]
EVENTS = b"".join(events(said("a"), FINISHED))
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVENTS), EVENTS)


@pytest.fixture
async def ask_raw(tmp_path: Path) -> AsyncIterator[AskRaw]:
    """Asks a server that answers with the bytes that are given, and gives the text of it."""
    answer = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    entry = {"context_window": 1000, "max_output_tokens": 100, "input_price": 0, "output_price": 0}
    content = {
        "providers": {"here": {"base_url": f"http://{host}:{port}/v1"}},
        "models": {"gpt": {**entry, "provider": "here"}},
        "default_model": "gpt",
        "title_model": "gpt",
    }
    path = tmp_path / "models.yml"
    path.write_text(yaml.safe_dump(content))
    model = Catalog.load(path, lambda _: None).resolve("gpt")
    providers = Providers({}, local_model=None)

    async def ask_raw(raw: bytes) -> str:
        nonlocal answer
        answer = raw
        async with providers.open(model, b"[]") as stream:
            return "".join([text async for text in stream])

    try:
        yield ask_raw
    finally:
        await providers.close()
        server.close()


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Security-Policy: %b\r\n\r\n%b" % (b"x" * 30_000, EVENTS),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
        + CHUNKED,
        b"HTTP/1.0 200 OK\r\n\r\n" + EVENTS,
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
        b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    ],
    ids=["a long header", "chunked twice", "HTTP/1.0", "early hints", "accepted"],
)
async def test_an_answer_in_odd_http_is_read(ask_raw: AskRaw, raw: bytes) -> None:
    assert await ask_raw(raw) == "a"

"""A double of an AI provider: a real HTTP server that speaks /v1/chat/completions.

    async with ProviderDouble() as double:
        double.script(Answer(status=429, headers={"Retry-After": "0"}), Answer(drop_after=10))
        ...                                # ask double.base_url
        await double.wait_for_requests(2)
        assert double.requests[0].text == ""

Without a script an answer is `default`: words with the request's serial, so that every call's text
is its own. A directive in the last user message changes it for that request, whichever process
asks: `[[{"tokens": 5, "rate": 50, "drop_after": 3}]]` (the JSON fields of Answer).

As a process of its own: `python -m tests.fakes.provider --port 0 --rate 50 --log calls.jsonl`
prints its base URL and serves until it is ended; the log gets a line when a request arrives and
one when it ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import re
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from aiohttp import web

_DIRECTIVE = re.compile(r"\[\[(\{.*?\})\]\]", re.DOTALL)


@dataclass(frozen=True)
class Answer:
    """How one request is answered. Counts are of text chunks; the default is a clean answer."""

    tokens: int = 20
    """Words of the default text, one a chunk."""
    rate: float | None = None
    """Chunks a second; None: as fast as it goes."""
    pieces: Sequence[str] | None = None
    """The text chunks, instead of the default text."""
    finish: str | None = "stop"
    """finish_reason; None: no chunk says one."""
    finish_in_each: bool = False
    """Whether every chunk says so."""
    usage: bool = True
    counts: dict[str, Any] | None = None
    """What the usage says, instead of true counts."""
    deltas: Sequence[dict[str, Any]] = ()
    """What comes before the text: thinking, calls of tools, pictures, sound."""
    done: bool = True
    """Whether `data: [DONE]` ends the stream."""
    end_of_line: Literal["\n", "\r\n", "\r"] = "\n"
    comments: bool = False
    """A comment line before each chunk, as proxies send to keep a connection open."""
    empty_choices: bool = False
    """A first chunk without choices, as Azure sends it."""
    final_blank_line: bool = True
    packet_size: int | None = None
    """Bytes a write, wherever they split; None: a chunk a write."""

    delay: float = 0
    """Seconds before anything is sent."""
    drop_after: int | None = None
    """The connection is reset after so many chunks."""
    stall_after: int | None = None
    """Nothing more is sent after so many chunks, until the client goes or `release` is called."""
    error_after: int | None = None
    """An error object instead of the chunks after so many."""
    reset_at_end: bool = False
    """The connection is reset after all that was sent."""
    error: Any = field(default_factory=lambda: {"message": "secret detail", "type": "server_error"})
    gate_after: int | None = None
    """Waits for `gate` after so many chunks (after all packets of `raw`)."""
    gate: asyncio.Event | None = None

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    """Instead of a stream: bytes, or what is sent as JSON. An error status has a default one."""
    raw: Sequence[bytes] | None = None
    """Instead of all chunks: these packets, as they are."""


class DoubleRequest:
    """One request that came, and what became of it."""

    def __init__(self, serial: int, body: dict[str, Any], headers: Mapping[str, str]) -> None:
        self.serial = serial
        self.body = body
        self.headers = headers  # names in any case
        self.target = ""
        """What the request line asked for."""
        self.client_port = 0
        """Tells connections apart."""
        self.arrived_at = time.time()
        self.ended_at: float | None = None
        self.outcome: Literal["open", "completed", "client closed", "dropped"] = "open"
        self.text = ""
        """What was sent so far."""
        self.told: dict[str, Any] | None = None
        """The tokens that the answer said it used: what is billed for it."""
        self.answer = Answer()
        self.is_title = False
        self._ended = asyncio.Event()
        self._released = asyncio.Event()

    @property
    def messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = self.body.get("messages", [])
        return messages

    @property
    def last_user_text(self) -> str:
        for message in reversed(self.messages):
            if message.get("role") == "user":
                content = message.get("content")
                if isinstance(content, str):
                    return content
                return " ".join(part.get("text", "") for part in content or [])
        return ""

    async def ended(self) -> None:
        """Wait until the request is over, in whatever way."""
        await self._ended.wait()

    def release(self) -> None:
        """Let a stalled answer go on."""
        self._released.set()


@dataclass(frozen=True)
class Transcription:
    """A recording that came to be written down."""

    model: str
    filename: str
    data: bytes
    headers: Mapping[str, str]


class ProviderDouble:
    """The server. `title_models` get `title_answer` and never use up a script."""

    def __init__(
        self,
        *,
        default: Answer | None = None,
        title_models: frozenset[str] | set[str] = frozenset({"gpt-4o-mini"}),
        title_answer: str = "A short title",
        log_file: Path | None = None,
    ) -> None:
        self.default = default or Answer()
        self.title_models = title_models
        self.title_answer = title_answer
        self.requests: list[DoubleRequest] = []
        self.transcript: str | None = "what was said"
        """What every recording says; None: transcribing fails."""
        self.transcription: Answer | None = None
        """How every recording is answered, instead."""
        self.transcriptions: list[Transcription] = []
        self.is_strict = False
        """Whether it refuses what strict chat templates refuse, before any script."""
        self.base_url = ""
        self._scripts: deque[Answer] = deque()
        self._title_scripts: deque[Answer] = deque()
        self._changed = asyncio.Event()
        self._log_file = log_file
        self._runner: web.AppRunner | None = None

    @property
    def reply_requests(self) -> list[DoubleRequest]:
        """All but those for titles."""
        return [request for request in self.requests if not request.is_title]

    @property
    def title_requests(self) -> list[DoubleRequest]:
        return [request for request in self.requests if request.is_title]

    def script(self, *answers: Answer) -> None:
        """Answer the next reply requests like this, in the order in which they come."""
        self._scripts.extend(answers)

    def forget_scripts(self) -> None:
        """Answer as without a script: an answer that failed may have used less of it."""
        self._scripts.clear()

    def script_titles(self, *answers: Answer) -> None:
        """The same for the title models' requests."""
        self._title_scripts.extend(answers)

    async def wait_for_requests(self, count: int) -> list[DoubleRequest]:
        """Wait until so many reply requests have come."""
        await self._wait_until(lambda: len(self.reply_requests) >= count)
        return self.reply_requests

    async def wait_for_titles(self, count: int) -> list[DoubleRequest]:
        await self._wait_until(lambda: len(self.title_requests) >= count)
        return self.title_requests

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def start(self, port: int = 0) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        self._route(app.router)
        runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port, backlog=2048)
        await site.start()
        self._runner = runner
        self.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"

    def _route(self, router: web.UrlDispatcher) -> None:
        router.add_post("/v1/chat/completions", self._handle)
        router.add_post("/v1/audio/transcriptions", self._transcribe)

    async def close(self) -> None:
        if self._runner is not None:
            for request in self.requests:
                request.release()
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _transcribe(self, http_request: web.Request) -> web.StreamResponse:
        form = await http_request.post()
        file = form["file"]
        assert isinstance(file, web.FileField)
        heard = Transcription(
            str(form["model"]), file.filename, file.file.read(), http_request.headers
        )
        self.transcriptions.append(heard)
        if self.transcription is not None:
            return _whole_body(self.transcription)
        if self.transcript is None:
            return _whole_body(Answer(status=500))
        return web.json_response({"text": self.transcript})

    async def _handle(self, http_request: web.Request) -> web.StreamResponse:
        body = await http_request.json()
        request = DoubleRequest(len(self.requests), body, http_request.headers)
        request.is_title = body.get("model") in self.title_models
        refusal = _refusal(request.messages) if self.is_strict else ""
        error = {"object": "error", "message": refusal, "type": "BadRequestError", "code": 400}
        request.answer = Answer(status=400, body=error) if refusal else self._answer_for(request)
        request.target = http_request.raw_path
        if http_request.transport is not None:
            request.client_port = http_request.transport.get_extra_info("peername")[1]
        self.requests.append(request)
        self._changed.set()
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self._log("arrived", request, key=key, body=body)
        request.outcome = "client closed"
        try:
            response = await self._respond(http_request, request)
            if request.outcome == "client closed":
                request.outcome = "completed"
            return response
        except ConnectionError:
            raise asyncio.CancelledError from None
        finally:
            request.ended_at = time.time()
            request._ended.set()
            self._log("ended", request, outcome=request.outcome, text=request.text)

    def _answer_for(self, request: DoubleRequest) -> Answer:
        scripts = self._title_scripts if request.is_title else self._scripts
        if scripts:
            return scripts.popleft()
        if request.is_title:
            return Answer(pieces=[self.title_answer])
        directive = _DIRECTIVE.search(request.last_user_text)
        if directive:
            return dataclasses.replace(self.default, **json.loads(directive[1]))
        return self.default

    async def _respond(
        self, http_request: web.Request, request: DoubleRequest
    ) -> web.StreamResponse:
        answer = request.answer
        if answer.delay:
            await asyncio.sleep(answer.delay)
        if answer.raw is None and (answer.status != 200 or answer.body is not None):
            return _whole_body(answer)
        headers = {"Content-Type": "text/event-stream", **answer.headers}
        response = web.StreamResponse(status=answer.status, headers=headers)
        await response.prepare(http_request)
        async for packet in self._packets(request):
            if packet is None:
                request.outcome = "dropped"
                if http_request.transport is not None:
                    http_request.transport.abort()
                return response
            size = answer.packet_size or max(1, len(packet))
            for start in range(0, len(packet), size):
                await response.write(packet[start : start + size])
        await response.write_eof()
        return response

    async def _packets(self, request: DoubleRequest) -> AsyncIterator[bytes | None]:
        """What is written, packet by packet; None: the connection is dropped."""
        answer = request.answer
        if answer.raw is None:
            async for packet in self._chunks(request):
                yield packet
            return
        for raw in answer.raw:
            yield raw
        if answer.gate is not None:
            await answer.gate.wait()
        if answer.drop_after is not None:
            yield None

    async def _chunks(self, request: DoubleRequest) -> AsyncIterator[bytes | None]:
        answer = request.answer
        wire = _Wire(request)
        if answer.empty_choices:
            yield wire.event({**wire.head, "choices": []})
        for delta in answer.deltas:
            yield wire.event({**wire.head, "choices": [{"index": 0, "delta": delta}]})
        pieces = answer.pieces
        if pieces is None:
            pieces = [f"r{request.serial}w{index} " for index in range(answer.tokens)]
        began = time.monotonic()
        for index, piece in enumerate(pieces):
            fault = await self._at(request, index)
            if fault == "drop":
                yield None
                return
            if fault == "error":
                yield wire.event({"error": answer.error})
                return
            if answer.rate:
                await asyncio.sleep(began + index / answer.rate - time.monotonic())
            request.text += piece
            yield wire.text(piece)
        fault = await self._at(request, len(pieces))
        if fault == "drop":
            yield None
            return
        if fault == "error":
            yield wire.event({"error": answer.error})
            return
        yield wire.ending(len(pieces))
        if answer.reset_at_end:
            yield None

    async def _at(self, request: DoubleRequest, index: int) -> Literal["drop", "error"] | None:
        """What the answer has in mind before the chunk with this index."""
        answer = request.answer
        if answer.gate_after == index and answer.gate is not None:
            await answer.gate.wait()
        if answer.stall_after == index:
            await request._released.wait()
        if answer.drop_after == index:
            return "drop"
        if answer.error_after == index:
            return "error"
        return None

    def _log(self, event: str, request: DoubleRequest, **fields: Any) -> None:
        if self._log_file is None:
            return
        line = {
            "event": event,
            "serial": request.serial,
            "time": time.time(),
            "title": request.is_title,
            **fields,
        }
        with self._log_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class _Wire:
    """Chunks as bytes."""

    def __init__(self, request: DoubleRequest) -> None:
        self._answer = request.answer
        self._end = request.answer.end_of_line
        self._request = request
        self.head = {
            "id": f"chatcmpl-{request.serial}",
            "object": "chat.completion.chunk",
            "created": int(request.arrived_at),
            "model": request.body.get("model"),
        }
        # Of each chunk only the text changes: at full pace the double must cost little.
        marker = "\x00"
        choice: dict[str, Any] = {"index": 0, "delta": {"content": marker}}
        if request.answer.finish_in_each:
            choice["finish_reason"] = request.answer.finish
        before, after = self._frame({**self.head, "choices": [choice]}).split(json.dumps(marker))
        self._before, self._after = before, after

    def _frame(self, value: Any) -> str:
        comment = f": keep-alive{self._end}" if self._answer.comments else ""
        return f"{comment}data: {json.dumps(value)}{self._end * 2}"

    def event(self, value: Any) -> bytes:
        return self._frame(value).encode()

    def text(self, piece: str) -> bytes:
        # Non-ASCII as UTF-8, as providers send it; a lone surrogate can only be escaped.
        try:
            return (self._before + json.dumps(piece, ensure_ascii=False) + self._after).encode()
        except UnicodeEncodeError:
            return (self._before + json.dumps(piece) + self._after).encode()

    def ending(self, output_tokens: int) -> bytes:
        answer = self._answer
        parts = []
        if answer.finish is not None:
            choice = {"index": 0, "delta": {"content": None}, "finish_reason": answer.finish}
            parts.append(self.event({**self.head, "choices": [choice]}))
        if answer.usage:
            words = sum(len(str(m.get("content")).split()) for m in self._request.messages)
            counts = {
                "prompt_tokens": words,
                "completion_tokens": output_tokens,
                "total_tokens": words + output_tokens,
            }
            usage = counts if answer.counts is None else answer.counts
            self._request.told = usage
            parts.append(self.event({**self.head, "choices": [], "usage": usage}))
        if answer.done:
            parts.append(f"data: [DONE]{self._end * 2}".encode())
        ending = b"".join(parts)
        return ending if answer.final_blank_line else ending.rstrip(b"\r\n")


def _refusal(messages: Sequence[Mapping[str, Any]]) -> str:
    """What a strict template has against a conversation: the templates of Mistral and Gemma, as
    vLLM applies them, want roles in turn, and Anthropic wants something in each text."""
    said = [message for message in messages if message["role"] != "system"]
    for index, message in enumerate(said):
        if message["role"] != ("assistant" if index % 2 else "user"):
            return "Conversation roles must alternate user/assistant/user/assistant/..."
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if any(part["type"] == "text" and not part["text"].strip() for part in parts):
            return "messages: text content blocks must contain non-whitespace text"
    return ""


def _whole_body(answer: Answer) -> web.Response:
    body = answer.body
    if body is None:
        body = {"error": {"message": "secret detail of sk-12345", "type": "an_error", "code": None}}
    if isinstance(body, bytes):
        headers = {"Content-Type": "text/html", **answer.headers}
        return web.Response(status=answer.status, headers=headers, body=body)
    return web.json_response(body, status=answer.status, headers=answer.headers)


async def _serve(arguments: argparse.Namespace) -> None:
    default = Answer(tokens=arguments.tokens, rate=arguments.rate)
    double = ProviderDouble(
        default=default, title_models=set(arguments.title_model), log_file=arguments.log
    )
    await double.start(arguments.port)
    sys.stdout.write(f"{double.base_url}\n")
    sys.stdout.flush()
    try:
        await asyncio.Event().wait()
    finally:
        await double.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="A double of an AI provider.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=20, help="words of an answer")
    parser.add_argument("--rate", type=float, default=None, help="words a second")
    parser.add_argument("--title-model", action="append", default=[], help="gets a title at once")
    parser.add_argument("--log", type=Path, default=None, help="JSON lines, appended")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()

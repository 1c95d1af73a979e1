"""A provider that answers at a steady pace, each token in a packet of its own, for little CPU.

The last message of a request is its orders: `"{stream} {tokens} {tokens a second}"`. The text is
fixed by them except for its beginning, which holds two times in monotonic nanoseconds, the same
clock in all processes of a machine: when the request came and when the first token was sent.
"""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

THINKING = 0.25
"""Seconds from a request to the first token."""

CLOCK_DIGITS = 20
TOKEN_LENGTH = 6


class WrongText(Exception):
    """An answer is not what the provider said."""


_MARKER = "\x00"
_BEFORE, _AFTER = (
    "data: "
    + json.dumps(
        {
            "id": "chatcmpl-0123456789abcdefghijklmnopqrs",
            "object": "chat.completion.chunk",
            "created": 1_800_000_000,
            "model": "bench",
            "system_fingerprint": "fp_0123456789",
            "choices": [{"index": 0, "delta": {"content": _MARKER}, "finish_reason": None}],
        },
        separators=(",", ":"),
    )
    + "\n\n"
).split(json.dumps(_MARKER))
_ENDING = (
    'data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{},'
    '"finish_reason":"stop"}]}\n\n'
    'data: {"object":"chat.completion.chunk","choices":[],'
    '"usage":{"prompt_tokens":2,"completion_tokens":%d,"total_tokens":%d}}\n\n'
    "data: [DONE]\n\n"
)


def orders(stream: int, tokens: int, rate: int) -> str:
    """The prompt that asks for so many tokens, so many a second."""
    return f"{stream} {tokens} {rate}"


def token(stream: int, number: int) -> str:
    """A token of a stream; the first has number 1."""
    return f" {(stream * 7_919 + number) % 100_000:05d}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Answers one request. A thread a connection sleeps from token to token."""
        arrived = time.monotonic_ns()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        stream, tokens, rate = map(int, body["messages"][-1]["content"].split())
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        start = arrived / 1e9 + THINKING
        _sleep_until(start)
        self._send(f"{arrived:0{CLOCK_DIGITS}d}{time.monotonic_ns():0{CLOCK_DIGITS}d}")
        for number in range(1, tokens):
            _sleep_until(start + number / rate)
            self._send(token(stream, number))
        self._write(_ENDING % (tokens, tokens + 2))
        self.connection.sendall(b"0\r\n\r\n")

    def _send(self, text: str) -> None:
        self._write(f'{_BEFORE}"{text}"{_AFTER}')

    def _write(self, data: str) -> None:
        self.connection.sendall(f"{len(data):x}\r\n{data}\r\n".encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base has it
        """Says nothing."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 1_024


def _sleep_until(when: float) -> None:
    wait = when - time.monotonic()
    if wait > 0:
        time.sleep(wait)


def check(stream: int, tokens: int, text: str) -> tuple[int, int]:
    """The two times of a text. Raises WrongText when the text is not whole."""
    clocks, rest = text[: 2 * CLOCK_DIGITS], text[2 * CLOCK_DIGITS :]
    if rest != "".join(token(stream, number) for number in range(1, tokens)):
        raise WrongText(f"stream {stream} is not whole: {len(rest)} characters")
    return int(clocks[:CLOCK_DIGITS]), int(clocks[CLOCK_DIGITS:])


def main() -> None:
    """Serves on a free port until it is ended."""
    server = _Server(("127.0.0.1", 0), _Handler)
    address = f"127.0.0.1:{server.server_port}"
    print(json.dumps({"event": "serving", "address": address}), file=sys.stderr, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()

"""A provider's answer, from the bytes of its body to text, finish reason and usage.

Reads what OpenAI-compatible endpoints really send: server-sent chunks in all their variants, a
whole completion or an error object as JSON, or some proxy's HTML page.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeGuard

import orjson

from colloquy_server.providers.errors import ProviderError, broken, from_error_object
from colloquy_server.providers.sse import MAX_EVENT_BYTES, SseDecoder, SseError
from colloquy_server.providers.text_repair import TextRepair


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens as the provider counted them."""

    input_tokens: int
    output_tokens: int


class AnswerReader:
    """Takes an answer's bytes as they come. `feed` and `close` never raise provider trouble:
    they keep it in `error`, so that the text that came before it is not lost."""

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.usage: TokenUsage | None = None
        self.done = False
        """Nothing more is to be read: the end marker came, or an error."""
        self.error: ProviderError | None = None
        self._sse = SseDecoder()
        self._repair = TextRepair()
        self._document: list[bytes] | None = None  # a body that is JSON instead of SSE
        self._document_bytes = 0
        self._sniffed = False

    def feed(self, data: bytes) -> str:
        """The text in these bytes, possibly empty."""
        if not self._sniffed:
            self._sniff(data)
        if self._document is not None:
            self._document_bytes += len(data)
            self._document.append(data)
            if self._document_bytes > MAX_EVENT_BYTES:
                self._fail(broken("a body too large"))
            return ""
        try:
            return self._read(self._sse.feed(data))
        except SseError as error:
            self._fail(broken(str(error)))
            return ""

    def close(self) -> str:
        """The rest of the text, after the last byte; sets `error` if the answer is not whole."""
        text = ""
        if not self.done:
            if self._document is not None:
                text = self._read_document(b"".join(self._document))
            else:
                text = self._read(self._sse.close())
        text += self._repair.close()
        if self.error is None and self.finish_reason is None:
            if self.done:
                self.finish_reason = "stop"
            else:
                self._fail(broken("the stream ended without a finish reason"))
        if self.error is None and self.finish_reason == "content_filter":
            self._fail(ProviderError("CONTENT_FILTERED"))
        return text

    def _sniff(self, data: bytes) -> None:
        """Tell by the first byte what the body is; its content type cannot be relied on."""
        start = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
        if not start:
            return
        self._sniffed = True
        if start == b"{":
            self._document = []
        elif start == b"<":
            self._fail(broken("a page instead of an answer"))

    def _fail(self, error: ProviderError) -> None:
        self.error = error
        self.done = True

    def _read(self, events: list[bytes]) -> str:
        pieces = []
        for event in events:
            if self.done:
                break
            piece = self._read_event(event)
            if piece:
                pieces.append(piece)
        if not pieces:
            return ""
        return self._repair.feed(pieces[0] if len(pieces) == 1 else "".join(pieces))

    def _read_event(self, event: bytes) -> str:
        try:
            chunk = orjson.loads(event)
        except orjson.JSONDecodeError:
            marker = event.strip()
            if marker == b"[DONE]":
                self.done = True
                return ""
            if not marker:
                return ""
            chunk = lenient_json(event)
        try:
            choices = chunk.get("choices")
        except AttributeError:
            self._fail_unless_finished(broken("an event that is not a JSON object"))
            return ""
        if not choices:
            self._read_other(chunk)
            return ""
        try:
            choice = choices[0]
            if chunk.get("usage"):
                self._read_usage(chunk["usage"])
            if chunk.get("error"):
                self._fail_unless_finished(from_error_object(chunk["error"]))
                return ""
            reason = choice.get("finish_reason")
            if reason:
                self.finish_reason = str(reason)
            delta = choice.get("delta")
            if not delta:
                return ""
            content = delta.get("content") or delta.get("refusal")
            return content if isinstance(content, str) else _text_of(content)
        except (AttributeError, KeyError, IndexError, TypeError):
            self._fail_unless_finished(broken("a chunk of another shape"))
            return ""

    def _read_other(self, chunk: dict[str, Any]) -> None:
        """A chunk without choices: usage, an error object, or nothing."""
        if chunk.get("usage"):
            self._read_usage(chunk["usage"])
        if chunk.get("error"):
            self._fail_unless_finished(from_error_object(chunk["error"]))
        elif "choices" not in chunk and (chunk.get("type") == "error" or "message" in chunk):
            self._fail_unless_finished(from_error_object(chunk))

    def _fail_unless_finished(self, error: ProviderError) -> None:
        """An answer that has its finish reason is whole, whatever follows it."""
        if self.finish_reason is None:
            self._fail(error)
        else:
            self.done = True

    def _read_usage(self, usage: object) -> None:
        if not isinstance(usage, dict):
            return
        read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if _is_count(read) and _is_count(written):
            self.usage = TokenUsage(read, written)

    def _read_document(self, body: bytes) -> str:
        completion = lenient_json(body)
        if not isinstance(completion, dict) or not completion.get("choices"):
            failed = isinstance(completion, dict) and ("error" in completion)
            self._fail(
                from_error_object(completion["error"])
                if failed
                else broken("a JSON body that is neither a completion nor an error")
            )
            return ""
        try:
            choice = completion["choices"][0]
            message = choice["message"]
            content = message.get("content") or message.get("refusal")
        except (AttributeError, KeyError, IndexError, TypeError):
            self._fail(broken("a completion of another shape"))
            return ""
        self._read_usage(completion.get("usage"))
        self.finish_reason = str(choice.get("finish_reason") or "stop")
        return self._repair.feed(content if isinstance(content, str) else _text_of(content))


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < 2**31


def lenient_json(data: bytes) -> Any:
    """Like orjson, but takes lone surrogates and bad UTF-8, both to be repaired; None if it
    is not JSON."""
    try:
        text = data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        text = data.decode("utf-8", "replace")
    try:
        return json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return None


def _text_of(content: object) -> str:
    """The text of a content that is a list of parts, as some providers send it."""
    if not isinstance(content, list):
        return ""
    texts = [part.get("text") for part in content if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str))

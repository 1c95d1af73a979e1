"""A provider's answer, from the bytes of its body to text, finish reason and usage.

Reads what OpenAI-compatible endpoints really send: server-sent chunks in all their variants, a
whole completion or an error object as JSON, or some proxy's HTML page.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

from colloquy_server.providers.endings import (
    CALLED,
    PAINTED,
    SPOKEN,
    THOUGHT,
    blank,
    finish_reason_of,
)
from colloquy_server.providers.errors import ProviderError, broken, from_error_object
from colloquy_server.providers.loose_events import loosened
from colloquy_server.providers.sse import MAX_EVENT_BYTES, SseDecoder, SseError
from colloquy_server.providers.text_repair import TextRepair
from colloquy_server.providers.usage import TokenUsage, UsageReader

_NOT_TEXT = THOUGHT | CALLED | PAINTED | SPOKEN
_MAX_WORDS = 4_000
"""Bytes of an event without JSON that are looked at."""


class AnswerReader:
    """Takes an answer's bytes as they come. `feed` and `close` never raise provider trouble:
    they keep it in `error`, so that the text that came before it is not lost."""

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.done = False
        """Nothing more is to be read: the end marker came, or an error."""
        self.is_finished = False
        """The last that came of the answer was a finish reason. Text may follow it all the same."""
        self.went_on = False
        """Text did follow one: no finish reason of this provider is the end."""
        self.error: ProviderError | None = None
        self._usage = UsageReader()
        self._fields: set[str] = set()  # of the message, beside its text
        self._has_text = False
        self._whole_message = ""  # where each chunk brings a message instead of a delta
        self._has_deltas = False
        self._sse = SseDecoder()
        self._repair = TextRepair()
        self._document: list[bytes] | None = None  # a body that is JSON instead of SSE
        self._document_bytes = 0
        self._sniffed = False

    @property
    def usage(self) -> TokenUsage | None:
        """What the provider counted so far; None if it did not say."""
        return self._usage.usage()

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
            text = self._read(self._sse.feed(data))
        except SseError as error:
            self._fail(broken(str(error)))
            return ""
        if not self._has_text:
            self._note_text(text)
        return text

    def close(self, failure: ProviderError | None = None) -> str:
        """The rest of the text, after the last byte; sets `error` if the answer is not whole.
        `failure` is what the connection ended by, if not well."""
        text = "" if self.done else self._read_rest(is_cut=failure is not None)
        text += self._repair.close()
        self._note_text(text)
        error = self._judge(failure)
        if error is not None:
            self._fail(error)
        elif self.finish_reason is None:
            self.finish_reason = "stop"
        return text

    def _read_rest(self, *, is_cut: bool) -> str:
        """What did not end by itself; if it was cut, only what is whole none the less."""
        if self._document is not None:
            body = b"".join(self._document)
            return "" if is_cut and lenient_json(body) is None else self._read_document(body)
        events = self._sse.close()
        return self._read([event for event in events if not is_cut or _is_whole(event)])

    def _judge(self, failure: ProviderError | None) -> ProviderError | None:
        """What is wrong with the answer as a whole."""
        reason = self.finish_reason
        if failure is not None and not self._may_end(failure):
            return failure
        if self.error is not None:
            return self.error
        if reason == "error":
            return broken("finish reason error")
        if reason == "content_filter":
            return ProviderError("CONTENT_FILTERED", detail="finish reason content_filter")
        if reason is None and not self.done:
            return broken("the stream ended without a finish reason")
        if not self._has_text:
            counted = {"reasoning"} if self._usage.has_thought else set[str]()
            return blank(reason, self._fields | counted)
        return None

    def _may_end(self, failure: ProviderError) -> bool:
        """Whether an answer is whole whose connection failed. A finish reason is not the end of
        it: as long as neither the counts nor the end marker came, text was still to come. Silence
        after it is another matter, since many never send either."""
        if self.done:
            return True
        is_silent = failure.reason == "PROVIDER_TIMEOUT" and not self.went_on
        return self.is_finished and (is_silent or self.usage is not None)

    def _note_text(self, text: str) -> None:
        """Spaces alone are no text."""
        self._has_text |= bool(text) and not text.isspace()

    def _sniff(self, data: bytes) -> None:
        """Tell by the first byte what the body is; its content type cannot be relied on."""
        start = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
        if not start:
            return
        self._sniffed = True
        if start in (b"{", b"["):
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
            if event.strip() == b"[DONE]":
                self.done = True
                return ""
            chunk = lenient_json(event)
            if chunk is None:
                return self._read_loose(event)
        try:
            choices = chunk.get("choices")
        except AttributeError:
            self._read_words(chunk)
            return ""
        if not choices:
            self._read_other(chunk)
            return ""
        try:
            if chunk.get("usage") or "x_groq" in chunk:
                self._read_usage(chunk)
            if chunk.get("error"):
                self._fail_unless_finished(from_error_object(chunk["error"]))
                return ""
            choice = choices[0]
            if choice.get("index") or len(choices) > 1:
                choice = _first(choices)
                if choice is None:
                    return ""
            return self._read_choice(choice)
        except (AttributeError, KeyError, IndexError, TypeError):
            self._fail_unless_finished(broken("a chunk of another shape"))
            return ""

    def _read_loose(self, event: bytes) -> str:
        """The text of an event that is no JSON."""
        events = loosened(event)
        if events is None:
            self._read_words(event[:_MAX_WORDS].decode("utf-8", "replace"))
        return "".join(map(self._read_unless_done, events or ()))

    def _read_unless_done(self, event: bytes) -> str:
        return "" if self.done else self._read_event(event)

    def _read_words(self, said: object) -> None:
        """What came in a chunk's place, and may say in words what went wrong."""
        if said is None:  # a sign of life
            return
        if isinstance(said, list):
            is_error = bool(said) and _error_of(said[0]) is not None
        else:
            is_error = isinstance(said, str) and said[:1].isalpha()
        error = from_error_object(said) if is_error else None
        if error is None or not (error.codes or error.reason != "PROVIDER_UNAVAILABLE"):
            error = broken("an event that is no JSON object")
        self._fail_unless_finished(error)

    def _read_choice(self, choice: dict[str, Any]) -> str:
        text = ""
        delta = choice.get("delta")
        if delta:
            content = delta.get("content") or delta.get("refusal")
            text = content if isinstance(content, str) else _text_of(content)
            if text:
                self._has_deltas = True
            else:
                self._note_fields(delta)
        if not text and not self._has_deltas:
            text = self._read_message(choice)
        if text and self.is_finished:
            self.is_finished = False
            self.went_on = True
        if "usage" in choice:
            self._usage.feed(choice["usage"])
        if choice.get("error"):
            self._fail_unless_finished(from_error_object(choice["error"]))
            return text
        reason = choice.get("finish_reason")
        if reason and (reason := finish_reason_of(reason)) is not None:
            self.finish_reason = reason
            self.is_finished = True
        return text

    def _read_message(self, choice: dict[str, Any]) -> str:
        """The text of a choice without a delta: a message, as some send in each chunk anew and
        longer, or the completions API's `text`."""
        message = choice.get("message")
        if not message:
            text = choice.get("text")
            return text if isinstance(text, str) else ""
        content = message.get("content") or message.get("refusal")
        content = content if isinstance(content, str) else _text_of(content)
        if not content:
            self._note_fields(message)
            return ""
        known = self._whole_message
        if known and content.startswith(known):
            self._whole_message = content
            return content[len(known) :]
        self._whole_message += content
        return content

    def _note_fields(self, message: dict[str, Any]) -> None:
        """What there is in a message beside text."""
        for name, value in message.items():
            if value and name in _NOT_TEXT:
                self._fields.add(name)
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and part.get("type") in _NOT_TEXT:
                self._fields.add(part["type"])

    def _read_other(self, chunk: dict[str, Any]) -> None:
        """A chunk without choices: usage, an error object, or nothing."""
        self._read_usage(chunk)
        error = _error_of(chunk)
        if error is not None:
            self._fail_unless_finished(from_error_object(error))

    def _read_usage(self, chunk: dict[str, Any]) -> None:
        self._usage.feed(chunk.get("usage"))
        own = chunk.get("x_groq")
        if isinstance(own, dict):
            self._usage.feed(own.get("usage"))

    def _fail_unless_finished(self, error: ProviderError) -> None:
        """An answer that has its finish reason is whole, whatever follows it; unless that says
        only that there was an error, of which this says more."""
        if not self.is_finished or self.finish_reason == "error":
            self._fail(error)
        else:
            self.done = True

    def _read_document(self, body: bytes) -> str:
        completion = lenient_json(body)
        if completion is None and (events := loosened(body)):
            return self._read(events)
        if isinstance(completion, list) and completion:
            completion = {"error": completion}
        if not isinstance(completion, dict) or not completion.get("choices"):
            error = _error_of(completion) if isinstance(completion, dict) else None
            self._fail(
                from_error_object(error)
                if error is not None
                else broken("a JSON body that is neither a completion nor an error")
            )
            return ""
        self._usage.feed(completion.get("usage"))
        try:
            choice = _first(completion["choices"]) or {}
            text = self._read_choice(choice)
        except (AttributeError, KeyError, IndexError, TypeError):
            self._fail(broken("a completion of another shape"))
            return ""
        if choice.keys().isdisjoint({"message", "delta", "text", "error"}):
            self._fail(broken("a completion of another shape"))
        self.done = True  # a whole body needs no finish reason
        return self._repair.feed(text)


def _first(choices: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The choice that is asked for; others may come between its chunks."""
    return next((one for one in choices if one.get("index") in (0, None, "0")), None)


def _is_whole(event: bytes) -> bool:
    return event.strip() == b"[DONE]" or lenient_json(event) is not None


def _error_of(chunk: object) -> object:
    """The error that an object without choices is, or holds; None if it is none."""
    if not isinstance(chunk, dict):
        return None
    if chunk.get("error"):
        # What stands beside it says more: its code is there at xAI, the request's id at Anthropic.
        return chunk
    own = chunk.get("base_resp")  # MiniMax's, in every answer
    if isinstance(own, dict) and own.get("status_code"):
        return chunk
    is_error = "choices" not in chunk and (chunk.get("type") == "error" or "message" in chunk)
    return chunk if is_error else None


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
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        return ""
    texts = [
        part.get("text") or part.get("refusal")
        for part in content
        if isinstance(part, dict) and part.get("type") not in _NOT_TEXT
    ]
    return "".join(text for text in texts if isinstance(text, str))

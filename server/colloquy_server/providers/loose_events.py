"""Events that are no JSON, as proxies make them of ones that were: with the field's name in them a
second time, several as one, or a sign of life where a comment was meant."""

from __future__ import annotations

import json
import re

_SIGN_OF_LIFE = re.compile(r":.*|(?i:\[?(?:ping|pong|heartbeat|keep-?alive)\]?|null)")
_FIELDS = re.compile(r"(?:data:\s*)*")
_SPACE = re.compile(r"\s*")
_DONE = "[DONE]"
_MAX_EVENTS = 50_000
"""Chunks are some hundred bytes, and a body is no more than 4 MiB."""


def loosened(event: bytes) -> list[bytes] | None:
    """The events that are in one, none in a sign of life; None if it is something else."""
    found: list[bytes] = []
    for line in event.decode("utf-8", "replace").splitlines():
        text = _FIELDS.sub("", line.strip(), count=1)
        if not text or _SIGN_OF_LIFE.fullmatch(text):
            continue
        values = [_DONE] if text == _DONE else _objects(text)
        if values is None or len(found) > _MAX_EVENTS:
            return None
        found += (value.encode() for value in values)
    return found


def _objects(text: str) -> list[str] | None:
    """The JSON objects that stand one after the other in a line; None if anything else does."""
    found: list[str] = []
    decoder = json.JSONDecoder()
    at = 0
    while at < len(text) and len(found) <= _MAX_EVENTS:
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return None
        if not isinstance(value, dict):
            return None
        found.append(text[at:end])
        space = _SPACE.match(text, end)
        at = space.end() if space else end
    return found if at >= len(text) else None

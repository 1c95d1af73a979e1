"""What an error's body says, in whatever shape a provider puts it: an object, a list of one, an
object in an object, FastAPI's `detail`, or JSON inside a string of a gateway's."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

_MAX_NODES = 200
_MAX_NESTED = 1 << 16
"""Characters of a string that are looked at for JSON in it."""

_CODES = ("code", "type", "status", "status_code", "reason", "error_type", "error_code", "__type")
_TEXTS = ("msg", "status_msg", "description", "error_description")
_INNER = (
    *("error", "errors", "detail", "details", "message", "innererror", "inner_error", "metadata"),
    *("raw", "violations", "fieldViolations", "base_resp"),
)
_REQUEST_IDS = ("request_id", "requestId", "requestID")
_SECONDS = ("retryDelay", "retry_after", "retry_after_seconds", "retryAfter")

# Neither a sentence nor a key fits these, whatever a provider puts in its fields.
_IDENTIFIER = re.compile(r"(?!sk-|key-|AIza)[A-Za-z0-9_.-]{1,64}")
_PARAM = re.compile(r"[a-z][a-z0-9_]{0,40}(?:[.\[][a-z0-9_]{0,40}\]?){0,8}")
REQUEST_ID = re.compile(r"(?!sk-|AIza)[A-Za-z0-9_.:/=+-]{1,128}")
"""What a request id may look like."""


@dataclass(slots=True)
class ErrorBody:
    """What was found. `text` is what people wrote, and may quote a key or a request: it never
    leaves the room."""

    codes: list[str] = field(default_factory=list)
    """Identifiers in lower case, the outermost first."""
    params: list[str] = field(default_factory=list)
    """Names of fields of the request."""
    texts: list[str] = field(default_factory=list)
    delays: list[str] = field(default_factory=list)
    """What it says of when to ask again."""
    headers: dict[str, str] = field(default_factory=dict)
    """Of the provider behind a gateway, by names in lower case."""
    request_id: str = ""

    @property
    def text(self) -> str:
        """All sentences, a line each."""
        return "\n".join(self.texts)

    @property
    def status(self) -> int | None:
        """An HTTP status among the codes."""
        found = (int(code) for code in self.codes if re.fullmatch("[45][0-9][0-9]", code))
        return next(found, None)


def read_error(body: object) -> ErrorBody:
    """What a body says; nothing if it is none of an error."""
    found = ErrorBody()
    queue, seen = [body], 0
    while queue and seen < _MAX_NODES:
        node = queue.pop(0)
        seen += 1
        if isinstance(node, dict):
            _read(node, found)
            queue += [node[key] for key in _INNER if key in node]
        elif isinstance(node, list):
            queue += node[:_MAX_NODES]
        elif isinstance(node, str):
            inner = _nested(node)
            if inner is None:
                found.texts.append(node.strip())
            else:
                queue.append(inner)
    return found


def _read(node: dict[str, Any], found: ErrorBody) -> None:
    for key in _CODES:
        value = node.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool):
            _read_code(str(value), found)
    if "flagged_input" in node:  # OpenRouter's only word for it; what it holds is the input
        found.codes.append("flagged_input")
    location = node.get("loc")
    if isinstance(location, list):
        _read_param(".".join(str(part) for part in location if part != "body"), found)
    for key in ("param", "field"):
        if isinstance(node.get(key), str):
            _read_param(node[key], found)
    found.texts += [node[key] for key in _TEXTS if isinstance(node.get(key), str)]
    found.delays += [
        str(node[key])
        for key in _SECONDS
        if isinstance(node.get(key), str | int | float) and not isinstance(node[key], bool)
    ]
    headers = node.get("headers")
    if isinstance(headers, dict):
        found.headers |= {str(name).lower(): str(value) for name, value in headers.items()}
    for key in _REQUEST_IDS:
        value = node.get(key)
        if not found.request_id and isinstance(value, str) and REQUEST_ID.fullmatch(value):
            found.request_id = value


def _read_code(value: str, found: ErrorBody) -> None:
    if _IDENTIFIER.fullmatch(value):
        if value.lower() not in (*found.codes, "error"):
            found.codes.append(value.lower())
    elif " " in value:  # xAI's codes are sentences
        found.texts.append(value)


def _read_param(value: str, found: ErrorBody) -> None:
    if _PARAM.fullmatch(value) and value not in found.params:
        found.params.append(value)


def _nested(text: str) -> object:
    """The JSON in a string, as gateways pass on what they were told; None if there is none."""
    start = text.find("{")
    if start < 0 or len(text) > _MAX_NESTED:
        return None
    try:
        inner, _ = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    before = text[:start].strip()
    return [before, inner] if before else inner

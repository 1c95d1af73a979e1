"""What can go wrong at a provider, in our own words.

A provider's own message never leaves this module: it may quote the key or the request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

Reason = Literal[
    "PROVIDER_RATE_LIMITED",
    "PROVIDER_AUTHENTICATION",
    "PROVIDER_REJECTED",
    "PROVIDER_QUOTA",
    "PROVIDER_UNAVAILABLE",
    "PROVIDER_TIMEOUT",
    "CONTENT_FILTERED",
]

_MESSAGES: dict[Reason, str] = {
    "PROVIDER_RATE_LIMITED": (
        "The AI provider is receiving too many requests. Try again in a minute."
    ),
    "PROVIDER_AUTHENTICATION": (
        "The AI provider did not accept this server's API key. "
        "Ask its operator to check the key, or choose another model."
    ),
    "PROVIDER_REJECTED": (
        "The AI provider did not accept this request. "
        "Change the message, start a new conversation, or choose another model."
    ),
    "PROVIDER_QUOTA": (
        "The account at the AI provider has no credit left. "
        "Ask the operator of this server to top it up, or choose another model."
    ),
    "PROVIDER_UNAVAILABLE": "The AI provider cannot be reached or failed. Try again later.",
    "PROVIDER_TIMEOUT": "The AI provider took too long to answer. Try again.",
    "CONTENT_FILTERED": (
        "The AI provider's content filter stopped this reply. Change the message and try again."
    ),
}
_TOO_LONG = (
    "This conversation is too long for the model. "
    "Shorten the message, start a new conversation, or choose a model with a larger window."
)
_NO_SUCH_MODEL = "The AI provider does not offer this model to this server. Choose another model."

_RETRYABLE = frozenset({"PROVIDER_RATE_LIMITED", "PROVIDER_UNAVAILABLE", "PROVIDER_TIMEOUT"})

_STATUSES: dict[int, Reason] = {
    401: "PROVIDER_AUTHENTICATION",
    402: "PROVIDER_QUOTA",
    403: "PROVIDER_AUTHENTICATION",
    408: "PROVIDER_TIMEOUT",
    409: "PROVIDER_UNAVAILABLE",
    425: "PROVIDER_UNAVAILABLE",
    429: "PROVIDER_RATE_LIMITED",
    504: "PROVIDER_TIMEOUT",
}

# `code` and `type` of error objects, as OpenAI, Azure, Anthropic, OpenRouter, vLLM and llama.cpp
# send them. The first group says more than the HTTP status does, the second one only as much.
_DECISIVE_CODES: dict[str, Reason] = {
    "insufficient_quota": "PROVIDER_QUOTA",
    "billing_hard_limit_reached": "PROVIDER_QUOTA",
    "billing_not_active": "PROVIDER_QUOTA",
    "content_filter": "CONTENT_FILTERED",
    "content_policy_violation": "CONTENT_FILTERED",
}
_CODES: dict[str, Reason] = {
    "invalid_api_key": "PROVIDER_AUTHENTICATION",
    "authentication_error": "PROVIDER_AUTHENTICATION",
    "permission_error": "PROVIDER_AUTHENTICATION",
    "permission_denied": "PROVIDER_AUTHENTICATION",
    "billing_error": "PROVIDER_QUOTA",
    "rate_limit_exceeded": "PROVIDER_RATE_LIMITED",
    "rate_limit_error": "PROVIDER_RATE_LIMITED",
    "too_many_requests": "PROVIDER_RATE_LIMITED",
    "requests": "PROVIDER_RATE_LIMITED",
    "tokens": "PROVIDER_RATE_LIMITED",
    "timeout": "PROVIDER_TIMEOUT",
    "timeout_error": "PROVIDER_TIMEOUT",
    "invalid_request_error": "PROVIDER_REJECTED",
    "bad_request_error": "PROVIDER_REJECTED",
    "badrequesterror": "PROVIDER_REJECTED",
    "not_found_error": "PROVIDER_REJECTED",
    "model_not_found": "PROVIDER_REJECTED",
    "context_length_exceeded": "PROVIDER_REJECTED",
    "exceed_context_size_error": "PROVIDER_REJECTED",
}
_TOO_LONG_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})

_TOO_LONG_TEXT = re.compile(
    r"prompt is too long|maximum (context|prompt) length|context (window|limit)"
    r"|too many (input )?tokens|exceeds the maximum number of tokens",
    re.IGNORECASE,
)

_IDENTIFIER = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class ProviderError(Exception):
    """The provider gave no whole answer.

    `reason` is an ErrorReason's name without its prefix, `message` is for end users,
    `retry_after` is in seconds (None: the provider said nothing), and `detail` is for the
    operator's log: the status and the provider's error code, never its text. `is_too_long` says
    that the request is over the model's window: a shorter one may do.
    """

    def __init__(
        self,
        reason: Reason,
        message: str | None = None,
        *,
        retryable: bool | None = None,
        retry_after: float | None = None,
        detail: str = "",
        is_too_long: bool = False,
        is_about_content: bool = False,
    ) -> None:
        self.reason: Reason = reason
        self.is_too_long = is_too_long
        self.is_about_content = is_about_content
        self.message = message or _MESSAGES[reason]
        self.retryable = reason in _RETRYABLE if retryable is None else retryable
        self.retry_after = retry_after
        self.detail = detail
        super().__init__(self.message)


def from_status(status: int, body: object, headers: Mapping[str, str]) -> ProviderError:
    """The error of an HTTP response; `body` is its error object, if it has one."""
    codes = _codes(body)
    reason = _decisive(codes) or _of_status(status)
    return _error(
        reason,
        codes,
        retry_after=retry_after(headers),
        status=status,
        is_too_long=_says_too_long(body),
    )


def from_error_object(error: object) -> ProviderError:
    """The error of an object that came in place of a chunk or of a completion."""
    codes = _codes(error)
    status = next((int(code) for code in codes if re.fullmatch("[45][0-9][0-9]", code)), None)
    by_status: Reason | None = _of_status(status) if status is not None else None
    by_code = next((_CODES[code] for code in codes if code in _CODES), None)
    reason = _decisive(codes) or by_status or by_code or "PROVIDER_UNAVAILABLE"
    return _error(reason, codes, retry_after=None, status=status, is_too_long=_says_too_long(error))


def broken(detail: str) -> ProviderError:
    """The answer ended too early or cannot be read."""
    return ProviderError(
        "PROVIDER_UNAVAILABLE",
        "The AI provider's answer broke off. Try again.",
        detail=detail,
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds until the provider wants to be asked again; None when it does not say."""
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _seconds(value)
    if seconds is not None or value is None:
        return seconds
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def _seconds(value: str | None) -> float | None:
    if value is None or not re.fullmatch(r"\s*[0-9]{1,9}(\.[0-9]{1,9})?\s*", value):
        return None
    return float(value)


def _codes(error: object) -> list[str]:
    """The error object's identifiers: code first, it says more than the type."""
    if not isinstance(error, dict):
        return []
    inner = error.get("error")
    fields = inner if isinstance(inner, dict) else error
    values = [fields.get(key) for key in ("code", "type", "status", "status_code")]
    return [
        str(value).lower()
        for value in values
        if isinstance(value, str | int) and _IDENTIFIER.fullmatch(str(value))
    ]


def _says_too_long(error: object) -> bool:
    """Whether the text says so: Anthropic, vLLM and others have no code for it."""
    if not isinstance(error, dict):
        return False
    inner = error.get("error")
    message = (inner if isinstance(inner, dict) else error).get("message")
    return isinstance(message, str) and _TOO_LONG_TEXT.search(message) is not None


def _decisive(codes: list[str]) -> Reason | None:
    return next((_DECISIVE_CODES[code] for code in codes if code in _DECISIVE_CODES), None)


def _of_status(status: int) -> Reason:
    if status in _STATUSES:
        return _STATUSES[status]
    return "PROVIDER_REJECTED" if 400 <= status < 500 else "PROVIDER_UNAVAILABLE"


def _error(
    reason: Reason,
    codes: list[str],
    *,
    retry_after: float | None,
    status: int | None,
    is_too_long: bool,
) -> ProviderError:
    message = None
    if reason == "PROVIDER_REJECTED":
        is_too_long |= not _TOO_LONG_CODES.isdisjoint(codes) or status == 413
        if is_too_long:
            message = _TOO_LONG
        elif status == 404 or "model_not_found" in codes:
            message = _NO_SUCH_MODEL
    details = [f"HTTP {status}", *codes] if status else codes
    return ProviderError(
        reason,
        message,
        retry_after=retry_after,
        detail=" ".join(details),
        is_too_long=is_too_long and reason == "PROVIDER_REJECTED",
        is_about_content=reason == "PROVIDER_REJECTED" and message != _NO_SUCH_MODEL,
    )

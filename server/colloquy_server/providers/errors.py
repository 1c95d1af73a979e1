"""What can go wrong at a provider, in our own words.

A provider's own message never leaves this room: it may quote the key or the request.
"""

from __future__ import annotations

from collections.abc import Mapping

from colloquy_server.providers.error_bodies import REQUEST_ID, read_error
from colloquy_server.providers.error_kinds import KINDS, TURNED_AWAY, Reason, kind_of
from colloquy_server.providers.retry_hints import retry_after

_RETRYABLE = frozenset({"PROVIDER_RATE_LIMITED", "PROVIDER_UNAVAILABLE", "PROVIDER_TIMEOUT"})

_REQUEST_ID_HEADERS = (
    *("x-request-id", "request-id", "apim-request-id", "x-ms-request-id", "x-litellm-call-id"),
    *("x-goog-request-id", "x-amzn-requestid", "mistral-correlation-id", "x-generation-id"),
    "cf-ray",
)

_MAX_CODES = 4


class ProviderError(Exception):
    """The provider gave no whole answer.

    `reason` is an ErrorReason's name without its prefix, `message` is for end users, and
    `retry_after` is in seconds (None: the provider said nothing). `is_too_long` says that the
    request is over the model's window: a shorter one may do. `is_blank` says that the provider did
    answer, but without a text. The rest is for the operator's log: `detail` in our own words, and
    what the provider calls the failure, never its text.
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
        is_blank: bool = False,
        status: int | None = None,
        codes: tuple[str, ...] = (),
        params: tuple[str, ...] = (),
        request_id: str = "",
    ) -> None:
        self.reason: Reason = reason
        self.is_too_long = is_too_long
        self.is_about_content = is_about_content
        self.is_blank = is_blank
        self.message = message or KINDS[reason].message
        self.retryable = reason in _RETRYABLE if retryable is None else retryable
        self.retry_after = retry_after
        self.detail = detail
        self.status = status
        self.codes = codes
        self.params = params
        self.request_id = request_id
        super().__init__(self.message)

    def log_fields(self) -> dict[str, object]:
        """What the operator's log says of it."""
        fields = {
            "reason": self.reason,
            "detail": self.detail,
            "status": self.status,
            "code": " ".join(self.codes),
            "param": " ".join(self.params),
            "provider_request_id": self.request_id,
        }
        return {name: value for name, value in fields.items() if value}


def from_status(status: int, body: object, headers: Mapping[str, str]) -> ProviderError:
    """The error of an HTTP response; `body` is its error object, if it has one."""
    return _error(status, body, headers)


def from_error_object(error: object) -> ProviderError:
    """The error of an object that came in place of a chunk or of a completion."""
    return _error(None, error, {})


def broken(detail: str) -> ProviderError:
    """The answer ended too early or cannot be read."""
    return ProviderError(
        "PROVIDER_UNAVAILABLE",
        "The AI provider's answer broke off. Try again.",
        detail=detail,
    )


def request_id_of(headers: Mapping[str, str]) -> str:
    """What the provider calls a request, by the headers of its answer; empty if it does not say."""
    found = (headers.get(name, "") for name in _REQUEST_ID_HEADERS)
    return next((value for value in found if REQUEST_ID.fullmatch(value)), "")


def _error(status: int | None, body: object, headers: Mapping[str, str]) -> ProviderError:
    said = read_error(body)
    known_status = status if status is not None else said.status
    kind = kind_of(known_status, said.codes, said.params, said.text)
    if status == 403 and body is None:  # a page, which no provider's API has for a key
        kind = TURNED_AWAY
    codes = tuple(said.codes[:_MAX_CODES])
    is_rate_limited = kind.reason == "PROVIDER_RATE_LIMITED"
    return ProviderError(
        kind.reason,
        kind.message,
        retry_after=retry_after(headers, said, is_rate_limited=is_rate_limited),
        detail=" ".join([f"HTTP {known_status}", *codes] if known_status else codes),
        is_too_long=kind.is_too_long,
        is_about_content=kind.is_about_content,
        status=known_status,
        codes=codes,
        params=tuple(said.params[:_MAX_CODES]),
        request_id=request_id_of(headers) or said.request_id,
    )

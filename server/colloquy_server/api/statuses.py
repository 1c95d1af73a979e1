"""Makes a status with details (google.rpc) of each error."""

from __future__ import annotations

from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from colloquy_server.errors import (
    BudgetExceeded,
    ColloquyError,
    InvalidField,
    Overloaded,
    QueueFull,
    QuotaExceeded,
    RateLimited,
    Unavailable,
)

DOMAIN = "conversation.v1"

_MAX_STATUS_TEXT = 1_200
"""Bytes of UTF-8 of a status's text. It travels three times in the trailers, once with three bytes
for each, and a caller whose trailers are over 8 KiB hears nothing of it."""

_SAYS_WHEN = (RateLimited, QueueFull, BudgetExceeded, Overloaded, Unavailable)


def status_of(error: ColloquyError) -> status_pb2.Status:
    """The status that a caller gets of an error."""
    message = _cut(error.message)
    status = status_pb2.Status(code=code_pb2.Code.Value(error.status), message=message)
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)]
    if isinstance(error, InvalidField):
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=field, description=_cut(what))
            for field, what in error.fields.items()
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if isinstance(error, _SAYS_WHEN) and error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(max(1, int(error.retry_after * 1_000)))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if isinstance(error, RateLimited | QueueFull | QuotaExceeded | BudgetExceeded):
        violation = error_details_pb2.QuotaFailure.Violation(
            subject=error.subject, description=message
        )
        details.append(error_details_pb2.QuotaFailure(violations=[violation]))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _cut(text: str) -> str:
    data = text.encode()
    if len(data) <= _MAX_STATUS_TEXT:
        return text
    return data[:_MAX_STATUS_TEXT].decode(errors="ignore") + "…"

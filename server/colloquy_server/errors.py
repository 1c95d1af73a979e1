"""The errors that callers are told of, each with its gRPC status and its public reason.

    ColloquyError
    ├── Unauthenticated       UNAUTHENTICATED
    ├── PermissionDenied      PERMISSION_DENIED
    ├── InvalidField          INVALID_ARGUMENT, names each field that is wrong
    │   ├── ModelError        the model is not in the catalogue, or has no key (providers/)
    │   └── MessageTooLong
    ├── NotFound              NOT_FOUND
    ├── RequestIdReused       ALREADY_EXISTS
    ├── ConversationBusy      ABORTED
    ├── QueueFull             RESOURCE_EXHAUSTED
    ├── RateLimited           RESOURCE_EXHAUSTED, says when to come back
    ├── Unavailable           UNAVAILABLE
    └── Unimplemented         UNIMPLEMENTED

`status` and `reason` are names, of grpc.StatusCode and of ErrorReason without its prefix, so that
this module needs neither. An error's docstring is its default message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class ColloquyError(Exception):
    """Something went wrong."""

    status: ClassVar[str] = "INTERNAL"
    reason: str = "INTERNAL"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__ or "")

    @property
    def message(self) -> str:
        """What happened and what can be done, for people. Never holds a key or internals."""
        return str(self)


class Unauthenticated(ColloquyError):
    """This call needs a valid API key in the metadata `authorization: Bearer <key>`."""

    status = "UNAUTHENTICATED"
    reason = "UNAUTHENTICATED"


class PermissionDenied(ColloquyError):
    """This key may not make this call."""

    status = "PERMISSION_DENIED"
    reason = "PERMISSION_DENIED"


class InvalidField(ColloquyError):
    """A field of the request is not valid."""

    status = "INVALID_ARGUMENT"
    reason = "INVALID_FIELD"

    def __init__(self, fields: Mapping[str, str]) -> None:
        """`fields` maps each bad field's path to what is wrong with it."""
        super().__init__("; ".join(f"{path}: {what}" for path, what in fields.items()))
        self.fields = dict(fields)


class MessageTooLong(InvalidField):
    """The message is too long."""

    reason = "MESSAGE_TOO_LONG"


class NotFound(ColloquyError):
    """There is no such thing."""

    status = "NOT_FOUND"

    def __init__(self, kind: str) -> None:
        """`kind` is ACCOUNT, CONVERSATION, MESSAGE, ATTACHMENT or API_KEY."""
        super().__init__(f"No such {kind.lower().replace('_', ' ')}.")
        self.reason = f"{kind}_NOT_FOUND"


class RequestIdReused(ColloquyError):
    """This request_id was used before with another request. Use a new one."""

    status = "ALREADY_EXISTS"
    reason = "REQUEST_ID_REUSED"


class ConversationBusy(ColloquyError):
    """A reply is being written in this conversation."""

    status = "ABORTED"
    reason = "CONVERSATION_BUSY"


class QueueFull(ColloquyError):
    """Too many replies wait in this conversation. Try again when some have finished."""

    status = "RESOURCE_EXHAUSTED"
    reason = "QUEUE_FULL"

    def __init__(self, subject: str, limit: int) -> None:
        super().__init__(f"{limit} replies wait in this conversation already. Try again later.")
        self.subject = subject
        self.retry_after = 5.0


class RateLimited(ColloquyError):
    """This key makes too many requests. Slow down."""

    status = "RESOURCE_EXHAUSTED"
    reason = "RATE_LIMITED"

    def __init__(self, subject: str, limit: int, retry_after: float) -> None:
        """`limit` is in requests a second; `retry_after` is in seconds."""
        super().__init__(f"This key makes more than {limit} requests a second. Slow down.")
        self.subject = subject
        self.retry_after = retry_after


class Unavailable(ColloquyError):
    """The server is shutting down. Connect again."""

    status = "UNAVAILABLE"
    reason = "INTERNAL"
    retry_after: ClassVar[float | None] = None
    """Seconds after which to come back, where that is known."""


class Unimplemented(ColloquyError):
    """This server does not offer this call yet."""

    status = "UNIMPLEMENTED"
    reason = "INTERNAL"

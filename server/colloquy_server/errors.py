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
    ├── QuotaExceeded         RESOURCE_EXHAUSTED, until something is deleted or has finished
    ├── BudgetExceeded        RESOURCE_EXHAUSTED, says when the budget starts anew
    ├── RateLimited           RESOURCE_EXHAUSTED, says when to come back
    │   └── TooManyFailures   of authentication, from one address
    ├── Overloaded            RESOURCE_EXHAUSTED, says when to come back
    ├── Unavailable           UNAVAILABLE
    └── Unimplemented         UNIMPLEMENTED

`status` and `reason` are names, of grpc.StatusCode and of ErrorReason without its prefix, so that
this module needs neither. An error's docstring is its default message.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
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
        """`kind` is ACCOUNT, CONVERSATION, MESSAGE, ATTACHMENT, API_KEY, USER, SESSION, BUDGET,
        WEBHOOK or DELIVERY."""
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


class TooManyFailures(RateLimited):
    """Too many calls from this address had no good key."""

    def __init__(self, limit: int, retry_after: float) -> None:
        """`limit` is in failed authentications a minute; `retry_after` is in seconds."""
        ColloquyError.__init__(
            self,
            f"More than {limit} calls a minute from this address had no good API key. This one has"
            " none either: check it, and come back later.",
        )
        self.subject = "address"
        self.retry_after = retry_after


class QuotaExceeded(ColloquyError):
    """A quota of the account or of the key is used up."""

    status = "RESOURCE_EXHAUSTED"
    reason = "QUOTA_EXCEEDED"

    def __init__(self, subject: str, what: str, limit: int) -> None:
        """`subject` is account:<id> or api_key:<id>; `what` there may be `limit` of."""
        whose = "account" if subject.startswith("account:") else "key"
        super().__init__(f"This {whose} may have {limit:,} {what} at a time, and that is used up.")
        self.subject = subject


class BudgetExceeded(ColloquyError):
    """A budget is used up."""

    status = "RESOURCE_EXHAUSTED"
    reason = "BUDGET_EXCEEDED"

    def __init__(self, subject: str, limit: str, renew_time: int, retry_after: float) -> None:
        """`subject` is account:<id>, user:<id>, api_key:<id> or model:<id>; `limit` says how much
        may be used. It starts anew at `renew_time`, in microseconds since 1970, in `retry_after`
        seconds."""
        whose = _WHOSE[subject.partition(":")[0]]
        time = datetime.fromtimestamp(renew_time // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M")
        super().__init__(
            f"This {whose} may use {limit}, and what is left is too little for another reply. The"
            f" budget starts anew at {time} UTC."
        )
        self.subject = subject
        self.retry_after = retry_after


_WHOSE = {"account": "account", "user": "user", "api_key": "key", "model": "account's model"}


class Overloaded(ColloquyError):
    """The server has as much to do as it takes on. Try again in a moment."""

    status = "RESOURCE_EXHAUSTED"
    reason = "OVERLOADED"

    def __init__(self, retry_after: float) -> None:
        """`retry_after` is in seconds."""
        super().__init__()
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

"""What can go wrong, as exceptions.

    ColloquyError
     ├── ConfigurationError   nothing was called: no key, a file that cannot be read, a bad address
     ├── Unauthenticated      the key is missing, unknown, expired or revoked
     ├── PermissionDenied     the key is good, its role may not make this call
     ├── InvalidArgument      the request is wrong; `fields` says where
     ├── NotFound             there is no such thing in the key's account
     ├── AlreadyExists        the request_id was used before, with other content
     ├── Busy                 a reply is being generated and the caller asked not to wait
     ├── ResourceExhausted    a limit is reached; `retry_after` says when to come back, if known
     ├── Unimplemented        this server does not offer the call
     ├── DeadlineExceeded     it took longer than the timeout that the caller gave
     ├── Unavailable          the server cannot be reached, or went away
     ├── ServerError          something went wrong in the server
     └── OutOfOrder           text of a reply is missing between two pieces

A reply that *fails* is no exception: it is a message in STATE_FAILED whose `error` says why.
"""

from __future__ import annotations

from typing import ClassVar, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

_DETAILS_KEY = "grpc-status-details-bin"


class ColloquyError(Exception):
    """Something went wrong.

    `message` is a sentence for people; `reason` is the name of an ErrorReason without its prefix,
    empty when the server gave none; `code` is the gRPC status, None when nothing was called;
    `fields` maps each bad field of the request to what is wrong with it; `retry_after` is how many
    seconds to wait before trying again, None when the server does not say.
    """

    # Whether the same call may succeed a little later.
    transient: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        code: grpc.StatusCode | None = None,
        fields: dict[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.code = code
        self.fields = fields or {}
        self.retry_after = retry_after

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r}, reason={self.reason!r})"


class ConfigurationError(ColloquyError):
    """The client cannot be set up; the message says what to change."""


class Unauthenticated(ColloquyError):
    """The key is missing, unknown, expired or revoked."""


class PermissionDenied(ColloquyError):
    """The key's role may not make this call."""


class InvalidArgument(ColloquyError):
    """The request is wrong; `fields` says where."""


class NotFound(ColloquyError):
    """There is no such thing in the key's account."""


class AlreadyExists(ColloquyError):
    """The request_id was used before, with other content."""


class Busy(ColloquyError):
    """A reply is being generated and the caller asked not to wait."""


class ResourceExhausted(ColloquyError):
    """A limit is reached; `retry_after` says when to come back, if known."""


class Unimplemented(ColloquyError):
    """This server does not offer the call."""


class DeadlineExceeded(ColloquyError):
    """It took longer than the timeout. What was accepted goes on in the server."""


class Unavailable(ColloquyError):
    """The server cannot be reached, or went away."""

    transient = True


class ServerError(ColloquyError):
    """Something went wrong in the server, or between it and here."""


class OutOfOrder(ColloquyError):
    """Text of a reply is missing between what is held and the piece that came."""


_CLASSES: dict[grpc.StatusCode, type[ColloquyError]] = {
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.ABORTED: Busy,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    # A proxy that closes a stream says CANCELLED. Our own cancels never come this way.
    grpc.StatusCode.CANCELLED: Unavailable,
}


def client_closed() -> ColloquyError:
    """Return the error for using a client that was closed, also meanwhile."""
    return ColloquyError("the client was closed")


def from_rpc_error(error: grpc.RpcError) -> ColloquyError:
    """Return the exception for a call that failed, sync or asyncio."""
    # Both kinds have the methods of grpc.Call; the base class does not say so.
    call = cast(grpc.Call, error)
    code = call.code()
    message = call.details() or f"the call ended with {code.name}"
    reason, fields, retry_after = _details(call)
    return _CLASSES.get(code, ServerError)(
        message, reason=reason, code=code, fields=fields, retry_after=retry_after
    )


def _details(call: grpc.Call) -> tuple[str, dict[str, str], float | None]:
    """Return reason, bad fields and wait from a status, as far as they are there."""
    # grpc_status.rpc_status.from_call refuses a status whose text a proxy changed; a client wants
    # what can be had.
    reason, fields, retry_after = "", dict[str, str](), None
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    try:
        for detail in _status(call).details:
            if detail.Unpack(info):
                reason = info.reason
            elif detail.Unpack(bad):
                for violation in bad.field_violations:
                    fields.setdefault(violation.field, violation.description)
            elif detail.Unpack(retry):
                retry_after = retry.retry_delay.ToTimedelta().total_seconds()
    except DecodeError:
        pass
    return reason, fields, retry_after


def _status(call: grpc.Call) -> status_pb2.Status:
    for key, value in call.trailing_metadata() or ():
        if key == _DETAILS_KEY:
            return status_pb2.Status.FromString(cast(bytes, value))
    return status_pb2.Status()

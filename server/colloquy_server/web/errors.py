"""Errors as Connect and gRPC-Web tell them: what the library says itself is put in our words."""

from __future__ import annotations

import base64

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from google.rpc import code_pb2
from protobuf.wkt import Any
from starlette.responses import JSONResponse

from colloquy_server.api.statuses import status_of
from colloquy_server.errors import ColloquyError, InvalidField, Unimplemented

_CODES = {code.name: code for code in Code} | {"CANCELLED": Code.CANCELED}

STATUSES = {
    "CANCELLED": 499,
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
}
"""Statuses of HTTP, as Connect has them."""


class Ended(ConnectError):
    """A call's end, by an error of ours."""


def connect_error(error: ColloquyError) -> ConnectError:
    """An error with its code and details."""
    status = status_of(error)
    # The library has Any of another implementation of protobuf, and takes no other.
    details = [Any(type_url=detail.type_url, value=detail.value) for detail in status.details]
    return Ended(_CODES[code_pb2.Code.Name(status.code)], status.message, details)


def of_library(error: ConnectError) -> ColloquyError | None:
    """What the library refuses a request with, before anybody else sees it; None when the call was
    at its end, as by its deadline."""
    if error.code in (Code.CANCELED, Code.DEADLINE_EXCEEDED):
        return None
    if error.code is Code.RESOURCE_EXHAUSTED:
        return InvalidField({"request": "is too large"})
    if error.code is Code.UNIMPLEMENTED:
        return Unimplemented("This call takes one request, without compression.")
    return InvalidField({"request": "is not a message of this call"})


def error_response(error: ColloquyError) -> JSONResponse:
    """An error of a plain route, told as Connect tells those of calls."""
    status = status_of(error)
    body = {
        "code": _CODES[error.status].value,
        "message": status.message,
        "details": [
            {
                "type": detail.type_url.rpartition("/")[2],
                "value": base64.b64encode(detail.value).decode().rstrip("="),
            }
            for detail in status.details
        ],
    }
    return JSONResponse(body, STATUSES[error.status], {"cache-control": "no-store"})

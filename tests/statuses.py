"""What a call that failed said: its status with the details that the contract promises.

refusal = await refused(alice.call("GetMessage", request))
assert (refusal.status, refusal.reason) == ("NOT_FOUND", "MESSAGE_NOT_FOUND")
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from colloquy.api import error_reason_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.harness import ADMIN_KEY, PROVISIONING_KEY, Stream

DOMAIN = "conversation.v1"

SECRETS = (
    ADMIN_KEY,
    PROVISIONING_KEY,
    "the-key-of-the-double",
    "colloquy_",
    "sk-12345",
    "secret detail",
)
"""What no status may ever carry: keys, and what the provider's double says in its errors."""

INTERNALS = ("Traceback", 'File "', "sqlalchemy", "sqlite", "psycopg", "SELECT ", "UPDATE ")
"""What gives away that an error of the server's inside came out as it was."""


@dataclass(frozen=True)
class Refusal:
    """A status with its details. Two that are equal tell a caller the same."""

    status: str
    message: str
    reason: str
    fields: dict[str, str]
    """What is wrong, by the path of the field."""
    retry_delay: float | None
    """Seconds, of RetryInfo."""
    quota: tuple[str, ...]
    """Subjects of the QuotaFailure."""


def read(error: grpc.aio.AioRpcError) -> Refusal:
    """Reads a status, and checks what the contract says of every status."""
    status: Any = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None, f"{error.code()} has no details: {error.details()}"
    details: dict[str, Message] = {}
    for packed in status.details:
        kind = packed.TypeName().rpartition(".")[2]
        detail = getattr(error_details_pb2, kind)()
        assert packed.Unpack(detail)
        assert kind not in details
        details[kind] = detail
    info: Any = details["ErrorInfo"]
    assert info.domain == DOMAIN
    assert f"ERROR_REASON_{info.reason}" in error_reason_pb2.ErrorReason.keys()  # noqa: SIM118
    assert status.message
    told = str(status)
    for forbidden in (*SECRETS, *INTERNALS):
        assert forbidden not in told, told
    bad: Any = details.get("BadRequest")
    retry: Any = details.get("RetryInfo")
    quota: Any = details.get("QuotaFailure")
    fields = {v.field: v.description for v in bad.field_violations} if bad else {}
    assert (error.code() == grpc.StatusCode.INVALID_ARGUMENT) == bool(fields)
    return Refusal(
        error.code().name,
        status.message,
        info.reason,
        fields,
        retry.retry_delay.ToTimedelta().total_seconds() if retry else None,
        tuple(violation.subject for violation in quota.violations) if quota else (),
    )


async def refused(call: Awaitable[Any] | Stream) -> Refusal:
    """Waits for a call that has to fail, or reads a stream to the end at which it has to."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call.rest() if isinstance(call, Stream) else call)
    return read(caught.value)


async def status_of(call: Any) -> str:
    """What a call came to: OK, or the status and the reason, which it has to have."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        refusal = read(error)
        return f"{refusal.status} {refusal.reason}"
    return "OK"

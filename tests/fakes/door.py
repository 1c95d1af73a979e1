"""What the services of the fake Colloquy share: keys, faults, statuses, pages."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Iterable
from typing import Any, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyProto
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

KEY = "clq_fake"
ADMIN_KEY = "clq_platform"


class Door:
    """Lets calls in, or has them fail."""

    def __init__(self) -> None:
        # Names of the calls that came, with their requests.
        self.calls: list[tuple[str, Any]] = []
        # For each next call that is no stream: the status that it fails with.
        self.failures: deque[status_pb2.Status] = deque()
        # For each next stream: after how many answers it breaks, and with which status.
        self.breaks: deque[tuple[int, status_pb2.Status]] = deque()
        # For each next call that says something: the status that it is refused with.
        self.refusals: deque[status_pb2.Status] = deque()
        # Where, if anywhere, each call waits.
        self.gate: asyncio.Event | None = None

    async def enter(
        self, request: Any, context: Any, *, key: str = KEY, stream: bool = False
    ) -> None:
        self.calls.append((type(request).__name__.removesuffix("Request"), request))
        if ("authorization", f"Bearer {key}") not in tuple(context.invocation_metadata()):
            await refuse(
                context, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", "the key is not known"
            )
        if self.gate is not None:
            await self.gate.wait()
        if self.refusals and self.calls[-1][0] == "SendMessage":
            await context.abort_with_status(rpc_status.to_status(self.refusals.popleft()))
        if self.failures and not stream:
            await context.abort_with_status(rpc_status.to_status(self.failures.popleft()))


def new_id() -> str:
    """An id of the form that the real ones have."""
    return str(uuid.uuid4())


def status(
    code: grpc.StatusCode,
    reason: str = "",
    message: str = "going away",
    *,
    fields: dict[str, str] | None = None,
    quota: str = "",
    retry_after: float | None = None,
) -> status_pb2.Status:
    """A status with its details."""
    details: list[Any] = []
    if reason:
        details.append(error_details_pb2.ErrorInfo(reason=reason, domain="conversation.v1"))
    if fields:
        violation = error_details_pb2.BadRequest.FieldViolation
        violations = [violation(field=name, description=text) for name, text in fields.items()]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if quota:
        used_up = error_details_pb2.QuotaFailure.Violation(subject=quota, description=message)
        details.append(error_details_pb2.QuotaFailure(violations=[used_up]))
    if retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(int(retry_after * 1000))
        details.append(retry)
    packed = [AnyProto() for _ in details]
    for place, detail in zip(packed, details, strict=True):
        place.Pack(detail)
    return status_pb2.Status(code=code.value[0], message=message, details=packed)


def budget_exceeded(days: int = 3) -> status_pb2.Status:
    """What a send gets when a budget is used up that starts anew in so many days."""
    return status(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "BUDGET_EXCEEDED",
        "This account may use $50.00 a month, and what is left is too little for another reply. The"
        " budget starts anew at 2026-12-01 00:00 UTC.",
        quota=f"account:{new_id()}",
        retry_after=days * 86_400,
    )


GONE = status(grpc.StatusCode.UNAVAILABLE)


async def refuse(
    context: Any,
    code: grpc.StatusCode,
    reason: str,
    message: str,
    *,
    fields: dict[str, str] | None = None,
) -> NoReturn:
    """Fail a call as the real server does."""
    await context.abort_with_status(
        rpc_status.to_status(status(code, reason, message, fields=fields))
    )
    raise AssertionError


def paged(items: list[Any], size: int, token: str) -> tuple[Iterable[Any], str]:
    """A page of a list, and the token of the next one."""
    start, size = int(token or 0), size or 50
    return items[start : start + size], str(start + size) if len(items) > start + size else ""

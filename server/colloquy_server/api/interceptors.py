"""The edge of the API: what surrounds every call, in the order in which it happens.

log         one line a call, with the status that the caller got
errors      every error becomes a status with details; none leaks internals
authenticate, authorise
validate    the request against the rules in the proto
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import protovalidate
import structlog
from colloquy.api import conversation_service_pb2
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from colloquy_server.api import convert
from colloquy_server.api.access import AccessControl, Principal, principal
from colloquy_server.database.models import KeyRole
from colloquy_server.errors import (
    ColloquyError,
    InvalidField,
    MessageTooLong,
    PermissionDenied,
    QueueFull,
    RateLimited,
    Unauthenticated,
    Unavailable,
)
from colloquy_server.telemetry import Telemetry

log = structlog.get_logger()

DOMAIN = "conversation.v1"

_OPEN_TO_ALL = ("/grpc.health.v1.", "/grpc.reflection.")
_ADMIN = "/conversation.v1.AdminService/"

_AUTHORIZATION = "authorization"

_MAX_STATUS_TEXT = 1_200
"""Bytes of UTF-8 of a status's text. It travels three times in the trailers, once with three bytes
for each, and a caller whose trailers are over 8 KiB hears nothing of it."""

CANCEL_NOTICE = 0.05
"""Seconds: when a caller goes away, what the call was doing ends first, and gRPC cancels its task a
little later."""

Context = grpc.aio.ServicerContext[Any, Any]
Behaviour = Callable[[Any, Context], Awaitable[Any]]


class Edge(grpc.aio.ServerInterceptor):
    """Wraps every method of the API. The health and reflection services are left as they are."""

    def __init__(self, access: AccessControl, telemetry: Telemetry) -> None:
        self._access = access
        self._telemetry = telemetry
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler of a call, wrapped once a method."""
        method = str(handler_call_details.method)
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None or method.startswith(_OPEN_TO_ALL):
                return handler  # type: ignore[return-value]
            wrapped = self._wrapped[method] = self._wrap(method, handler)
        return wrapped

    def _wrap(
        self, method: str, handler: grpc.RpcMethodHandler[Any, Any]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        parse: Any = handler.request_deserializer
        serialise = handler.response_serializer
        behaviour: Any
        if handler.request_streaming:
            behaviour = handler.stream_unary
        elif handler.response_streaming:
            behaviour = handler.unary_stream
        else:
            behaviour = handler.unary_unary

        async def serve(request: Any, context: Context) -> Any:
            return await self._serve(method, handler, parse, behaviour, request, context)

        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        # A request is parsed inside, so that one that cannot be parsed gets an answer of ours.
        return make(serve, None, serialise)

    async def _serve(
        self,
        method: str,
        handler: grpc.RpcMethodHandler[Any, Any],
        parse: Callable[[bytes], Message],
        behaviour: Behaviour,
        request: Any,
        context: Context,
    ) -> Any:
        started = time.monotonic()
        caller: Principal | None = None
        with self._telemetry.call(method) as call:
            try:
                caller = await self._access.authenticate(_authorization(context))
                principal.set(caller)
                _authorise(method, caller)
                if handler.request_streaming:
                    request = _parse_each(parse, request)
                else:
                    request = _decode(parse, request)
                    _authorise_author(caller, request)
                    validate(request)
                if handler.response_streaming or handler.request_streaming:
                    return await self._stream(caller, behaviour(request, context))
                return await behaviour(request, context)
            except (Exception, asyncio.CancelledError) as error:
                call.status = "CANCELLED"
                refusal = await self._refusal(error, method)
                if refusal is None:
                    raise
                call.status = refusal.status
                await abort(context, refusal)
            finally:
                log.info(
                    "call",
                    method=method,
                    status=call.status,
                    seconds=round(time.monotonic() - started, 4),
                    account_id=caller.account_id if caller else None,
                    key_id=caller.key_id if caller else None,
                )

    async def _stream(self, caller: Principal, behaviour: Awaitable[Any]) -> Any:
        """Serves a stream as long as its key is good."""
        with self._access.stream(caller) as end:
            try:
                return await behaviour
            except (Exception, asyncio.CancelledError):  # a write raises what it likes
                task = asyncio.current_task()
                if not end.is_due or task is None or task.uncancel():
                    raise
                raise Unauthenticated("This API key has ended.") from None

    async def _refusal(self, error: BaseException, method: str) -> ColloquyError | None:
        """What the caller is told of an error; None when the caller has gone away."""
        if not isinstance(error, ColloquyError | asyncio.CancelledError):
            # A write to a caller who goes away fails too; the task is then cancelled here.
            await asyncio.sleep(CANCEL_NOTICE)
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            return None
        if isinstance(error, ColloquyError):
            return error
        if isinstance(error, asyncio.CancelledError):
            # Something that the call waited for was cancelled. A handler that ended like that
            # would leave its caller waiting for ever.
            return Unavailable()
        log.error("call failed", method=method, exc_info=error)
        self._telemetry.unexpected(error)
        return ColloquyError("Something went wrong in the server.")


def _authorization(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == _AUTHORIZATION:
            return value if isinstance(value, str) else value.decode("latin-1")
    return ""


def _authorise(method: str, caller: Principal) -> None:
    if method.startswith(_ADMIN) and not caller.is_platform:
        raise PermissionDenied("Only the platform's key (ADMIN_API_KEY) may administer.")
    if caller.is_platform and not method.startswith(_ADMIN):
        raise PermissionDenied(
            "The platform's key only administers: make this call with an account's key."
        )


def _authorise_author(caller: Principal, request: Message) -> None:
    """Whether the caller may speak as whom it names; before the request is looked at further."""
    if caller.role == KeyRole.MEMBER and "author" in request.DESCRIPTOR.fields_by_name:
        caller.author(convert.author(request.author))  # type: ignore[attr-defined]


async def _parse_each(
    parse: Callable[[bytes], Message], requests: AsyncIterator[bytes]
) -> AsyncIterator[Message]:
    """The messages of a stream. Whoever takes them validates them: most are bytes of a file."""
    async for data in requests:
        yield _decode(parse, data)


def _decode(parse: Callable[[bytes], Message], data: bytes) -> Message:
    try:
        return parse(data)
    except DecodeError:
        raise InvalidField({"request": "is not a message of this call"}) from None


def validate(request: Message) -> None:
    """Checks a request against the rules in the proto. Raises InvalidField."""
    fields: dict[str, str] = {}
    is_too_long = False
    for violation in protovalidate.collect_violations(request):
        proto = violation.proto
        elements = proto.field.elements if proto.field else ()
        # A rule on the whole message has the path of the field that it is about for its id.
        path = ".".join(element.field_name for element in elements) or proto.rule_id
        fields[path] = proto.message
        is_too_long |= path == "content" and proto.rule_id == "string.max_bytes"
    if is_too_long:
        raise MessageTooLong(fields)
    if fields:
        raise InvalidField(fields)


def warm_up() -> None:
    """Compiles the rules, which takes some milliseconds, before the first request."""
    validate(conversation_service_pb2.ListModelsRequest())


async def abort(context: Context, error: ColloquyError) -> None:
    """Ends a call with an error's status and details."""
    message = _cut(error.message)
    status = status_pb2.Status(code=code_pb2.Code.Value(error.status), message=message)
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)]
    if isinstance(error, InvalidField):
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=field, description=_cut(what))
            for field, what in error.fields.items()
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if isinstance(error, RateLimited | QueueFull | Unavailable) and error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(max(1, int(error.retry_after * 1_000)))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if isinstance(error, RateLimited | QueueFull):
        violation = error_details_pb2.QuotaFailure.Violation(
            subject=error.subject, description=message
        )
        details.append(error_details_pb2.QuotaFailure(violations=[violation]))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    await context.abort_with_status(rpc_status.to_status(status))


def _cut(text: str) -> str:
    data = text.encode()
    if len(data) <= _MAX_STATUS_TEXT:
        return text
    return data[:_MAX_STATUS_TEXT].decode(errors="ignore") + "…"

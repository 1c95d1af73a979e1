"""The edge of the API: what surrounds every call, in the order in which it happens.

log         one line a call, with the status that the caller got
errors      every error becomes a status with details; none leaks internals
authenticate, authorise, by the metadata alone
limit       the calls that are served at once
request     is only now taken in, and parsed
validate    the request against the rules in the proto
audit       who did what, and who was refused

It knows no transport: `interceptors.py` brings calls here by gRPC, `web/` by HTTP.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, Protocol, TypeVar

import protovalidate
import structlog
from colloquy.api import admin_service_pb2, conversation_service_pb2
from google.protobuf.message import Message

from colloquy_server import tracing
from colloquy_server.api import convert
from colloquy_server.api.access import AccessControl, Principal, principal
from colloquy_server.api.audit import AuditTrail, actor_of
from colloquy_server.api.call_limiter import CallLimiter
from colloquy_server.api.credentials import Credential
from colloquy_server.api.handlers import Context, Handler
from colloquy_server.api.peers import Metadata, caller_address
from colloquy_server.database.repository.audit import current as current_event
from colloquy_server.errors import (
    ColloquyError,
    InvalidField,
    MessageTooLong,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from colloquy_server.telemetry import Telemetry

T = TypeVar("T")

log = structlog.get_logger()

_ADMIN = "/conversation.v1.AdminService/"

_PROVISIONING = frozenset({f"{_ADMIN}CreateAccount", f"{_ADMIN}CreateApiKey"})
"""What a provisioning key may call, and nothing else."""

_REVOKE = f"{_ADMIN}RevokeApiKey"

_AUTHORIZATION = "authorization"


class Requests(Protocol):
    """What a caller sends, which is taken in when it is asked for."""

    async def one(self) -> Message:
        """The request of a call that has one. Raises InvalidField."""
        ...

    def each(self) -> AsyncIterator[Message]:
        """The requests of a stream. Raises InvalidField."""
        ...


class Edge:
    """Surrounds every call that needs a key, however it comes."""

    def __init__(
        self,
        access: AccessControl,
        trail: AuditTrail,
        telemetry: Telemetry,
        *,
        proxies: int,
        max_calls: int,
        max_streams: int,
    ) -> None:
        """`proxies` is how many stand before the server and say whom they were called by.

        So many calls with one answer, and so many with more, are served at once; half of them
        for one key."""
        self.access = access
        self.trail = trail
        self.telemetry = telemetry
        self.proxies = proxies
        self.calls = CallLimiter(max_calls, (max_calls + 1) // 2)
        self.streams = CallLimiter(max_streams, (max_streams + 1) // 2)

    def call(
        self,
        method: str,
        handler: Handler,
        metadata: Metadata,
        peer: str,
        system: str,
        session: str = "",
    ) -> EdgeCall:
        """A call that has come; `peer` is where from, as gRPC writes it, and `system` by what.
        `session` is the secret of a browser's, of which it is known that our own page calls."""
        return EdgeCall(self, method, handler, metadata, peer, system, session)


class EdgeCall:
    """One call: `admit`, `run`, `refuse` if either of them failed, and at last `close`."""

    def __init__(
        self,
        edge: Edge,
        method: str,
        handler: Handler,
        metadata: Metadata,
        peer: str,
        system: str,
        session: str,
    ) -> None:
        self._edge = edge
        self._session = session
        self._method = method
        self._handler = handler
        self._authorization = _authorization(metadata)
        self._address = caller_address(peer, metadata, edge.proxies)
        self._credential: Credential | None = None
        self._started = time.monotonic()
        self.request_id = tracing.request_id_of(metadata)
        """What it is followed by: its caller's own id, or one that was made for it."""
        tracing.request_id.set(self.request_id)
        self._stack = ExitStack()
        trace = tracing.trace_of(metadata)
        self._told = self._stack.enter_context(edge.telemetry.call(method, system, trace))

    @property
    def _is_stream(self) -> bool:
        return bool(self._handler.response_streaming or self._handler.request_streaming)

    async def admit(self) -> None:
        """Finds out who calls, and whether they may. Raises what they are refused with."""
        edge = self._edge
        if self._session:
            self._credential = await edge.access.authenticate_session(self._session, self._address)
        else:
            self._credential = await edge.access.authenticate(self._authorization, self._address)
        caller = self._credential.principal
        principal.set(caller)
        edge.trail.signed_in(caller, self._address)
        _authorise(self._method, caller)
        limiter = edge.streams if self._is_stream else edge.calls
        self._stack.enter_context(limiter.call(caller.key_id or caller.user_id or actor_of(caller)))

    async def while_good(self, do: Callable[[], Awaitable[T]]) -> T:
        """Waits for what comes before `run`, as long as the key is good. Raises Unauthenticated."""
        assert self._credential is not None
        return await self._credential.while_good(do)

    async def run(self, requests: Requests, context: Context) -> Any:
        """Takes the request in and has it done; returns the answer of a call that has one.

        Between the headers and the request any time may pass, and the key may end: nothing waits
        here before it is known that it would be heard of."""
        credential, handler = self._credential, self._handler
        assert credential is not None
        if self._is_stream:
            return await credential.while_good(partial(self._stream, requests, context))
        request = await credential.while_good(partial(self._request, requests))
        event = self._edge.trail.begin(credential.principal, self._method, self._address, request)
        response = await handler.unary_unary(request, context)
        if event is not None:
            self._edge.trail.done(event, response)
        return response

    async def _stream(self, requests: Requests, context: Context) -> Any:
        if self._handler.request_streaming:
            # Whoever takes them validates them: most are bytes of a file.
            return await self._handler.stream_unary(requests.each(), context)
        request = await self._request(requests)
        assert self._credential is not None
        trail = self._edge.trail
        event = trail.begin(self._credential.principal, self._method, self._address, request)
        await self._handler.unary_stream(request, context)
        if event is not None:
            trail.done(event, None)
        return None

    async def _request(self, requests: Requests) -> Message:
        """The request of a call that has one, which its caller may make."""
        request = await requests.one()
        assert self._credential is not None
        _authorise_author(self._credential.principal, request)
        _authorise_revocation(self._credential.principal, request)
        validate(request)
        return request

    def refuse(self, error: BaseException) -> ColloquyError | None:
        """What the caller is told of an error; None when the caller has gone away, or will wait no
        longer."""
        self._told.status = "CANCELLED"
        refusal = self._refusal(error)
        if refusal is None:
            event = current_event.get()
            if event is not None and event.is_added:
                self._edge.trail.done(event, None)
            return None
        self._told.status = refusal.status
        if isinstance(refusal, Unauthenticated | PermissionDenied):
            caller = self._credential.principal if self._credential else None
            self._edge.trail.refused(caller, self._method, self._address, refusal.reason)
        return refusal

    def _refusal(self, error: BaseException) -> ColloquyError | None:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            return None
        if isinstance(error, ColloquyError):
            return error
        if isinstance(error, asyncio.CancelledError):
            # Something that the call waited for was cancelled. A handler that ended like that
            # would leave its caller waiting for ever.
            return Unavailable()
        log.error("call failed", method=self._method, request_id=self.request_id, exc_info=error)
        self._edge.telemetry.unexpected(error)
        return ColloquyError("Something went wrong in the server.")

    def close(self) -> None:
        """Lets others have its place, and logs it."""
        self._stack.close()
        caller = self._credential.principal if self._credential else None
        log.info(
            "call",
            method=self._method,
            status=self._told.status,
            request_id=self.request_id,
            seconds=round(time.monotonic() - self._started, 4),
            account_id=caller.account_id if caller else None,
            key_id=caller.key_id if caller else None,
        )


def _authorization(metadata: Metadata) -> str:
    for key, value in metadata:
        if key == _AUTHORIZATION:
            return value if isinstance(value, str) else value.decode("latin-1")
    return ""


def _authorise(method: str, caller: Principal) -> None:
    if caller.is_provisioning:
        if method not in _PROVISIONING:
            raise PermissionDenied(
                "A provisioning key (PROVISIONING_API_KEY) only makes accounts and their keys."
            )
    elif method.startswith(_ADMIN) and method != _REVOKE and not caller.is_platform:
        raise PermissionDenied("Only the platform's key (ADMIN_API_KEY) may administer.")
    if caller.is_platform and not method.startswith(_ADMIN):
        raise PermissionDenied(
            "The platform's key only administers: make this call with an account's key."
        )


def _authorise_revocation(caller: Principal, request: Message) -> None:
    """Any key may revoke itself, so that whoever has one can make an end of it. A session on it may
    not: it ends itself."""
    if caller.is_platform or not isinstance(request, admin_service_pb2.RevokeApiKeyRequest):
        return
    if caller.session_id or not caller.key_id or request.api_key_id.lower() != caller.key_id:
        raise PermissionDenied("An account's key may revoke no key but itself.")


def _authorise_author(caller: Principal, request: Message) -> None:
    """Whether the caller may speak as whom it names; before the request is looked at further."""
    if not caller.speaks_for_others and "author" in request.DESCRIPTOR.fields_by_name:
        caller.author(convert.author(request.author))  # type: ignore[attr-defined]


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

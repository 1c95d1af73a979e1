"""All RPCs for who has only HTTP: Connect (JSON and proto) and gRPC-Web, by POST.

The library speaks the protocols; who may call, what is valid and what is answered is the edge's, as
for gRPC. A call's headers are looked at first, and its body is read when they are good.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from connectrpc.code import Code
from connectrpc.compat import google_protobuf_codecs
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext
from connectrpc.server import ConnectASGIApplication, Endpoint
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from starlette.types import Receive, Scope, Send

from colloquy_server.api.edge import Edge, EdgeCall
from colloquy_server.api.handlers import Handler, method_handlers
from colloquy_server.api.transport import MAX_REQUEST_BYTES
from colloquy_server.errors import ColloquyError, Unavailable, Unimplemented
from colloquy_server.web.browsers import Browsers, FromElsewhere
from colloquy_server.web.calls import HttpCall, answer, header, headers_for_library
from colloquy_server.web.errors import Ended, connect_error, of_library

Service = tuple[ServiceDescriptor, object]
"""A service and who serves it."""

_UNKNOWN = "/"
"""The library's path of all methods that there are not."""

_UNARY_TYPES = frozenset({"application/json", "application/proto"})

_STREAM_TYPES = frozenset({"application/connect+json", "application/connect+proto"})

_WEB_TYPES = frozenset(
    {"application/grpc-web", "application/grpc-web+proto", "application/grpc-web+json"}
)

_current: ContextVar[_Served] = ContextVar("call")
"""The call that the library is being asked to serve."""


class Rpc:
    """The ASGI application of all RPCs."""

    def __init__(
        self,
        edge: Edge,
        services: Sequence[Service],
        browsers: Browsers,
        request_timeout: float,
    ) -> None:
        """`request_timeout`, in seconds, is how long a request may let wait."""
        self._edge = edge
        self._browsers = browsers
        self._request_timeout = request_timeout
        self._handlers: dict[str, Handler] = {}
        self._outputs: dict[str, type[Message]] = {}
        self._prefixes = tuple(f"/{service.full_name}/" for service, _ in services)
        self.is_draining = False
        """Whether new calls are sent elsewhere."""
        endpoints: dict[str, Any] = {_UNKNOWN: _unknown_endpoint()}
        for service, servicer in services:
            for name, handler in method_handlers(service, servicer).items():
                path = f"/{service.full_name}/{name}"
                method = service.methods_by_name[name]
                self._handlers[path] = handler
                self._outputs[path] = GetMessageClass(method.output_type)
                endpoints[path] = _endpoint(service, method)
        self._library = _Library(endpoints)

    def includes(self, path: str) -> bool:
        """Whether a path is of a service, be there such a method or not."""
        return path.startswith(self._prefixes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one call."""
        path = scope["path"]
        handler = self._handlers.get(path)
        if scope["method"] != "POST":
            await answer(send, 405, "Calls are made by POST.", (b"allow", b"POST"))
            return
        streams = handler is not None and (handler.response_streaming or handler.request_streaming)
        kind = header(scope, b"content-type").partition(";")[0].strip().lower()
        known = (_STREAM_TYPES if streams else _UNARY_TYPES) | _WEB_TYPES
        if handler is None:
            known |= _STREAM_TYPES
        if kind not in known:
            types = ", ".join(sorted(known))
            await answer(send, 415, f"Send one of {types}.", (b"accept-post", types.encode()))
            return
        http = HttpCall(
            receive,
            send,
            content_type=kind,
            output=self._outputs.get(path, Empty),
            is_stream=bool(streams),
            accepts_gzip="gzip" in header(scope, b"accept-encoding"),
            patience=self._request_timeout,
        )
        headers, refusal = headers_for_library(scope, kind)
        if self.is_draining:
            refusal = Unavailable()
        call = None
        if handler is None:
            refusal = Unimplemented("There is no such call.")
            path = _UNKNOWN
        else:
            system = "grpc" if kind in _WEB_TYPES else "connectrpc"
            session = ""
            try:
                session = self._browsers.session_of(scope)
            except FromElsewhere as error:
                refusal = error
            call = self._edge.call(
                path, handler, metadata_of(scope), peer_of(scope), system, session
            )
            http.request_id = call.request_id
        served = _Served(http, call, refusal)
        _current.set(served)
        reduced = {**scope, "path": path, "root_path": "", "headers": headers}
        await self._library(reduced, http.receive, http.send)


class _Served:
    """One call, between the library and the edge."""

    def __init__(
        self, http: HttpCall, call: EdgeCall | None, refusal: ColloquyError | None
    ) -> None:
        self.http = http
        self.call = call
        self.refusal = refusal

    async def admit(self) -> None:
        """Before the body is read. Raises Ended."""
        try:
            if self.refusal is not None:
                raise self.refusal
            assert self.call is not None
            await self.call.admit()
            self.http.while_good = self.call.while_good
        except (Exception, asyncio.CancelledError) as error:
            try:
                self.raise_refusal(error)
            finally:
                self.close()

    async def run(self, requests: Any) -> Any:
        """Has it done. Raises Ended."""
        assert self.call is not None
        self.http.stop_guarding()  # it is looked after in there
        try:
            return await self.call.run(requests, self.http)
        except (Exception, asyncio.CancelledError) as error:
            self.raise_refusal(error)

    def raise_refusal(self, error: BaseException) -> None:
        """Raises what the caller is told of an error, or the error when nobody hears it."""
        if self.call is None:
            assert isinstance(error, ColloquyError)
            raise connect_error(error) from None
        refusal = self.call.refuse(error)
        if refusal is None:
            raise error
        raise connect_error(refusal) from None

    def close(self) -> None:
        if self.call is not None:
            self.call.close()


class _AtTheEdge:
    """Where the library asks, before it reads a request, and says how a call ended."""

    async def on_start(self, _context: RequestContext[Any, Any]) -> _Served:
        served = _current.get()
        await served.admit()
        return served

    async def on_end(
        self, served: _Served, _context: RequestContext[Any, Any], error: Exception | None, /
    ) -> None:
        try:
            if error is None or isinstance(error, Ended):
                return
            if not isinstance(error, ConnectError):  # of what was read
                served.raise_refusal(error)
            elif (refusal := of_library(error)) is not None:
                served.raise_refusal(refusal)
            elif error.code is Code.DEADLINE_EXCEEDED:
                raise Ended(error.code, "The call took longer than its caller would wait.")
        finally:
            served.close()


class _Library(ConnectASGIApplication[Mapping[str, Any]]):
    """The library, which compresses nothing: what is worth it `HttpCall` does."""

    def __init__(self, endpoints: Mapping[str, Any]) -> None:
        super().__init__(
            service=endpoints,
            endpoints=lambda given: given,
            interceptors=[_AtTheEdge()],
            read_max_bytes=MAX_REQUEST_BYTES,
            compressions=(),
            codecs=google_protobuf_codecs(),
        )

    @property
    def path(self) -> str:
        """None: its paths are whole."""
        return ""


class _One:
    """The request of a call that has one."""

    def __init__(self, request: Message) -> None:
        self._request = request

    async def one(self) -> Message:
        return self._request

    async def each(self) -> AsyncIterator[Message]:
        yield self._request


class _Many:
    """The requests of a stream."""

    def __init__(self, requests: AsyncIterator[Message]) -> None:
        self._requests = requests

    async def one(self) -> Message:
        return await anext(self._requests)

    def each(self) -> AsyncIterator[Message]:
        return self._requests


def _endpoint(service: ServiceDescriptor, method: MethodDescriptor) -> Any:
    def info(kind: StreamType) -> MethodInfo[Any, Any]:
        return MethodInfo(
            name=method.name,
            service_name=service.full_name,
            input=GetMessageClass(method.input_type),
            output=GetMessageClass(method.output_type),
            idempotency_level=IdempotencyLevel.UNKNOWN,
            stream_type=kind,
        )

    if method.client_streaming:
        return Endpoint.client_stream(info(StreamType.CLIENT_STREAM), _client_stream)
    if method.server_streaming:
        return Endpoint.server_stream(info(StreamType.SERVER_STREAM), _server_stream)
    return Endpoint.unary(info(StreamType.UNARY), _unary)


def _unknown_endpoint() -> Any:
    info = MethodInfo(
        name="",
        service_name="",
        input=Empty,
        output=Empty,
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=StreamType.UNARY,
    )
    return Endpoint.unary(info, _unary)


async def _unary(request: Message, _context: object) -> Any:
    return await _current.get().run(_One(request))


async def _client_stream(requests: AsyncIterator[Message], _context: object) -> Any:
    return await _current.get().run(_Many(requests))


async def _server_stream(request: Message, _context: object) -> AsyncIterator[Any]:
    # It writes past the library, which would serialise each event for each who watches.
    await _current.get().run(_One(request))
    nothing: tuple[Message, ...] = ()
    for message in nothing:
        yield message


def metadata_of(scope: Scope) -> list[tuple[str, str | bytes]]:
    """The headers of a request."""
    return [(name.decode("latin-1"), value) for name, value in scope["headers"]]


def peer_of(scope: Scope) -> str:
    """Where a call came from, as gRPC writes it."""
    host, port = scope["client"] or ("", 0)
    return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"

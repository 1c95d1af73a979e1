"""gRPC's way to the edge: every method is wrapped, and takes in no request before it is known who
calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_status import rpc_status

from colloquy_server.api.edge import Edge
from colloquy_server.api.handlers import Handler
from colloquy_server.api.open_methods import OpenMethods
from colloquy_server.api.requests import (
    CANCEL_NOTICE,
    GrpcContext,
    decode,
    read_request,
    read_requests,
)
from colloquy_server.api.statuses import status_of
from colloquy_server.errors import ColloquyError, InvalidField, Overloaded
from colloquy_server.tracing import HEADER


class EdgeInterceptor(grpc.aio.ServerInterceptor):
    """Brings every call to the edge."""

    def __init__(self, edge: Edge, *, proxies: int, request_timeout: float) -> None:
        """`proxies` is how many stand before the server; `request_timeout`, in seconds, is how long
        a request may let wait."""
        self._edge = edge
        self._request_timeout = request_timeout
        self._open_methods = OpenMethods(request_timeout, proxies)
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The handler of a call, wrapped once a method."""
        method = str(handler_call_details.method)
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return handler
            wrapped = self._wrapped[method] = self._wrap(method, handler)
        return wrapped

    def _wrap(self, method: str, handler: Handler) -> Handler:
        serve = self._serve_open if self._open_methods.include(method) else self._serve

        async def call(_requests: object, context: GrpcContext) -> Any:
            return await serve(method, handler, context)

        # All take a stream of requests, so that gRPC takes in none before it is asked to.
        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
        return make(call, None, handler.response_serializer)

    async def _serve(self, method: str, handler: Handler, context: GrpcContext) -> Any:
        metadata = context.invocation_metadata() or ()
        call = self._edge.call(method, handler, metadata, context.peer(), "grpc")
        followed_by = ((HEADER, call.request_id),)
        context.set_trailing_metadata(followed_by)
        try:
            await call.admit()
            return await call.run(_Requests(handler, context, self._request_timeout), context)
        except (Exception, asyncio.CancelledError) as error:
            if not isinstance(error, ColloquyError | asyncio.CancelledError):
                error = await _cancellation() or error
            refusal = call.refuse(error)
            if refusal is None:
                raise error from None
            await abort(context, refusal, followed_by)
        finally:
            call.close()

    async def _serve_open(self, _method: str, handler: Handler, context: GrpcContext) -> Any:
        try:
            return await self._open_methods.serve(handler, context)
        except (Overloaded, InvalidField) as error:
            await abort(context, error)


class _Requests:
    """What the caller of one call sends."""

    def __init__(self, handler: Handler, context: GrpcContext, patience: float) -> None:
        self._parse = handler.request_deserializer
        self._context = context
        self._patience = patience

    async def one(self) -> Message:
        return decode(self._parse, await read_request(self._context, self._patience))

    async def each(self) -> AsyncIterator[Message]:
        async for data in read_requests(self._context, self._patience):
            yield decode(self._parse, data)


async def _cancellation() -> asyncio.CancelledError | None:
    """The cancellation of a call whose caller has gone away: a write to them fails first."""
    try:
        await asyncio.sleep(CANCEL_NOTICE)
    except asyncio.CancelledError as cancellation:
        return cancellation
    return None


async def abort(
    context: GrpcContext, error: ColloquyError, trailers: tuple[tuple[str, str], ...] = ()
) -> None:
    """Ends a call with an error's status and details, and these trailers beside them."""
    # gRPC keeps the error for a while, and its traceback all that was at hand: the request too.
    error.__traceback__ = error.__context__ = None
    status = rpc_status.to_status(status_of(error))
    await context.abort(status.code, status.details, (*status.trailing_metadata, *trailers))

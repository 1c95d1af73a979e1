"""The methods that need no key, of health and reflection: what they may cost an address."""

from __future__ import annotations

from typing import Any

import grpc

from colloquy_server.api.call_limiter import CallLimiter
from colloquy_server.api.peers import caller_address, network_of
from colloquy_server.api.requests import GrpcContext, decode, read_request, read_requests
from colloquy_server.concurrency import KeyedLocks

_HEALTH = "/grpc.health.v1."
_REFLECTION = "/grpc.reflection."

_REQUEST_TIMEOUT = 5.0
"""Seconds. Others of its address wait for it."""


class OpenMethods:
    """Serves what is open to all, so much of it at once in all and for one address."""

    def __init__(self, request_timeout: float, proxies: int) -> None:
        """`request_timeout`, in seconds, is how long a request may let wait at most; `proxies` is
        how many stand before the server."""
        self._proxies = proxies
        self._request_timeout = min(request_timeout, _REQUEST_TIMEOUT)
        # A request may have the size that is meant for messages: one of an address is taken in at
        # a time, and so many wait.
        self._lines = KeyedLocks()
        self._waiting = CallLimiter(1_000, 100)
        self._reading = CallLimiter(64, 1)
        self._watches = CallLimiter(1_000, 100)
        self._reflections = CallLimiter(64, 8)

    @staticmethod
    def include(method: str) -> bool:
        """Whether a method is one of them."""
        return method.startswith((_HEALTH, _REFLECTION))

    async def serve(self, handler: grpc.RpcMethodHandler[Any, Any], context: GrpcContext) -> Any:
        """Serves a call. Raises Overloaded and InvalidField."""
        address = self._network_of(context)
        behaviour: Any
        if handler.request_streaming:
            behaviour = handler.stream_stream
            with self._reflections.call(address):
                parse: Any = handler.request_deserializer
                requests = (
                    decode(parse, r) async for r in read_requests(context, self._request_timeout)
                )
                async for response in behaviour(requests, context):
                    await context.write(response)
                return None
        if handler.response_streaming:
            behaviour = handler.unary_stream
            with self._watches.call(address):
                return await behaviour(await self._request(handler, address, context), context)
        behaviour = handler.unary_unary
        return await behaviour(await self._request(handler, address, context), context)

    def _network_of(self, context: GrpcContext) -> str:
        metadata = context.invocation_metadata() or ()
        return network_of(caller_address(context.peer(), metadata, self._proxies))

    async def _request(
        self, handler: grpc.RpcMethodHandler[Any, Any], address: str, context: GrpcContext
    ) -> Any:
        parse: Any = handler.request_deserializer
        with self._waiting.call(address):
            async with self._lines.of(address):
                with self._reading.call(address):
                    data = await read_request(context, self._request_timeout)
            return decode(parse, data)

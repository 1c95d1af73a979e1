"""Makes the handlers of a service of its descriptor: each RPC is the method of its name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from colloquy_server.errors import Unimplemented

Handler = Any
"""A grpc.RpcMethodHandler, whose types do not say which of its methods it has."""


class Context(Protocol):
    """The call that a handler serves, whatever it came by."""

    async def write(self, message: Any, /) -> None:
        """Sends one of several answers: a message, or the bytes of one."""
        ...


def method_handlers(service: ServiceDescriptor, servicer: object) -> dict[str, Handler]:
    """A handler for each RPC of a service, by its name; those that the servicer lacks answer
    UNIMPLEMENTED."""
    return {method.name: _handler(method, servicer) for method in service.methods}


def generic_handler(service: ServiceDescriptor, servicer: object) -> grpc.GenericRpcHandler:
    """The same, as gRPC takes them."""
    handlers = method_handlers(service, servicer)
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def _handler(method: MethodDescriptor, servicer: object) -> Handler:
    behaviour: Callable[..., Awaitable[Any]] = getattr(servicer, method.name, _unimplemented)
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
    }[method.client_streaming, method.server_streaming]
    parse = GetMessageClass(method.input_type).FromString
    return make(behaviour, parse, _serialise)


async def _unimplemented(_request: object, _context: object) -> None:
    raise Unimplemented


def _serialise(response: Message | bytes) -> bytes:
    """Events come as bytes: they are serialised once for all who watch."""
    return response if isinstance(response, bytes) else response.SerializeToString()

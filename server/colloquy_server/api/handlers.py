"""Makes gRPC handlers of a service's descriptor: each RPC is the method of its name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from colloquy_server.errors import Unimplemented


def generic_handler(service: ServiceDescriptor, servicer: object) -> grpc.GenericRpcHandler:
    """A handler for all RPCs of a service; those that the servicer lacks answer UNIMPLEMENTED."""
    return grpc.method_handlers_generic_handler(
        service.full_name, {method.name: _handler(method, servicer) for method in service.methods}
    )


def _handler(method: MethodDescriptor, servicer: object) -> grpc.RpcMethodHandler[Any, Any]:
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

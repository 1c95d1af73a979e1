"""What the floors share: a bare grpc.aio server that says where it listens, as the server does."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import grpc

T = TypeVar("T")

Stream = Callable[[bytes, grpc.aio.ServicerContext[Any, Any]], Awaitable[None]]
Answer = Callable[[bytes, grpc.aio.ServicerContext[Any, Any]], Awaitable[bytes]]

SERVICE = "bench.Floor"


def path(method: str) -> str:
    """What a client calls a method of a floor by."""
    return f"/{SERVICE}/{method}"


async def serve(
    *, streams: Mapping[str, Stream] | None = None, answers: Mapping[str, Answer] | None = None
) -> None:
    """Serves these methods, whose requests and messages are bytes, on a free port until it ends."""
    server = grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {}
    for name, stream in (streams or {}).items():
        handlers[name] = grpc.unary_stream_rpc_method_handler(stream)
    for name, answer in (answers or {}).items():
        handlers[name] = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    address = f"127.0.0.1:{port}"
    print(json.dumps({"event": "serving", "address": address}), file=sys.stderr, flush=True)
    await server.wait_for_termination()

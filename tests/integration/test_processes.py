"""Processes that a server starts live, whatever gRPC does at that moment."""

from __future__ import annotations

import asyncio
import collections
import subprocess
from typing import Any

import grpc
from colloquy_server import children

SERVICE = "test.Echo"
METHOD = "Say"


async def say(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    return request


async def test_no_process_dies_of_being_started_in_the_midst_of_calls() -> None:
    server = grpc.aio.server()
    handlers: dict[str, Any] = {METHOD: grpc.unary_unary_rpc_method_handler(say)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    codes: collections.Counter[int] = collections.Counter()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.unary_unary(f"/{SERVICE}/{METHOD}")
        enough = asyncio.Event()

        async def call_again_and_again() -> None:
            while not enough.is_set():
                await call(b"Hello")

        callers = [asyncio.create_task(call_again_and_again()) for _ in range(4)]
        for _ in range(60):
            ended = await children.run(
                ["true"], environment={}, stdin=subprocess.DEVNULL, seconds=60, max_output=0
            )
            codes[ended.code] += 1
        enough.set()
        await asyncio.gather(*callers)
    await server.stop(None)
    assert codes == {0: 60}

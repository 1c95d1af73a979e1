"""Takes requests in from gRPC, which hands every call out as one of a stream of requests: nothing
of it is taken from the connection until it is asked for, when it is known who calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from colloquy_server.errors import InvalidField

GrpcContext = grpc.aio.ServicerContext[Any, Any]

CANCEL_NOTICE = 0.05
"""Seconds: when a caller goes away, what the call was doing ends first, and gRPC cancels its task a
little later."""


async def read_request(context: GrpcContext, patience: float) -> bytes:
    """The request of a call that has one.

    Raises InvalidField when it has not come after `patience` seconds, or never comes.
    """
    data = await _read(context, patience)
    if data is None:
        # Or the caller has gone away.
        await asyncio.sleep(CANCEL_NOTICE)
        raise InvalidField({"request": "is missing"})
    return data


async def read_requests(context: GrpcContext, patience: float) -> AsyncIterator[bytes]:
    """The requests of a stream.

    Raises InvalidField when one of them lets wait for more than `patience` seconds.
    """
    while (data := await _read(context, patience)) is not None:
        yield data


def decode(parse: Callable[[bytes], Message], data: bytes) -> Message:
    """A request of its bytes. Raises InvalidField."""
    try:
        return parse(data)
    except DecodeError:
        raise InvalidField({"request": "is not a message of this call"}) from None


async def _read(context: GrpcContext, patience: float) -> bytes | None:
    try:
        async with asyncio.timeout(patience):
            data = await context.read()
    except TimeoutError:
        raise InvalidField({"request": f"did not come within {patience:g} s"}) from None
    return None if data is grpc.aio.EOF else data

"""How the asyncio clients reach the server: all that they do otherwise than the sync ones.

`colloquy.sync.transport` has the same names, so that the rest can be generated.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, ParamSpec, TypeVar, cast

import grpc
from grpc import aio

from colloquy import channel as channels
from colloquy.api.resources_pb2 import Attachment
from colloquy.calls import Answer, Call, Request, Response, StreamCall, Stubs
from colloquy.config import Endpoint
from colloquy.errors import Unauthenticated, Unavailable, client_closed, from_rpc_error
from colloquy.file_transfer import Upload

P = ParamSpec("P")
T = TypeVar("T")
Channel = aio.Channel


async def run_blocking(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that reads or writes files, in a thread: the event loop goes on."""
    return await asyncio.to_thread(function, *args, **kwargs)


class Transport:
    """A channel to the server, and whether it was closed."""

    def __init__(
        self,
        endpoint: Endpoint,
        channel: Channel | None,
        sleep: Callable[[float], Awaitable[None]] | None,
    ) -> None:
        self.closed = False
        self._endpoint = endpoint
        self._sleep = sleep
        self._channel = channel
        self._upload_channel: grpc.Channel | None = None
        # Set, and replaced, when this transport or a stream of it is closed.
        self._changed = asyncio.Event()

    async def call(
        self,
        call: Call[Request, Response, Answer],
        timeout: float | None,  # noqa: ASYNC109 - it is gRPC's
    ) -> Response:
        """Make a call that answers once. Raises ColloquyError."""
        metadata = await self.metadata()
        with self.errors():
            # The stubs are asyncio ones, which their types do not say.
            method = cast("aio.UnaryUnaryMultiCallable[Request, Response]", call.method(self.stubs))
            return await method(call.request, timeout=timeout, metadata=metadata)

    def open(
        self, call: StreamCall[Request, Response], metadata: channels.Metadata
    ) -> aio.UnaryStreamCall[Request, Response]:
        """Make a call whose answers come one after another. Raises ColloquyError."""
        with self.errors():
            method = cast(
                "aio.UnaryStreamMultiCallable[Request, Response]", call.method(self.stubs)
            )
            return method(call.request, metadata=metadata)

    async def upload(self, upload: Upload) -> Attachment:
        """Send a file. Raises ColloquyError."""
        # grpc.aio loses the status of a call that the server ends while the client writes, such as
        # a file that is too large (github.com/grpc/grpc/issues/36066); the sync API does not.
        metadata = await self.metadata()
        with self.errors():
            stub = self._upload_stubs.attachments
            call = stub.UploadAttachment.future(upload.requests(), metadata=metadata)
            loop, ended = asyncio.get_running_loop(), asyncio.Event()

            def end(_: object) -> None:
                loop.call_soon_threadsafe(ended.set)

            call.add_done_callback(end)
            try:
                await ended.wait()
            except asyncio.CancelledError:
                call.cancel()
                raise
            return call.result().attachment

    async def metadata(self) -> channels.Metadata:
        """Return what a call carries now. Raises ColloquyError."""
        if isinstance(self._endpoint.api_key, str):
            return channels.metadata(self._endpoint)
        return await run_blocking(channels.metadata, self._endpoint)

    async def wait(self, seconds: float, stream: Stream | None = None) -> None:
        """Wait, but not when this transport, or the stream, is closed."""
        if self._sleep is not None:
            await self._sleep(seconds)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not (self.closed or (stream is not None and stream.closed)):
                    await self._changed.wait()

    async def close(self) -> None:
        """End all calls; who uses them gets ColloquyError."""
        self.closed = True
        self.notify()
        if self._channel is not None:
            await self._channel.close()
        if self._upload_channel is not None:
            self._upload_channel.close()

    def notify(self) -> None:
        """Have those who wait look whether they still should."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    @functools.cached_property
    def stubs(self) -> Stubs:
        """The services, over a channel that belongs to the event loop that runs now."""
        self._channel = self._channel or channels.connect_aio(self._endpoint)
        return Stubs.over(self._channel)

    @functools.cached_property
    def _upload_stubs(self) -> Stubs:
        self._upload_channel = channels.connect(self._endpoint)
        return Stubs.over(self._upload_channel)

    @contextmanager
    def errors(self, stream: Stream | None = None) -> Iterator[None]:
        """Raise what gRPC raises in this block as ColloquyError."""

        def is_closed() -> bool:
            return self.closed or (stream is not None and stream.closed)

        if is_closed():  # what was not used yet would connect
            raise client_closed()
        try:
            yield
        except (asyncio.CancelledError, grpc.RpcError, aio.UsageError, ValueError) as error:
            # These are what gRPC raises, sync or asyncio, when a channel or a call is closed or was
            # closed. It is not the task that was cancelled then.
            task = asyncio.current_task()
            if is_closed() and not (task is not None and task.cancelling()):
                raise client_closed() from None
            if isinstance(error, grpc.RpcError):
                raise from_rpc_error(error) from None
            raise


class Stream:
    """The calls of a stream, of which there is one at a time, until it is closed for good."""

    def __init__(self, transport: Transport) -> None:
        self.closed = False
        self._transport = transport
        self._call: aio.UnaryStreamCall[Any, Any] | None = None
        self._metadata: channels.Metadata = ()

    async def open(self, call: StreamCall[Any, Any]) -> None:
        """Make the next call, unless the stream was closed meanwhile."""
        self._metadata = await self._transport.metadata()
        with self._transport.errors(self):
            self._call = self._transport.open(call, self._metadata)

    async def read(self, timeout: float) -> Any | None:  # noqa: ASYNC109 - it is gRPC's
        """Return the call's next answer, None after the last.

        Raises TimeoutError when none comes in time, ColloquyError when the call failed.
        """
        assert self._call is not None
        try:
            with self._transport.errors(self):
                async with asyncio.timeout(timeout):
                    response = await self._call.read()
        except Unauthenticated as error:
            if await self._transport.metadata() == self._metadata:
                raise
            raise Unavailable(f"the token was renewed ({error.message})") from None
        return None if response is aio.EOF else response

    def cancel(self) -> None:
        """End the call; without this the server's handler would go on."""
        if self._call is not None:
            self._call.cancel()

    def close(self) -> None:
        """End the stream. Whoever reads from it, or waits for its next call, leaves."""
        self.closed = True
        self._transport.notify()
        self.cancel()

    async def wait(self, seconds: float) -> None:
        """Wait before the next call, but not when the stream is closed."""
        await self._transport.wait(seconds, self)

"""How the sync clients reach the server: all that they do otherwise than the asyncio ones.

`colloquy.aio.transport` has the same names, so that the rest can be generated.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import grpc

from colloquy import channel as channels
from colloquy.api.resources_pb2 import Attachment
from colloquy.calls import Answer, Call, Request, Response, StreamCall, Stubs
from colloquy.config import Endpoint
from colloquy.errors import Unauthenticated, Unavailable, client_closed, from_rpc_error
from colloquy.file_transfer import Upload
from colloquy.sync.timed_reader import TimedReader

P = ParamSpec("P")
T = TypeVar("T")
Channel = grpc.Channel


def run_blocking(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that reads or writes files: here is no event loop to keep going."""
    return function(*args, **kwargs)


class Transport:
    """A channel to the server, and whether it was closed. Any thread may use it, and close it."""

    def __init__(
        self,
        endpoint: Endpoint,
        channel: Channel | None,
        sleep: Callable[[float], None] | None,
    ) -> None:
        self.closed = False
        # Notified when this transport, or a stream of it, is closed.
        self.changed = threading.Condition()
        self._endpoint = endpoint
        self._sleep = sleep
        self._channel = channel or channels.connect(endpoint)
        self._stubs = Stubs.over(self._channel)

    def call(self, call: Call[Request, Response, Answer], timeout: float | None) -> Response:
        """Make a call that answers once. Raises ColloquyError."""
        metadata = self.metadata()
        with self.errors():
            method = call.method(self._stubs)
            return method(call.request, timeout=timeout, metadata=metadata)

    def open(self, call: StreamCall[Request, Response], metadata: channels.Metadata) -> Any:
        """Make a call whose answers come one after another. Raises ColloquyError."""
        with self.errors():
            return call.method(self._stubs)(call.request, metadata=metadata)

    def upload(self, upload: Upload) -> Attachment:
        """Send a file. Raises ColloquyError."""
        metadata = self.metadata()
        with self.errors():
            stub = self._stubs.attachments
            return stub.UploadAttachment(upload.requests(), metadata=metadata).attachment

    def metadata(self) -> channels.Metadata:
        """Return what a call carries now. Raises ColloquyError."""
        return channels.metadata(self._endpoint)

    def wait(self, seconds: float, stream: Stream | None = None) -> None:
        """Wait, but not when this transport, or the stream, is closed."""
        if self._sleep is not None:
            self._sleep(seconds)
            return
        with self.changed:
            self.changed.wait_for(
                lambda: self.closed or (stream is not None and stream.closed), seconds
            )

    def close(self) -> None:
        """End all calls; who uses them gets ColloquyError."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        self._channel.close()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise what gRPC raises in this block as ColloquyError."""
        try:
            yield
        except (grpc.RpcError, ValueError) as error:  # the latter when the channel was closed
            if self.closed:
                raise client_closed() from None
            if isinstance(error, grpc.RpcError):
                raise from_rpc_error(error) from None
            raise


class Stream:
    """The calls of a stream, of which there is one at a time, until it is closed for good."""

    def __init__(self, transport: Transport) -> None:
        self.closed = False
        self._transport = transport
        self._changed = transport.changed
        self._reader: TimedReader | None = None
        self._metadata: channels.Metadata = ()

    def open(self, call: StreamCall[Any, Any]) -> None:
        """Make the next call; it is cancelled at once if the stream was closed meanwhile."""
        self._metadata = self._transport.metadata()
        reader = TimedReader(self._transport.open(call, self._metadata))
        with self._changed:
            self._reader = reader
            is_closed = self.closed
        if is_closed:
            reader.close()

    def read(self, timeout: float) -> Any | None:
        """Return the call's next answer, None after the last.

        Raises TimeoutError when none comes in time, ColloquyError when the call failed.
        """
        assert self._reader is not None
        try:
            with self._transport.errors():
                return self._reader.read(timeout)
        except Unauthenticated as error:
            if self._transport.metadata() == self._metadata:
                raise
            raise Unavailable(f"the token was renewed ({error.message})") from None

    def cancel(self) -> None:
        """End the call; without this the server's handler would go on."""
        if self._reader is not None:
            self._reader.close()

    def close(self) -> None:
        """End the stream. Whoever reads from it, or waits for its next call, leaves."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()
        self.cancel()

    def wait(self, seconds: float) -> None:
        """Wait before the next call, but not when the stream is closed."""
        self._transport.wait(seconds, self)

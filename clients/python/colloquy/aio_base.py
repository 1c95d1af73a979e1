"""What both asyncio clients stand on: one channel, calls with retries, streams that resume."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
)
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, cast

import grpc
from grpc import aio

from colloquy import channel as channels
from colloquy.api.admin_service_pb2_grpc import AdminServiceStub
from colloquy.api.attachment_service_pb2_grpc import AttachmentServiceStub
from colloquy.api.conversation_service_pb2 import ConversationEvent
from colloquy.api.conversation_service_pb2_grpc import ConversationServiceStub
from colloquy.api.resources_pb2 import Message
from colloquy.calls import Answer, Call, Request, Response, Stubs
from colloquy.config import resolve
from colloquy.errors import ColloquyError, NotFound, OutOfOrder, closed, from_rpc_error
from colloquy.follow import is_final
from colloquy.resume import SILENCE, ReplyResumption, Resumption
from colloquy.retry import PATIENCE, TIMEOUT, Retry, Timing

if TYPE_CHECKING:
    from colloquy.api.conversation_service_pb2_grpc import ConversationServiceAsyncStub

P = ParamSpec("P")
Item = TypeVar("Item")
# Makes the call that a resumption asks for; its answers hold an `event`.
Open = Callable[[], "aio.UnaryStreamCall[Any, Any]"]


class AsyncBase:
    """A connection to a server. Use it as `async with`, or call `close`."""

    _key_variable = "CONVERSATION_API_KEY"

    def __init__(
        self,
        address: str | None = None,
        api_key: str | None = None,
        *,
        tls: bool = False,
        ca_file: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
        timeout: float = TIMEOUT,
        patience: float = PATIENCE,
        silence: float = SILENCE,
        timing: Timing = Timing(),  # noqa: B008 - it is frozen
        sleep: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        """Connects when it is first used.

        What is not given comes from the environment, see `colloquy.config`. An address may be
        `https://HOST:PORT`. `timeout` is how many seconds a call may take, `patience` how many a
        server that cannot be reached is borne before Unavailable is raised, `silence` after how
        many without any event a stream is opened anew. Raises ConfigurationError.
        """
        self._endpoint = resolve(
            address,
            api_key,
            tls=tls,
            ca_file=ca_file,
            cert_file=cert_file,
            key_file=key_file,
            key_variable=self._key_variable,
        )
        self._metadata = channels.metadata(self._endpoint)
        self._timeout, self._patience, self._silence = timeout, patience, silence
        self._timing, self._sleep = timing, sleep
        self._closed = asyncio.Event()
        self._channel: aio.Channel | None = None
        self._upload_channel: grpc.Channel | None = None

    @property
    def address(self) -> str:
        """The server's address."""
        return self._endpoint.address

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all calls and the connection; who uses them gets ColloquyError."""
        self._closed.set()
        if self._channel is not None:
            await self._channel.close()
        if self._upload_channel is not None:
            self._upload_channel.close()

    @functools.cached_property
    def _stubs(self) -> Stubs:
        # Made when first used: a grpc.aio channel belongs to the event loop that it is made in.
        self._channel = channels.connect_aio(self._endpoint)
        return Stubs(
            ConversationServiceStub(self._channel),
            AttachmentServiceStub(self._channel),
            AdminServiceStub(self._channel),
        )

    @functools.cached_property
    def _uploads(self) -> AttachmentServiceStub:
        # grpc.aio loses the status of a call that the server ends while the client writes, such as
        # a file that is too large (github.com/grpc/grpc/issues/36066); the sync API does not.
        self._upload_channel = channels.connect(self._endpoint)
        return AttachmentServiceStub(self._upload_channel)

    @property
    def _conversations(self) -> ConversationServiceAsyncStub:
        return cast("ConversationServiceAsyncStub", self._stubs.conversations)

    def _retry(self, timeout: float | None) -> Retry:
        return Retry(patience=self._patience, timeout=timeout, timing=self._timing)

    async def _run(self, call: Call[Request, Response, Answer]) -> Answer:
        retry = self._retry(self._timeout)
        while True:
            try:
                with self._unless_closed():
                    # The stub is an asyncio one, which its type does not say.
                    method = cast(
                        "aio.UnaryUnaryMultiCallable[Request, Response]", call.method(self._stubs)
                    )
                    response = await method(
                        call.request, timeout=retry.remaining, metadata=self._metadata
                    )
            except aio.AioRpcError as error:
                failure = from_rpc_error(error)
                if not call.repeatable:
                    raise failure from None
            else:
                return call.answer(response)
            await self._wait(retry.wait_after(failure))

    @contextmanager
    def _unless_closed(self) -> Iterator[None]:
        """Make calls in this block. Raises ColloquyError when the client is, or was, closed."""
        try:
            if self._closed.is_set():  # what was not used yet would connect
                raise closed()
            yield
        except (asyncio.CancelledError, grpc.RpcError, aio.UsageError, ValueError):
            # These are what gRPC raises, sync or asyncio, when a channel is closed or was closed.
            # It is not the task that was cancelled then.
            task = asyncio.current_task()
            if self._closed.is_set() and not (task is not None and task.cancelling()):
                raise closed() from None
            raise

    async def _wait(self, seconds: float) -> None:
        """Wait before the next try, but not when the client is closed."""
        if self._sleep is not None:
            await self._sleep(seconds)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()

    async def _pages(
        self,
        page: Callable[[str], Call[Request, Response, Answer]],
        items: Callable[[Answer], tuple[Iterable[Item], str]],
    ) -> AsyncIterator[Item]:
        """Yield the items of all pages; `items` takes an answer apart into them and the token."""
        token = ""
        while True:
            found, token = items(await self._run(page(token)))
            for item in found:
                yield item
            if not token:
                return

    async def _events(
        self, resumption: Resumption, open_call: Open
    ) -> AsyncGenerator[ConversationEvent, None]:
        while True:
            with self._unless_closed():
                call = open_call()
            try:
                while (response := await self._read(call, resumption.patience())) is not aio.EOF:
                    for piece in resumption.receive(response.event):
                        yield piece
                    if resumption.done:
                        return
                failure = resumption.cut_short()
            except TimeoutError:
                failure = resumption.silent()
            except (aio.AioRpcError, OutOfOrder) as error:
                failure = from_rpc_error(error) if isinstance(error, aio.AioRpcError) else error
            finally:
                # Without this the server's handler would go on, also when the caller breaks off.
                call.cancel()
            for piece in resumption.lost(failure):
                yield piece
            if resumption.done:
                return
            await self._wait(resumption.wait_after(failure))

    async def _read(self, call: aio.UnaryStreamCall[Any, Any], patience: float) -> Any:
        """Return the next answer. Raises TimeoutError when none comes in `patience` seconds."""
        with self._unless_closed():
            async with asyncio.timeout(patience):
                return await call.read()


class AsyncEvents:
    """The events of a conversation.

    Leaving the `async with` block, or `aclose`, ends the call at once; the end of an `async for`
    without it does when Python drops the object.
    """

    def __init__(self, events: AsyncGenerator[ConversationEvent, None]) -> None:
        self._events = events

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ConversationEvent:
        return await anext(self._events)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the call. The reply goes on in the server."""
        await self._events.aclose()


class AsyncReply(AsyncEvents):
    """The events of one reply: `accepted`, then `message` and `delta`, last its final `message`.

    The joined deltas of its last attempt are its whole text.
    """

    def __init__(
        self, events: AsyncGenerator[ConversationEvent, None], resumption: ReplyResumption
    ) -> None:
        super().__init__(events)
        self._resumption = resumption

    @property
    def request_id(self) -> str:
        """Names the request; `cancel_reply` takes it, also before anything was accepted."""
        return self._resumption.request_id

    @property
    def prompt(self) -> Message | None:
        """The user's message, None before it was accepted."""
        return self._resumption.prompt

    @property
    def reply(self) -> Message | None:
        """The reply as the last `accepted` or `message` told it."""
        return self._resumption.reply

    async def result(self) -> Message:
        """Wait for the end and return the whole reply, whether completed, failed or cancelled.

        Raises NotFound when the conversation is deleted meanwhile, ColloquyError when the reply is
        closed before its end.
        """
        async with self:
            async for event in self:
                if event.HasField("deleted"):
                    raise NotFound("the conversation was deleted", reason="CONVERSATION_NOT_FOUND")
        if self.reply is None or not is_final(self.reply):
            raise ColloquyError("the reply was left before its end; it goes on in the server")
        return self.reply


def method(
    describe: Callable[P, Call[Request, Response, Answer]],
) -> Callable[Concatenate[AsyncBase, P], Coroutine[Any, Any, Answer]]:
    """Make a client's method from the description of a call."""

    @functools.wraps(describe)
    async def run(self: AsyncBase, /, *args: P.args, **kwargs: P.kwargs) -> Answer:
        return await self._run(describe(*args, **kwargs))

    return run

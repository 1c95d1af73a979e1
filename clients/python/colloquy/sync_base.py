"""What both sync clients stand on: one channel, calls with retries, streams that resume."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import grpc

from colloquy import channel as channels
from colloquy.api.admin_service_pb2_grpc import AdminServiceStub
from colloquy.api.attachment_service_pb2_grpc import AttachmentServiceStub
from colloquy.api.conversation_service_pb2 import ConversationEvent
from colloquy.api.conversation_service_pb2_grpc import ConversationServiceStub
from colloquy.api.resources_pb2 import Message
from colloquy.calls import Answer, Call, Request, Response, Stubs
from colloquy.closing import Closing
from colloquy.config import resolve
from colloquy.ending import Line, Watchdog
from colloquy.errors import ColloquyError, NotFound, OutOfOrder, closed, from_rpc_error
from colloquy.follow import is_final
from colloquy.resume import SILENCE, ReplyResumption, Resumption
from colloquy.retry import PATIENCE, TIMEOUT, Retry, Timing

P = ParamSpec("P")
Item = TypeVar("Item")
# Makes the call that a resumption asks for; its answers hold an `event`.
Open = Callable[[], Any]


class SyncBase(Closing):
    """A connection to a server. Use it as `with`, or call `close`."""

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
        sleep: Callable[[float], None] | None = None,
        channel: grpc.Channel | None = None,
    ) -> None:
        """Connects when it is first used, or speaks over a `channel` that is given.

        The rest is as in `colloquy.aio_base.AsyncBase`.
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
        self._closed = False
        # Notified when this client, or a stream of it, is closed.
        self._changed = threading.Condition()
        self._channel = channel or channels.connect(self._endpoint)
        self._stubs = Stubs(
            ConversationServiceStub(self._channel),
            AttachmentServiceStub(self._channel),
            AdminServiceStub(self._channel),
        )

    @property
    def address(self) -> str:
        """The server's address."""
        return self._endpoint.address

    def close(self) -> None:
        """End all calls and the connection, from any thread; who uses them gets ColloquyError."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._channel.close()

    def _retry(self, timeout: float | None) -> Retry:
        return Retry(patience=self._patience, timeout=timeout, timing=self._timing)

    def _run(self, call: Call[Request, Response, Answer]) -> Answer:
        retry = self._retry(self._timeout)
        while True:
            try:
                with self._unless_closed():
                    response = call.method(self._stubs)(
                        call.request, timeout=retry.remaining, metadata=self._metadata
                    )
            except grpc.RpcError as error:
                failure = from_rpc_error(error)
                if not call.repeatable:
                    raise failure from None
            else:
                return call.answer(response)
            self._wait(retry.wait_after(failure))

    @contextmanager
    def _unless_closed(self) -> Iterator[None]:
        """Make calls in this block. Raises ColloquyError when the client is, or was, closed."""
        try:
            yield
        except (grpc.RpcError, ValueError):  # a call that was ended, a channel that is closed
            if self._closed:
                raise closed() from None
            raise

    def _wait(self, seconds: float, line: Line | None = None) -> None:
        """Wait before the next try, but not when the client, or the line, is closed."""
        if self._sleep is not None:
            self._sleep(seconds)
            return
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or (line is not None and line.is_over), seconds
            )

    def _pages(
        self,
        page: Callable[[str], Call[Request, Response, Answer]],
        items: Callable[[Answer], tuple[Iterable[Item], str]],
    ) -> Iterator[Item]:
        """Yield the items of all pages; `items` takes an answer apart into them and the token."""
        token = ""
        while True:
            found, token = items(self._run(page(token)))
            yield from found
            if not token:
                return

    def _events(
        self, resumption: Resumption, open_call: Open, line: Line
    ) -> Generator[ConversationEvent, None, None]:
        while not line.is_over:
            with self._unless_closed():
                call = open_call()
            line.use(call)
            try:
                with self._unless_closed(), Watchdog(call) as watchdog:
                    for response in watchdog.guard(resumption.patience):
                        yield from resumption.receive(response.event)
                        if resumption.done:
                            return
                failure = resumption.cut_short()
            except TimeoutError:
                failure = resumption.silent()
            except (grpc.RpcError, OutOfOrder) as error:
                failure = from_rpc_error(error) if isinstance(error, grpc.RpcError) else error
            finally:
                # Without this the server's handler would go on, also when the caller breaks off.
                call.cancel()
            if line.is_over:
                return
            yield from resumption.lost(failure)
            if resumption.done:
                return
            self._wait(resumption.wait_after(failure), line)


class Events(Closing):
    """The events of a conversation.

    Leaving the `with` block, or `close`, ends the call at once; the end of a `for` without it does
    when Python drops the object.
    """

    def __init__(self, events: Generator[ConversationEvent, None, None], line: Line) -> None:
        self._events = events
        self._line = line

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ConversationEvent:
        return next(self._events)

    def close(self) -> None:
        """End the call, from any thread: iterating ends. The reply goes on in the server."""
        self._line.end()
        with suppress(
            ValueError
        ):  # another thread is in it, which leaves now that the line is over
            self._events.close()


class Reply(Events):
    """The events of one reply: `accepted`, then `message` and `delta`, last its final `message`.

    The joined deltas of its last attempt are its whole text.
    """

    def __init__(
        self,
        events: Generator[ConversationEvent, None, None],
        line: Line,
        resumption: ReplyResumption,
    ) -> None:
        super().__init__(events, line)
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

    def result(self) -> Message:
        """Wait for the end and return the whole reply, whether completed, failed or cancelled.

        Raises NotFound when the conversation is deleted meanwhile, ColloquyError when the reply is
        closed before its end.
        """
        with self:
            for event in self:
                if event.HasField("deleted"):
                    raise NotFound("the conversation was deleted", reason="CONVERSATION_NOT_FOUND")
        if self.reply is None or not is_final(self.reply):
            raise ColloquyError("the reply was left before its end; it goes on in the server")
        return self.reply


def method(
    describe: Callable[P, Call[Request, Response, Answer]],
) -> Callable[Concatenate[SyncBase, P], Answer]:
    """Make a client's method from the description of a call."""

    @functools.wraps(describe)
    def run(self: SyncBase, /, *args: P.args, **kwargs: P.kwargs) -> Answer:
        return self._run(describe(*args, **kwargs))

    return run

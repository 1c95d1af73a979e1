"""What both sync clients stand on: one channel, calls with retries, streams that resume."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

import grpc
from conversation.v1.admin_service_pb2_grpc import AdminServiceStub
from conversation.v1.attachment_service_pb2_grpc import AttachmentServiceStub
from conversation.v1.conversation_service_pb2 import ConversationEvent
from conversation.v1.conversation_service_pb2_grpc import ConversationServiceStub
from conversation.v1.resources_pb2 import Message

from clients import channel as channels
from clients.calls import Answer, Call, Request, Response, Stubs
from clients.config import resolve
from clients.errors import NotFound, OutOfOrder, from_rpc_error
from clients.resume import SILENCE, ReplyResumption, Resumption
from clients.retry import PATIENCE, TIMEOUT, Retry, Timing

P = ParamSpec("P")
Item = TypeVar("Item")
# Makes the call that a resumption asks for; its answers hold an `event`.
Open = Callable[[], Any]


class SyncBase:
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
        sleep: Callable[[float], None] = time.sleep,
        channel: grpc.Channel | None = None,
    ) -> None:
        """Connects when it is first used, or speaks over a `channel` that is given.

        The rest is as in `clients.aio_base.AsyncBase`.
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all calls and the connection."""
        self._channel.close()

    def _retry(self, timeout: float | None) -> Retry:
        return Retry(patience=self._patience, timeout=timeout, timing=self._timing)

    def _run(self, call: Call[Request, Response, Answer]) -> Answer:
        retry = self._retry(self._timeout)
        while True:
            try:
                response = call.method(self._stubs)(
                    call.request, timeout=retry.remaining, metadata=self._metadata
                )
            except grpc.RpcError as error:
                failure = from_rpc_error(error)
                if not call.repeatable:
                    raise failure from None
            else:
                return call.answer(response)
            self._sleep(retry.wait_after(failure))

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
        self, resumption: Resumption, open_call: Open
    ) -> Generator[ConversationEvent, None, None]:
        while True:
            call = open_call()
            try:
                with Watchdog(call) as watchdog:
                    for response in watchdog.guard(lambda: resumption.patience):
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
            yield from resumption.lost(failure)
            if resumption.done:
                return
            self._sleep(resumption.wait_after(failure))


class Watchdog:
    """Cancels a call that says nothing for too long: the sync API's iterators know no timeout."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._changed = threading.Condition()
        # On the monotonic clock: when the call has been silent for too long.
        self._deadline = float("inf")
        # Whether anybody waits for the call: while its last answer is being used nobody does.
        self._waited_for = False
        self._over = False
        self._bit = False

    def __enter__(self) -> Self:
        threading.Thread(target=self._watch, name="colloquy-watchdog", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._over = True
            self._changed.notify()

    def guard(self, patience: Callable[[], float]) -> Iterator[Any]:
        """Yield the call's answers. Raises TimeoutError when one takes longer than `patience`."""
        answers = iter(self._call)
        while True:
            self._expect(patience())
            try:
                answer = next(answers)
            except StopIteration:
                return
            except grpc.RpcError:
                if self._bit:
                    raise TimeoutError from None
                raise
            self._waited_for = False
            yield answer

    def _expect(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with self._changed:
            # The thread sleeps until the old deadline and then looks again: only a nearer one has
            # to wake it, which is rare, so that an answer costs no switch of threads.
            nearer = deadline < self._deadline
            self._deadline, self._waited_for = deadline, True
            if nearer:
                self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while not self._over:
                wait = self._deadline - time.monotonic()
                if wait > 0:
                    self._changed.wait(min(wait, threading.TIMEOUT_MAX))
                elif self._waited_for:
                    self._bit = True
                    break
                else:
                    self._deadline = float("inf")
        if self._bit:
            self._call.cancel()


class Events:
    """The events of a conversation.

    Leaving the `with` block, or `close`, ends the call at once; the end of a `for` without it does
    when Python drops the object.
    """

    def __init__(self, events: Generator[ConversationEvent, None, None]) -> None:
        self._events = events

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ConversationEvent:
        return next(self._events)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the call. The reply goes on in the server."""
        self._events.close()


class Reply(Events):
    """The events of one reply: `accepted`, then `message` and `delta`, last its final `message`.

    The joined deltas of its last attempt are its whole text.
    """

    def __init__(
        self, events: Generator[ConversationEvent, None, None], resumption: ReplyResumption
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

    def result(self) -> Message:
        """Wait for the end and return the whole reply, whether completed, failed or cancelled.

        Raises NotFound when the conversation is deleted meanwhile.
        """
        with self:
            for event in self:
                if event.HasField("deleted"):
                    raise NotFound("the conversation was deleted", reason="CONVERSATION_NOT_FOUND")
        return cast(Message, self.reply)


def method(
    describe: Callable[P, Call[Request, Response, Answer]],
) -> Callable[Concatenate[SyncBase, P], Answer]:
    """Make a client's method from the description of a call."""

    @functools.wraps(describe)
    def run(self: SyncBase, /, *args: P.args, **kwargs: P.kwargs) -> Answer:
        return self._run(describe(*args, **kwargs))

    return run

# Generated from aio/base_client.py by scripts/generate_sync_client.py; do not edit.

"""What every client stands on: calls with retries, pages, streams that resume."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterable, Iterator
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from colloquy.calls import Answer, Call, Request, Response, StreamCall
from colloquy.config import ApiKey, resolve
from colloquy.errors import ColloquyError
from colloquy.resumption import DEFAULT_SILENCE, Event, Resumption
from colloquy.retry import DEFAULT_PATIENCE, DEFAULT_TIMEOUT, Retry, Timing
from colloquy.sync.transport import Channel, Stream, Transport

P = ParamSpec("P")
Item = TypeVar("Item")


class BaseClient:
    """A connection to a server. Use it as `with`, or call `close`."""

    _key_variable = "CONVERSATION_API_KEY"

    def __init__(
        self,
        address: str | None = None,
        api_key: ApiKey | None = None,
        *,
        tls: bool = False,
        ca_file: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        patience: float = DEFAULT_PATIENCE,
        silence: float = DEFAULT_SILENCE,
        timing: Timing = Timing(),  # noqa: B008 - it is frozen
        sleep: Callable[[float], None] | None = None,
        channel: Channel | None = None,
    ) -> None:
        """Connects when it is first used, or speaks over a `channel` that is given.

        What is not given comes from the environment, see `colloquy.config`. An address may be
        `https://HOST:PORT`; an `api_key` may be a function that gives the key or the token to use
        now, and is called before each call. `timeout` is how many seconds a call may take,
        `patience` how many a server that cannot be reached is borne before Unavailable is raised,
        `silence` after how many without any event a stream is opened anew. Raises
        ConfigurationError.
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
        self._timeout, self._patience, self._silence = timeout, patience, silence
        self._timing = timing
        self._transport = Transport(self._endpoint, channel, sleep)

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
        """End all calls and the connection, from any thread; who uses them gets ColloquyError."""
        self._transport.close()

    def _retry(self, timeout: float | None) -> Retry:
        return Retry(patience=self._patience, timeout=timeout, timing=self._timing)

    def _run(self, call: Call[Request, Response, Answer]) -> Answer:
        retry = self._retry(self._timeout)
        while True:
            try:
                return call.answer(self._transport.call(call, retry.remaining))
            except ColloquyError as error:
                if not call.repeatable:
                    raise
                wait = retry.backoff(error)
            self._transport.wait(wait)

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
        self,
        stream: Stream,
        resumption: Resumption[Event],
        next_call: Callable[[], StreamCall[Any, Any]],
    ) -> Generator[Event]:
        """Yield each event once, over as many calls as it takes; their answers hold an `event`."""
        while not stream.closed:
            try:
                stream.open(next_call())
                while (answer := stream.read(resumption.read_timeout())) is not None:
                    yield from resumption.receive(answer.event)
                    if resumption.done:
                        return
                failure = resumption.ended_early()
            except TimeoutError:
                failure = resumption.timed_out()
            except ColloquyError as error:
                failure = error
            finally:
                stream.cancel()  # also when the caller breaks off
            if stream.closed:
                return
            yield from resumption.disconnected(failure)
            if resumption.done:
                return
            stream.wait(resumption.backoff(failure))


def method(
    describe: Callable[P, Call[Request, Response, Answer]],
) -> Callable[Concatenate[BaseClient, P], Answer]:
    """Make a client's method from the description of a call."""

    @functools.wraps(describe)
    def run(self: BaseClient, /, *args: P.args, **kwargs: P.kwargs) -> Answer:
        return self._run(describe(*args, **kwargs))

    return run

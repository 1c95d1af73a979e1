"""Asks AI models: opens a stream of text for a conversation, and writes recordings down."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import IO

from colloquy_server.providers.chunks import AnswerReader
from colloquy_server.providers.connection import (
    TROUBLE,
    Connection,
    Waits,
    broken_off,
    certificates,
    endpoint,
    is_near,
)
from colloquy_server.providers.errors import ProviderError, request_id_of
from colloquy_server.providers.local_model import LocalModel, LocalModelError
from colloquy_server.providers.models import Model, Provider, Timeouts, Transcriber
from colloquy_server.providers.transcript import Transcript
from colloquy_server.providers.usage import TokenUsage
from colloquy_server.providers.watchdog import Watchdog
from colloquy_server.telemetry import Generation, Telemetry

__all__ = ["ProviderError", "Providers", "ReplyStream", "TokenUsage"]

_OPENAI_BASE_URL = "https://api.openai.com/v1"  # as the SDK has it
_DRAIN_SECONDS = 0.1  # from [DONE] to the end of the body, so that the connection can be reused
_FINISHED_SECONDS = 5.0  # from the finish reason to the usage or the end, which may never come
_CONNECT_SECONDS = 10.0
_FIRST_BYTE_SECONDS = 30.0
_NEAR_FIRST_BYTE_SECONDS = 300.0  # large weights are read from a disk meanwhile
_TRANSCRIPTION_SECONDS = 180.0  # a recording of 25 MB is half an hour


class Providers:
    """Connections to all providers of the catalogue; one each, made when first needed."""

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        first_byte_timeout: float | None = None,
        idle_timeout: float = 60.0,
        total_timeout: float = 3_600.0,
        local_model: LocalModel | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Timeouts are in seconds, and hold where the catalogue says nothing: from the request to
        the first event of the answer (None: 30, and 300 for servers of this network, which may have
        to load a model), between two of its events, and for all of it. `environ` is the merged
        environment."""
        self._environ = environ
        self._first_byte_timeout = first_byte_timeout
        self._idle_timeout = idle_timeout
        self._total_timeout = total_timeout
        self._local_model = local_model
        self._telemetry = telemetry or Telemetry()
        self._connections: dict[str, Connection] = {}

    @contextlib.asynccontextmanager
    async def open(
        self, model: Model, messages: bytes, *, max_output_tokens: int | None = None
    ) -> AsyncIterator[ReplyStream]:
        """Ask the model; `messages` is the JSON array of them, and the stream gives its answer.
        Raises ProviderError, here and in the stream. Leaving the context, in whatever way, closes
        the provider's connection."""
        async with contextlib.AsyncExitStack() as stack:
            generation = stack.enter_context(
                self._telemetry.generation(model.provider.id, model.id)
            )
            stack.push(generation.note_error)
            base_url, key = await self._address(model.provider, stack)
            connection = await self._connection(model.provider, base_url, key)
            waits = self._waits(model.rules.timeouts, base_url)
            started = asyncio.get_running_loop().time()
            response = await connection.ask(
                model, messages, max_output_tokens or model.max_output_tokens, waits
            )
            stack.callback(response.close)
            watchdog = Watchdog(started, waits.first_byte, waits.idle, waits.total)
            stack.callback(watchdog.stop)
            try:
                yield ReplyStream(response.content.readany, watchdog, generation)
            except ProviderError as error:
                error.request_id = error.request_id or request_id_of(response.headers)
                raise

    async def transcribe(
        self, transcriber: Transcriber, file: IO[bytes], filename: str
    ) -> Transcript:
        """What is said in a recording. Raises ProviderError."""
        async with contextlib.AsyncExitStack() as stack:
            base_url, _ = await self._address(transcriber.provider, stack)
            await asyncio.to_thread(certificates)
            transcribe = await asyncio.to_thread(_load_transcribe)
            timeouts = transcriber.provider.rules.timeouts
            waits = self._waits(timeouts.over(Timeouts(total=_TRANSCRIPTION_SECONDS)), base_url)
            return await transcribe(transcriber, base_url, self._environ, waits, file, filename)

    async def fetch(self, provider: Provider, url: str, body: object = None) -> object:
        """What an address of a provider's server answers in JSON, None when that is something
        else; asked by POST if there is a body. Raises ProviderError."""
        async with contextlib.AsyncExitStack() as stack:
            base_url, key = await self._address(provider, stack)
            connection = await self._connection(provider, base_url, key)
            timeouts = Timeouts(first_byte=_FIRST_BYTE_SECONDS)  # no model is loaded for it
            waits = self._waits(timeouts.over(provider.rules.timeouts), base_url)
            return await connection.fetch(url, body, waits)

    async def check(self, provider: Provider) -> None:
        """Ask a provider that is elsewhere which models it has, to see that it is there and takes
        the key. Raises ProviderError."""
        async with contextlib.AsyncExitStack() as stack:
            base_url, _ = await self._address(provider, stack)
        address, _ = endpoint(provider, base_url)
        await self.fetch(provider, f"{address}/models")

    async def close(self) -> None:
        """Close all connections and end the local model."""
        connections = list(self._connections.values())
        self._connections.clear()
        for connection in connections:
            await connection.close()
        if self._local_model is not None:
            await self._local_model.close()

    async def _address(
        self, provider: Provider, stack: contextlib.AsyncExitStack
    ) -> tuple[str, str]:
        """Where the provider is, and the key that is not in the environment: the local model's."""
        if provider.weights is None:
            own = provider.base_url or self._environ.get("OPENAI_BASE_URL", "").strip()
            return own or _OPENAI_BASE_URL, ""
        if self._local_model is None:
            raise ProviderError("PROVIDER_UNAVAILABLE", "The local model is not installed here.")
        try:
            server = await stack.enter_async_context(self._local_model.slot(provider.weights))
        except LocalModelError as error:
            raise ProviderError("PROVIDER_UNAVAILABLE", str(error), detail=error.detail) from None
        return server.base_url, server.key

    def _waits(self, timeouts: Timeouts, base_url: str) -> Waits:
        near = _NEAR_FIRST_BYTE_SECONDS if is_near(base_url) else _FIRST_BYTE_SECONDS
        return Waits(
            timeouts.connect or _CONNECT_SECONDS,
            timeouts.first_byte or self._first_byte_timeout or near,
            timeouts.idle or self._idle_timeout,
            timeouts.total or self._total_timeout,
        )

    async def _connection(self, provider: Provider, base_url: str, key: str) -> Connection:
        if provider.id not in self._connections:
            await asyncio.to_thread(certificates)  # which would stop all streams meanwhile
        known = self._connections.get(provider.id)
        if known is not None and (known.base_url, known.key) == (base_url, key):
            return known
        connection = Connection(provider, base_url, self._environ, key)
        self._connections[provider.id] = connection
        if known is not None:  # the local model came up again, elsewhere
            await known.close()
        return connection


class ReplyStream:
    """A model's answer. Iterate it once: one str a network read, never empty.

    `finish_reason` (`stop`, `length`, `content_filter`, or whatever the provider says) and `usage`
    (None if the provider does not say) are known at the end, also when it ends by ProviderError:
    by one too if there was no text, for that is no answer.
    """

    def __init__(
        self, read: Callable[[], Awaitable[bytes]], watchdog: Watchdog, generation: Generation
    ) -> None:
        self._read = read
        self._generation = generation
        self._watchdog = watchdog
        self._reader = AnswerReader()

    @property
    def finish_reason(self) -> str | None:
        """Why the model ended."""
        return self._reader.finish_reason

    @property
    def usage(self) -> TokenUsage | None:
        """What the provider counted."""
        return self._reader.usage

    async def __aiter__(self) -> AsyncIterator[str]:
        reader, watchdog, read = self._reader, self._watchdog, self._read
        failure: ProviderError | None = None
        try:
            while not reader.done and (data := await watchdog.next(read)):
                text = reader.feed(data)
                if text:
                    self._generation.note_text()
                    yield text
                if reader.went_on:
                    watchdog.restore()
                elif reader.is_finished:
                    watchdog.shorten(_FINISHED_SECONDS)
            if reader.done and reader.error is None:
                watchdog.shorten(_DRAIN_SECONDS)
                while await watchdog.next(read):
                    pass
        except TROUBLE as error:
            failure = broken_off(error)
        text = reader.close(failure)
        usage = reader.usage
        if usage is not None:
            self._generation.note_usage(usage.input_tokens, usage.output_tokens)
        if text:
            yield text
        if reader.error is not None:
            raise reader.error


def _load_transcribe() -> Callable[..., Awaitable[Transcript]]:
    """Loads the OpenAI SDK with it, which takes as long as a quarter of all else: only for those
    who have recordings written down."""
    from colloquy_server.providers.transcription import transcribe

    return transcribe

"""Asks AI models: the only module that knows the OpenAI SDK.

The SDK makes the request and the connection; the answer's bytes are decoded here (`chunks`),
because its typed chunks cost more than all the rest of the way of a token.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import IO, Any, cast
from urllib.parse import urlsplit

import aiohttp
import httpx2
import openai
from aiohttp.http_exceptions import HttpProcessingError

from colloquy_server.providers.catalog import Catalog, Model, Provider, Transcriber
from colloquy_server.providers.chunks import AnswerReader, TokenUsage
from colloquy_server.providers.errors import ProviderError, broken, from_status
from colloquy_server.providers.local_model import LocalModel, LocalModelError
from colloquy_server.providers.text_repair import repaired
from colloquy_server.providers.watchdog import Watchdog
from colloquy_server.telemetry import Generation, Telemetry

__all__ = ["ProviderError", "Providers", "ReplyStream", "TokenUsage"]

_OPENAI_BASE_URL = "https://api.openai.com/v1"  # as the SDK has it
_MAX_CONNECTIONS = 10_000  # live replies are limited elsewhere; the SDK's 1,000 would queue them
_KEEPALIVE_SECONDS = 4.0  # many servers hang up after 5; a request must not meet that
_DRAIN_SECONDS = 0.1  # from [DONE] to the end of the body, so that the connection can be reused
_FINISHED_SECONDS = 5.0  # from the finish reason to the usage or the end, which may never come

_TRANSCRIPTION_SECONDS = 180.0  # a recording of 25 MB is half an hour

_TROUBLE = (
    openai.OpenAIError,
    httpx2.HTTPError,
    httpx2.StreamError,
    httpx2.InvalidURL,
    aiohttp.ClientError,
    HttpProcessingError,
    OSError,  # TimeoutError too
)


class Providers:
    """Connections to all providers of the catalogue; one client each, made when first needed."""

    def __init__(
        self,
        catalog: Catalog,
        environ: Mapping[str, str],
        *,
        first_byte_timeout: float = 30.0,
        idle_timeout: float = 60.0,
        connect_timeout: float = 10.0,
        local_model: LocalModel | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Timeouts are in seconds: from the request to the first byte of the answer's body,
        between two reads of it, and to connect. `environ` is the merged environment."""
        self._catalog = catalog
        self._environ = environ
        self._first_byte_timeout = first_byte_timeout
        self._idle_timeout = idle_timeout
        self._connect_timeout = connect_timeout
        self._local_model = local_model
        self._telemetry = telemetry or Telemetry()
        self._clients: dict[str, tuple[str, openai.AsyncOpenAI]] = {}

    @contextlib.asynccontextmanager
    async def open(
        self,
        model: Model,
        messages: list[dict[str, Any]],
        *,
        max_output_tokens: int | None = None,
    ) -> AsyncIterator[ReplyStream]:
        """Ask the model; the stream gives its answer. Raises ProviderError, here and in the
        stream. Leaving the context, in whatever way, closes the provider's connection."""
        async with contextlib.AsyncExitStack() as stack:
            generation = stack.enter_context(
                self._telemetry.generation(model.provider.id, model.id)
            )
            stack.push(generation.note_error)
            base_url = await self._base_url(model.provider, stack)
            client = await self._client(model.provider, base_url)
            deadline = asyncio.get_running_loop().time() + self._first_byte_timeout
            response = await self._request(
                stack, client, model, messages, max_output_tokens or model.max_output_tokens
            )
            stream = ReplyStream(_raw_bytes(response), deadline, self._idle_timeout, generation)
            stack.push_async_callback(stream.aclose)
            yield stream

    async def transcribe(self, transcriber: Transcriber, file: IO[bytes], filename: str) -> str:
        """What is said in a recording. Raises ProviderError."""
        failure: ProviderError
        async with contextlib.AsyncExitStack() as stack:
            base_url = await self._base_url(transcriber.provider, stack)
            client = await self._client(transcriber.provider, base_url)
            try:
                async with asyncio.timeout(_TRANSCRIPTION_SECONDS):
                    answer = await client.audio.transcriptions.create(
                        model=transcriber.id,
                        file=(filename, await asyncio.to_thread(file.read)),
                        response_format="json",
                    )
            except _TROUBLE as error:
                failure = _translate(error)
            else:
                said = getattr(answer, "text", None)  # the SDK does not look at what came
                if isinstance(said, str):
                    return repaired(said)
                failure = broken("a transcription without text")
        raise failure  # outside the handler: the SDK's error carries the provider's text

    async def close(self) -> None:
        """Close all connections and end the local model."""
        clients = [client for _, client in self._clients.values()]
        self._clients.clear()
        for client in clients:
            await client.close()
        if self._local_model is not None:
            await self._local_model.close()

    async def _request(
        self,
        stack: contextlib.AsyncExitStack,
        client: openai.AsyncOpenAI,
        model: Model,
        messages: list[dict[str, Any]],
        max_output_tokens: int,
    ) -> httpx2.Response:
        provider = model.provider
        headers: dict[str, str | openai.Omit] = {"Accept-Encoding": "identity"}
        if provider.api_key_env is None:
            headers["Authorization"] = openai.omit
        if provider.weights is not None:
            headers["Connection"] = "close"  # llama.cpp hangs up after a stream without saying so
        if provider.base_url is not None or provider.weights is not None:
            # Ours at OpenAI, which the SDK takes from the environment: nobody else's business.
            headers["OpenAI-Organization"] = openai.omit
            headers["OpenAI-Project"] = openai.omit
            limit = {"max_tokens": max_output_tokens}
        else:
            # OpenAI's newer models refuse max_tokens, most other servers know nothing else.
            limit = {"max_completion_tokens": max_output_tokens}
        failure: ProviderError
        try:
            async with asyncio.timeout(self._first_byte_timeout):
                response = await stack.enter_async_context(
                    client.chat.completions.with_streaming_response.create(
                        model=model.id,
                        messages=cast(Any, messages),
                        stream=True,
                        stream_options={"include_usage": True},
                        extra_headers=cast(Any, headers),
                        extra_body={**limit, **model.request},
                    )
                )
            return response.http_response
        except _TROUBLE as error:
            failure = _translate(error)
        raise failure  # outside the handler: the SDK's error carries the provider's text

    async def _base_url(self, provider: Provider, stack: contextlib.AsyncExitStack) -> str:
        if provider.weights is None:
            own = provider.base_url or self._environ.get("OPENAI_BASE_URL", "").strip()
            return own or _OPENAI_BASE_URL
        if self._local_model is None:
            raise ProviderError("PROVIDER_UNAVAILABLE", "The local model is not installed here.")
        try:
            return await stack.enter_async_context(self._local_model.slot(provider.weights))
        except LocalModelError as error:
            raise ProviderError("PROVIDER_UNAVAILABLE", str(error), detail=error.detail) from None

    async def _client(self, provider: Provider, base_url: str) -> openai.AsyncOpenAI:
        if provider.id not in self._clients:
            await asyncio.to_thread(_certificates)  # which would stop all streams meanwhile
        known = self._clients.get(provider.id)
        if known is not None and known[0] == base_url:
            return known[1]
        client = self._make_client(provider, base_url)
        self._clients[provider.id] = base_url, client
        if known is not None:  # the local model came up again on another port
            await known[1].close()
        return client

    def _make_client(self, provider: Provider, base_url: str) -> openai.AsyncOpenAI:
        key = self._environ.get(provider.api_key_env, "").strip() if provider.api_key_env else ""
        http_client = openai.DefaultAioHttpClient(
            verify=_certificates(),
            # Silence is timed here, for less: a timer a stream instead of one a packet.
            timeout=httpx2.Timeout(None, connect=self._connect_timeout),
            limits=httpx2.Limits(
                max_connections=_MAX_CONNECTIONS,
                max_keepalive_connections=_MAX_CONNECTIONS,
                keepalive_expiry=_KEEPALIVE_SECONDS,
            ),
            # A proxy of the environment cannot reach this machine's own loopback.
            trust_env=not _is_loopback(base_url),
        )
        return openai.AsyncOpenAI(
            # The SDK asks for one; without a key the header is left out of every request.
            api_key=key or "none",
            base_url=base_url,
            max_retries=0,
            timeout=httpx2.Timeout(None, connect=self._connect_timeout),
            http_client=http_client,
        )


class ReplyStream:
    """A model's answer. Iterate it once: one str a network read, never empty.

    `finish_reason` (as the provider says: `stop`, `length`, `content_filter`) and `usage` (None
    if the provider does not say) are known at the end, also when it ends by ProviderError.
    """

    def __init__(
        self,
        body: AsyncIterator[bytes],
        deadline: float,
        idle_timeout: float,
        generation: Generation,
    ) -> None:
        self._body = body
        self._generation = generation
        self._watchdog = Watchdog(deadline, idle_timeout)
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
        reader, watchdog, body = self._reader, self._watchdog, self._body
        failure: ProviderError | None = None
        try:
            while not reader.done:
                data = await watchdog.next(body)
                if data is None:
                    break
                text = reader.feed(data)
                if text:
                    self._generation.note_text()
                    yield text
                if reader.finish_reason is not None:
                    watchdog.shorten(_FINISHED_SECONDS)
            if reader.done and reader.error is None:
                watchdog.shorten(_DRAIN_SECONDS)
                while await watchdog.next(body) is not None:
                    pass
        except _TROUBLE as error:
            failure = _translate(error)
        text = reader.close()
        if reader.usage is not None:
            self._generation.note_usage(reader.usage.input_tokens, reader.usage.output_tokens)
        if text:
            yield text
        if reader.finish_reason is None and failure is not None:
            raise failure
        if reader.error is not None:
            raise reader.error

    async def aclose(self) -> None:
        """Stop the timer and leave the body; the response is closed by who opened it."""
        self._watchdog.stop()
        if isinstance(self._body, AsyncGenerator):
            await self._body.aclose()


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Whom to trust: this machine's authorities, or those of SSL_CERT_FILE or SSL_CERT_DIR. They
    take 30 ms to read, so all clients share them."""
    return httpx2.create_ssl_context()


def _raw_bytes(response: httpx2.Response) -> AsyncIterator[bytes]:
    """The body, one item a network read: without the layers that decode and re-chunk it, which
    cost more than the read itself."""
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        return response.aiter_bytes()  # though we asked for none
    return cast(httpx2.AsyncByteStream, response.stream).__aiter__()


def _translate(error: Exception) -> ProviderError:
    """Our error for one of the SDK or of the libraries under it."""
    if isinstance(error, openai.APIStatusError):
        return from_status(error.status_code, error.body, error.response.headers)
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    # By the root: the SDK's aiohttp transport reports a server that hung up as a timeout.
    if any(isinstance(cause, TimeoutError) for cause in causes):
        return ProviderError("PROVIDER_TIMEOUT")
    detail = type(causes[-1]).__name__
    if isinstance(error, openai.OpenAIError):
        return ProviderError("PROVIDER_UNAVAILABLE", detail=detail)
    return broken(detail)


def _is_loopback(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

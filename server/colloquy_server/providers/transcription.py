"""Asks providers to write recordings down: the only module that knows the OpenAI SDK."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import IO, Any, cast
from urllib.parse import quote

import httpx2
import openai
import pydantic

from colloquy_server.providers.catalog_file import MODEL_IN_URL
from colloquy_server.providers.connection import (
    TROUBLE,
    Waits,
    broken_off,
    certificates,
    endpoint,
    is_named,
    private_headers,
    proxy_of,
    unreachable,
)
from colloquy_server.providers.errors import ProviderError, broken, from_status
from colloquy_server.providers.models import Provider, Transcriber
from colloquy_server.providers.text_repair import repaired
from colloquy_server.providers.transcript import Transcript
from colloquy_server.providers.usage import UsageReader
from colloquy_server.tracing import provider_headers

_SDK_TROUBLE = (
    openai.OpenAIError,
    httpx2.HTTPError,
    httpx2.StreamError,
    httpx2.InvalidURL,
    *TROUBLE,
)


async def transcribe(
    transcriber: Transcriber,
    base_url: str,
    environ: Mapping[str, str],
    waits: Waits,
    file: IO[bytes],
    filename: str,
) -> Transcript:
    """What is said in a recording. Raises ProviderError. Read `certificates` in a thread before."""
    provider = transcriber.provider
    timeout = httpx2.Timeout(None, connect=waits.connect)
    address, query = endpoint(provider, base_url)
    own = private_headers(provider, environ)
    failure: ProviderError
    async with openai.AsyncOpenAI(
        # The SDK asks for one, and sends it only in a header that is left out of the request or
        # put in its place.
        api_key="none",
        organization=environ.get("OPENAI_ORG_ID") or None,
        project=environ.get("OPENAI_PROJECT_ID") or None,
        base_url=address.replace(MODEL_IN_URL, quote(transcriber.id, safe="")),
        default_query=query,
        max_retries=0,
        timeout=timeout,
        http_client=openai.DefaultAioHttpClient(
            verify=certificates(),
            timeout=timeout,
            proxy=proxy_of(base_url),
            trust_env=False,  # which refuses more than it uses
            follow_redirects=False,  # most lose the recording on the way
        ),
    ) as client:
        try:
            async with asyncio.timeout(waits.total):
                answer = await client.audio.transcriptions.create(
                    model=transcriber.id,
                    file=(filename, await asyncio.to_thread(file.read)),
                    response_format="json",
                    extra_headers=cast(Any, provider_headers() | _left_out(provider) | own),
                )
        except _SDK_TROUBLE as error:
            failure = _translate(error)
        else:
            said = getattr(answer, "text", None)  # the SDK does not look at what came
            if isinstance(said, str):
                reader = UsageReader()
                used = getattr(answer, "usage", None)
                reader.feed(used.model_dump() if isinstance(used, pydantic.BaseModel) else used)
                return Transcript(repaired(said), reader.usage())
            failure = broken("a transcription without text")
    raise failure  # outside the handler: the SDK's error carries the provider's text


def _left_out(provider: Provider) -> dict[str, openai.Omit]:
    """Headers that the SDK sends of itself and that are not this provider's business."""
    names = ["Authorization"]
    if is_named(provider):
        names += ["OpenAI-Organization", "OpenAI-Project"]
    return dict.fromkeys(names, openai.omit)


def _translate(error: Exception) -> ProviderError:
    """Our error for one of the SDK or of the libraries under it."""
    if isinstance(error, openai.APIStatusError):
        return from_status(error.status_code, error.body, error.response.headers)
    return unreachable(error) if isinstance(error, openai.OpenAIError) else broken_off(error)

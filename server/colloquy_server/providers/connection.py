"""The connection to one provider: asks its endpoint for a chat completion over HTTP.

Without an SDK, which walks through every message of a conversation before it sends one: that cost
more than all the rest of a short reply.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import ssl
import urllib.request
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from urllib.parse import urljoin, urlsplit

import aiohttp
import httpx2
import orjson
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import HttpProcessingError

from colloquy_server.providers.catalog import Model, Provider
from colloquy_server.providers.chunks import lenient_json
from colloquy_server.providers.errors import ProviderError, broken, from_status
from colloquy_server.providers.sse import MAX_EVENT_BYTES

TROUBLE = (aiohttp.ClientError, HttpProcessingError, OSError)
"""What a connection raises when something is wrong with it; TimeoutError is an OSError."""

BODY_PIECE = 1 << 16
"""Bytes of a body that are handed to the connection at a time; encrypting them takes some 50 µs."""

_MAX_REDIRECTS = 5
_MAX_CONNECTIONS = 10_000  # live replies are limited elsewhere
_KEEPALIVE_SECONDS = 4.0  # many servers hang up after 5; a request must not meet that


class Connection:
    """Asks one provider. Its sockets are kept open for a moment and shared by all requests."""

    def __init__(
        self,
        provider: Provider,
        base_url: str,
        environ: Mapping[str, str],
        *,
        connect_timeout: float,
        answer_timeout: float,
    ) -> None:
        """`base_url` is the provider's address at the moment. Timeouts are in seconds: to connect,
        and from a request to the headers of its answer. Read `certificates` in a thread before."""
        self.base_url = base_url
        self._answer_timeout = answer_timeout
        parts = urlsplit(base_url)
        path = f"{parts.path.rstrip('/')}/chat/completions"
        self._url = parts._replace(path=path).geturl()
        self._limit = "max_tokens" if is_named(provider) else "max_completion_tokens"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=_MAX_CONNECTIONS, keepalive_timeout=_KEEPALIVE_SECONDS, ssl=certificates()
            ),
            headers=_headers(provider, environ),
            cookie_jar=aiohttp.DummyCookieJar(),
            # Silence is timed by who reads, for less: a timer a stream instead of one a packet.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout),
            proxy=_proxy(base_url),
        )

    async def ask(
        self, model: Model, messages: bytes, max_output_tokens: int
    ) -> aiohttp.ClientResponse:
        """The answer to messages, a JSON array, as soon as its headers are there; to be closed by
        the caller. Raises ProviderError."""
        data = _body(self._fields(model, max_output_tokens), messages)
        failure: ProviderError
        try:
            async with asyncio.timeout(self._answer_timeout):
                response = await self._post(data)
                if 200 <= response.status < 300:
                    return response
                try:
                    said = await _error_object(response)
                finally:
                    response.close()
            failure = from_status(response.status, said, response.headers)
        except TROUBLE as error:
            failure = unreachable(error)
        raise failure  # outside the handler: the error carries the provider's text

    async def _post(self, data: bytes | _Body) -> aiohttp.ClientResponse:
        """The answer, also when the provider's server moved it to another path of its own. Other
        redirects are answers too: they lose the body, or take it to a host that nobody named."""
        url = self._url
        for _ in range(_MAX_REDIRECTS):
            response = await self._session.post(url, data=data, allow_redirects=False)
            moved = _moved_to(response)
            if moved is None or _origin(moved) != _origin(self._url):
                return response
            response.close()
            url = moved
        return response

    async def close(self) -> None:
        """Close all sockets."""
        await self._session.close()

    def _fields(self, model: Model, max_output_tokens: int) -> dict[str, object]:
        return {
            "model": model.id,
            "stream": True,
            "stream_options": {"include_usage": True},
            # OpenAI's newer models refuse max_tokens, most other servers know nothing else.
            self._limit: max_output_tokens,
            **model.request,
        }


class _Body(aiohttp.Payload):
    """A long body, sent in pieces between which everybody else on the loop has a turn."""

    def __init__(self, parts: Sequence[bytes]) -> None:
        super().__init__(parts, content_type="application/json")
        self._size = sum(map(len, parts))

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The body as text."""
        return b"".join(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Sends it. Waits while the connection is full, so that little is held twice."""
        for part in self._value:
            view = memoryview(part)
            for at in range(0, len(view), BODY_PIECE):
                await writer.write(view[at : at + BODY_PIECE])
                # A connection that takes all at once never waits.
                await asyncio.sleep(0)


def is_named(provider: Provider) -> bool:
    """Whether the catalogue says where the provider is, so that it is not OpenAI."""
    return provider.base_url is not None or provider.weights is not None


def api_key(provider: Provider, environ: Mapping[str, str]) -> str:
    """The provider's key, empty without one."""
    return environ.get(provider.api_key_env, "").strip() if provider.api_key_env else ""


@functools.cache
def certificates() -> ssl.SSLContext:
    """Whom to trust: this machine's authorities, or those of SSL_CERT_FILE or SSL_CERT_DIR. They
    take 30 ms to read, so all connections share them."""
    return httpx2.create_ssl_context()


def is_loopback(base_url: str) -> bool:
    """Whether an address is this machine's own, which no proxy can reach."""
    host = urlsplit(base_url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def unreachable(error: BaseException) -> ProviderError:
    """The error of a request that got no answer."""
    return _timed_out(error) or ProviderError("PROVIDER_UNAVAILABLE", detail=_root(error))


def broken_off(error: BaseException) -> ProviderError:
    """The error of an answer that does not go on."""
    return _timed_out(error) or broken(_root(error))


def _headers(provider: Provider, environ: Mapping[str, str]) -> dict[str, str]:
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "User-Agent": f"Colloquy/{version('colloquy-server')}",
    }
    if key := api_key(provider, environ):
        headers["Authorization"] = f"Bearer {key}"
    if provider.weights is not None:
        headers["Connection"] = "close"  # llama.cpp hangs up after a stream without saying so
    if not is_named(provider):
        # Ours at OpenAI, by the names that its SDK has for them: nobody else's business.
        for header, name in (
            ("OpenAI-Organization", "OPENAI_ORG_ID"),
            ("OpenAI-Project", "OPENAI_PROJECT_ID"),
        ):
            value = environ.get(name, "").strip()
            if value:
                headers[header] = value
    return headers


def _proxy(base_url: str) -> str | None:
    """The proxy that the environment names for an address. Looked up here, once: aiohttp would do
    so for every request, in a thread, and look for keys in ~/.netrc too."""
    url = urlsplit(base_url)
    if is_loopback(base_url) or urllib.request.proxy_bypass(url.netloc.rpartition("@")[2]):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _body(fields: Mapping[str, object], messages: bytes) -> bytes | _Body:
    """The request: the messages, which are JSON already, among the other fields."""
    # YAML has keys that are numbers, as `logit_bias` wants them; in JSON they are strings.
    before = orjson.dumps(fields, option=orjson.OPT_NON_STR_KEYS)[:-1] + b',"messages":'
    if len(messages) <= BODY_PIECE:
        return b"%b%b}" % (before, messages)
    return _Body([before, messages, b"}"])


def _moved_to(response: aiohttp.ClientResponse) -> str | None:
    """Where to send the same request again; None if nowhere."""
    location = response.headers.get("Location")
    if response.status not in (307, 308) or not location:
        return None
    try:
        return urljoin(str(response.url), location)
    except ValueError:
        return None


def _origin(url: str) -> tuple[str, str, int | None] | None:
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        return parts.scheme, parts.hostname or "", port
    except ValueError:
        return None


async def _error_object(response: aiohttp.ClientResponse) -> object:
    """What an answer that is an error holds, as far as it comes; None if that is not JSON."""
    body = bytearray()
    with contextlib.suppress(aiohttp.ClientError):  # the status alone says enough
        while len(body) < MAX_EVENT_BYTES and (data := await response.content.readany()):
            body += data
    return lenient_json(bytes(body))


def _timed_out(error: BaseException) -> ProviderError | None:
    # The system's own timeouts are the cause of an error of another kind.
    is_timeout = any(isinstance(cause, TimeoutError) for cause in _causes(error))
    return ProviderError("PROVIDER_TIMEOUT") if is_timeout else None


def _root(error: BaseException) -> str:
    return type(_causes(error)[-1]).__name__


def _causes(error: BaseException) -> list[BaseException]:
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    return causes

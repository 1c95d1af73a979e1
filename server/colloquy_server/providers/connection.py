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
from dataclasses import dataclass
from importlib.metadata import version
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit

import aiohttp
import httpx2
import orjson
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import HttpProcessingError

from colloquy_server.providers.catalog_file import MODEL_IN_URL
from colloquy_server.providers.chunks import lenient_json
from colloquy_server.providers.errors import ProviderError, broken, from_status
from colloquy_server.providers.models import Model, Provider
from colloquy_server.providers.sse import MAX_EVENT_BYTES
from colloquy_server.providers.watchdog import TotalTimeout
from colloquy_server.tracing import provider_headers

TROUBLE = (aiohttp.ClientError, HttpProcessingError, OSError)
"""What a connection raises when something is wrong with it; TimeoutError is an OSError."""

BODY_PIECE = 1 << 16
"""Bytes of a body that are handed to the connection at a time; encrypting them takes some 50 µs."""

_MAX_REDIRECTS = 5
_MAX_HEADER = 1 << 16  # gateways send policies and traces that aiohttp's 8 KB do not hold
_MAX_WORDS = 4_000
_MAX_CONNECTIONS = 10_000  # live replies are limited elsewhere
_KEEPALIVE_SECONDS = 4.0  # many servers hang up after 5; a request must not meet that


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds to wait: for a connection, for the first byte of an answer, between two of its
    events, and for the whole."""

    connect: float
    first_byte: float
    idle: float
    total: float


class Connection:
    """Asks one provider. Its sockets are kept open for a moment and shared by all requests."""

    def __init__(
        self, provider: Provider, base_url: str, environ: Mapping[str, str], key: str = ""
    ) -> None:
        """`base_url` is the provider's address at the moment, and `key` what it asks for if that is
        not in the environment. Read `certificates` in a thread before. Raises ProviderError for a
        proxy that is none of HTTP."""
        self.base_url = base_url
        self.key = key
        self._address, self._query = endpoint(provider, base_url)
        self._limit = "max_tokens" if is_named(provider) else "max_completion_tokens"
        own = private_headers(provider, environ)
        if key:
            own["Authorization"] = f"Bearer {key}"
        self._named = frozenset(name.lower() for name, _ in provider.headers)
        """The headers that are the catalogue's to say."""
        proxy = proxy_of(base_url)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=_MAX_CONNECTIONS, keepalive_timeout=_KEEPALIVE_SECONDS, ssl=certificates()
            ),
            headers=_headers(provider, environ) | own,
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=_MAX_HEADER,
            max_field_size=_MAX_HEADER,
            proxy=proxy,
        )

    async def ask(
        self, model: Model, messages: bytes, max_output_tokens: int, waits: Waits
    ) -> aiohttp.ClientResponse:
        """The answer to messages, a JSON array, as soon as its headers are there; to be closed by
        the caller. Raises ProviderError."""
        url = f"{self._address}/chat/completions"
        url = url.replace(MODEL_IN_URL, quote(model.provider_name, safe=""))
        data = _body(self._fields(model, max_output_tokens), messages)
        told = {
            name: value
            for name, value in provider_headers().items()
            if name.lower() not in self._named
        }
        return await self._send("POST", f"{url}{_query(self._query)}", data, waits, told)

    async def fetch(self, url: str, body: object, waits: Waits) -> object:
        """What an address of the same server answers in JSON, None when that is something else.
        Without a body it is only asked. Raises ProviderError."""
        data = None if body is None else orjson.dumps(body)
        method = "GET" if body is None else "POST"
        response = await self._send(method, f"{url}{_query(self._query)}", data, waits)
        try:
            async with asyncio.timeout(waits.first_byte):
                return await _json(response)
        except TROUBLE as error:
            failure = broken_off(error)
        finally:
            response.close()
        raise failure

    async def close(self) -> None:
        """Close all sockets."""
        await self._session.close()

    async def _send(
        self,
        method: str,
        url: str,
        data: bytes | _Body | None,
        waits: Waits,
        headers: Mapping[str, str] | None = None,
    ) -> aiohttp.ClientResponse:
        failure: ProviderError
        try:
            async with asyncio.timeout(min(waits.first_byte, waits.total)):
                response = await self._request(method, url, data, waits, headers)
                if 200 <= response.status < 300:
                    return response
                try:
                    said = await _error_object(response)
                finally:
                    response.close()
            failure = from_status(response.status, said, response.headers)
        except TimeoutError as error:
            failure = unreachable(TotalTimeout() if waits.total <= waits.first_byte else error)
        except TROUBLE as error:
            failure = unreachable(error)
        raise failure  # outside the handler: the error carries the provider's text

    async def _request(
        self,
        method: str,
        url: str,
        data: bytes | _Body | None,
        waits: Waits,
        headers: Mapping[str, str] | None,
    ) -> aiohttp.ClientResponse:
        """The answer, also when the provider's server moved it to another path of its own. Other
        redirects are answers too: they lose the body, or take it to a host that nobody named."""
        for _ in range(_MAX_REDIRECTS):
            response = await self._session.request(
                method,
                url,
                data=data,
                headers=headers,
                allow_redirects=False,
                # Silence is timed by who reads: a timer a stream instead of one a packet.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=waits.connect),
            )
            moved = _moved_to(response)
            if moved is None or _origin(moved) != _origin(url):
                return response
            response.close()
            url = moved
        return response

    def _fields(self, model: Model, max_output_tokens: int) -> dict[str, object]:
        # OpenAI's newer models refuse max_tokens, most other servers know nothing else.
        limit = model.rules.output_limit or self._limit
        fields = {
            "model": model.provider_name,
            "stream": True,
            "stream_options": {"include_usage": True},
            **({} if limit == "none" else {limit: max_output_tokens}),
            **model.rules.fields,
        }
        return {name: value for name, value in fields.items() if name not in model.rules.omit}


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


def endpoint(provider: Provider, base_url: str) -> tuple[str, dict[str, str]]:
    """A provider's address without its query, and the parameters of every request to it: the
    address's, and the catalogue's over them."""
    parts = urlsplit(base_url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True)) | dict(provider.query)
    return parts._replace(path=parts.path.rstrip("/"), query="").geturl(), query


def private_headers(provider: Provider, environ: Mapping[str, str]) -> dict[str, str]:
    """The headers that are nobody else's business: the key's and the catalogue's."""
    headers = dict(provider.headers)
    if key := api_key(provider, environ):
        is_bearer = provider.api_key_header.lower() == "authorization"
        headers[provider.api_key_header] = f"Bearer {key}" if is_bearer else key
    return headers


def is_loopback(base_url: str) -> bool:
    """Whether an address is this machine's own, which no proxy can reach."""
    host = urlsplit(base_url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_near(base_url: str) -> bool:
    """Whether an address is of this machine or of its network. There models are loaded when they
    are first asked, which takes minutes."""
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".lan"))


def proxy_of(base_url: str) -> str | None:
    """The proxy that the environment names for an address. Looked up here, once: aiohttp would do
    so for every request, in a thread, and look for keys in ~/.netrc too. Raises ProviderError for
    one of a kind that is not spoken here."""
    url = urlsplit(base_url)
    if is_loopback(base_url) or urllib.request.proxy_bypass(url.netloc.rpartition("@")[2]):
        return None
    proxies = urllib.request.getproxies()
    proxy = (proxies.get(url.scheme) or proxies.get("all") or "").strip()
    scheme, separator, _ = proxy.partition("://")
    if not separator:
        return f"http://{proxy}" if proxy else None
    if scheme.lower() not in ("http", "https"):  # desktops with a VPN name one of SOCKS
        raise ProviderError(
            "PROVIDER_UNAVAILABLE",
            "The proxy that this server is to reach the AI provider by is not one of HTTP. "
            "Ask its operator to name another, or choose another model.",
            retryable=False,
            detail="a proxy of another kind",
        )
    return proxy


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


def _body(fields: Mapping[str, object], messages: bytes) -> bytes | _Body:
    """The request: the messages, which are JSON already, among the other fields."""
    # YAML has keys that are numbers, as `logit_bias` wants them; in JSON they are strings.
    before = orjson.dumps(fields, option=orjson.OPT_NON_STR_KEYS)[:-1] + b',"messages":'
    if len(messages) <= BODY_PIECE:
        return b"%b%b}" % (before, messages)
    return _Body([before, messages, b"}"])


def _query(parameters: Mapping[str, str]) -> str:
    return f"?{urlencode(parameters)}" if parameters else ""


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
    """What an answer that is an error holds, as far as it comes: JSON, or a line of text; None if
    it is a page or was cut."""
    body = bytearray()
    with contextlib.suppress(aiohttp.ClientError):  # the status alone says enough
        await _read_into(body, response)
    said = lenient_json(bytes(body))
    if said is None and len(body) <= _MAX_WORDS and body.lstrip()[:1].isalpha():
        return body.decode("utf-8", "replace")
    return said


async def _json(response: aiohttp.ClientResponse) -> object:
    body = bytearray()
    await _read_into(body, response)
    return lenient_json(bytes(body))


async def _read_into(body: bytearray, response: aiohttp.ClientResponse) -> None:
    while len(body) < MAX_EVENT_BYTES and (data := await response.content.readany()):
        body += data


def _timed_out(error: BaseException) -> ProviderError | None:
    if isinstance(error, TotalTimeout):  # another attempt would take, and cost, as much again
        return ProviderError("PROVIDER_TIMEOUT", retryable=False, detail="the whole took too long")
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

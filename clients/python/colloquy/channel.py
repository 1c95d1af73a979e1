"""Options and credentials of the gRPC channel, the same for both clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import grpc
from grpc import aio

from colloquy.config import Endpoint, Tls, checked_key
from colloquy.errors import ConfigurationError

# The server's own receive limit; an answer of it never comes near.
_RECEIVE_LIMIT = 16 * 1024 * 1024
_SERVICE_CONFIG = '{"loadBalancingConfig": [{"round_robin": {}}]}'


Metadata = tuple[tuple[str, str], ...]

_request_id: ContextVar[str] = ContextVar("x-request-id", default="")


@contextmanager
def followed_as(request_id: str) -> Iterator[None]:
    """Give all calls that are made within it, and in tasks begun there, an id of your own.

    The server's log has it, and the provider is sent it. It is 1 to 128 letters and digits of ASCII
    or `._:/+=@-`; the server makes another in place of one that is not.
    """
    token = _request_id.set(request_id)
    try:
        yield
    finally:
        _request_id.reset(token)


def options(endpoint: Endpoint) -> list[tuple[str, str | int]]:
    """Return the channel's options."""
    return [
        ("grpc.max_receive_message_length", _RECEIVE_LIMIT),
        # Replicas behind one name share the calls.
        ("grpc.service_config", _SERVICE_CONFIG),
        # Rare enough for proxies, which hang up on who pings often. Zero lifts gRPC's limit of two
        # pings without data: a watcher never sends any.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 0),
        ("grpc.http2.max_pings_without_data", 0),
        # gRPC's own waits between connection attempts begin at 1 s and grow to 2 minutes: a server
        # that restarts is back sooner. A new address of a name is seen within 5 s, not 30.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        ("grpc.dns_min_time_between_resolutions_ms", 5_000),
        # A proxy from the environment cannot reach what is on this machine.
        ("grpc.enable_http_proxy", 0 if endpoint.is_loopback else 1),
        ("grpc.primary_user_agent", "colloquy-client"),
    ]


def connect(endpoint: Endpoint) -> grpc.Channel:
    """Return a channel for the sync API."""
    if endpoint.tls is None:
        return grpc.insecure_channel(endpoint.address, options(endpoint))
    return grpc.secure_channel(endpoint.address, credentials(endpoint.tls), options(endpoint))


def connect_aio(endpoint: Endpoint) -> aio.Channel:
    """Return a channel for asyncio. It belongs to the event loop that runs now."""
    if endpoint.tls is None:
        return aio.insecure_channel(endpoint.address, options(endpoint))
    return aio.secure_channel(endpoint.address, credentials(endpoint.tls), options(endpoint))


def credentials(tls: Tls) -> grpc.ChannelCredentials:
    """Return TLS credentials. Raises ConfigurationError when a file cannot be read."""
    return grpc.ssl_channel_credentials(
        root_certificates=_read(tls.ca_file),
        private_key=_read(tls.key_file),
        certificate_chain=_read(tls.cert_file),
    )


def metadata(endpoint: Endpoint) -> Metadata:
    """Return what a call carries. Raises ColloquyError when there is no key for it now."""
    key = endpoint.api_key
    if not isinstance(key, str):
        key = checked_key(key(), "the token")
    authorization = ("authorization", f"Bearer {key}")
    request_id = _request_id.get()
    return (authorization, ("x-request-id", request_id)) if request_id else (authorization,)


def _read(name: str | None) -> bytes | None:
    if name is None:
        return None
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {name}: {error.strerror}") from None

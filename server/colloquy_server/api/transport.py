"""What gRPC allows a connection, before anybody is known: its channel options.

What it lacks, such as closing a connection that opens and resets calls without end, the proxy does
that stands in front where strangers can reach it (deploy/envoy.yaml).
"""

from __future__ import annotations

import resource

MAX_REQUEST_BYTES = 16 << 20
"""Above the limits of the API, so that a request that is too long gets an answer of ours."""

MAX_STREAMS_PER_CONNECTION = 4_096
"""Calls at once on one connection; a client library waits with those that are more. A proxy opens
another connection."""

_MAX_PENDING = 4 * MAX_STREAMS_PER_CONNECTION
"""Calls that wait for the event loop to take them. gRPC's own limits, by which it began at 1,000 to
cancel calls without a word, are below what one good connection may have; those that were reset
wait here too."""

_MAX_CONNECTIONS = 10_000

_UNREAD_BYTES = 256 << 10
"""Of a call whose request is not being taken in. An upload goes on by as much in one round trip."""

_IDENTITY = 1
"""Of the bits of the algorithms that may compress: none."""

_HANDSHAKE_TIMEOUT = 10.0
"""Seconds for the first bytes of a connection, and TLS; gRPC would give two minutes."""

_IDLE_TIMEOUT = 300.0
"""Seconds that a connection without calls is kept. Clients connect again when they have one."""

_NO_LIMIT = 0
"""Of the pings that come too early. Beyond a limit gRPC closes the connection, but only when what
it is writing is written, and until then it makes each further ping an error that holds all those
before: five megabytes of pings took a processor for a minute, and the connection stayed. Without a
limit they are answered, at a twentieth of that, and no more of them are read than there is room for
answers."""


def channel_options(*, shares_port: bool) -> list[tuple[str, int]]:
    """The options of the server's channels."""
    return [
        ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
        # A few KiB can unpack to all that a message may be: such calls get UNIMPLEMENTED.
        ("grpc.compression_enabled_algorithms_bitset", _IDENTITY),
        # gRPC would let a fast connection send megabytes of each call that nobody reads yet.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", _UNREAD_BYTES),
        ("grpc.max_concurrent_streams", MAX_STREAMS_PER_CONNECTION),
        ("grpc.server.max_pending_requests", _MAX_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING),
        ("grpc.max_allowed_incoming_connections", _max_connections()),
        ("grpc.server_handshake_timeout_ms", _milliseconds(_HANDSHAKE_TIMEOUT)),
        ("grpc.max_connection_idle_ms", _milliseconds(_IDLE_TIMEOUT)),
        ("grpc.http2.max_ping_strikes", _NO_LIMIT),
        ("grpc.so_reuseport", int(shares_port)),
    ]


def _max_connections() -> int:
    """Half of the files that the process may open: the rest is for the database and for files."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MAX_CONNECTIONS if allowed < 0 else min(_MAX_CONNECTIONS, max(1, allowed // 2))


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1_000)

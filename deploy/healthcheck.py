"""Ends with 0 when the server of this container is healthy: the image's HEALTHCHECK.

A server with TLS of its own is only asked whether it listens.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_PATIENCE = 3.0  # seconds


def is_healthy(port: int, *, has_tls: bool) -> bool:
    """Whether the server on this port of this machine serves."""
    try:
        if has_tls:
            with socket.create_connection(("127.0.0.1", port), _PATIENCE):
                return True
        with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.enable_http_proxy", 0)]) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_PATIENCE)
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
    except (OSError, grpc.RpcError):
        return False


if __name__ == "__main__":
    _port = int(os.environ["GRPC_ADDRESS"].rpartition(":")[2])
    sys.exit(0 if is_healthy(_port, has_tls=bool(os.environ.get("TLS_CERT_FILE"))) else 1)

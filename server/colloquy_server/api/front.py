"""Listens for gRPC: the RPCs behind the edge, and health and reflection beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from colloquy_server.api.edge import Edge
from colloquy_server.api.handlers import generic_handler
from colloquy_server.api.interceptors import EdgeInterceptor
from colloquy_server.api.transport import channel_options
from colloquy_server.settings import Settings


class GrpcFront:
    """The gRPC side of one server process."""

    def __init__(
        self,
        settings: Settings,
        edge: Edge,
        services: Sequence[tuple[ServiceDescriptor, object]],
        *,
        shares_port: bool,
    ) -> None:
        """`services` are each with who serves it; `shares_port` lets it listen where other workers
        do."""
        self._settings = settings
        self._names = [service.full_name for service, _ in services]
        self.health = health.aio.HealthServicer()
        interceptor = EdgeInterceptor(
            edge, proxies=settings.trusted_proxies, request_timeout=settings.request_timeout
        )
        self._server = grpc.aio.server(
            interceptors=[interceptor], options=channel_options(shares_port=shares_port)
        )
        self._server.add_generic_rpc_handlers([generic_handler(*each) for each in services])
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        if settings.reflection == "on":
            reflection.enable_server_reflection(
                [*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server
            )

    def listen(self) -> int:
        """Takes its port, and returns which one. Raises OSError when it cannot."""
        settings = self._settings
        try:
            if settings.tls_cert_file is None or settings.tls_key_file is None:
                return self._server.add_insecure_port(settings.grpc_address)
            credentials = grpc.ssl_server_credentials(
                [(settings.tls_key_file.read_bytes(), settings.tls_cert_file.read_bytes())],
                root_certificates=_read(settings.tls_client_ca_file),
                require_client_auth=settings.tls_client_ca_file is not None,
            )
            return self._server.add_secure_port(settings.grpc_address, credentials)
        except RuntimeError:
            raise OSError(
                f"cannot listen on {settings.grpc_address}: is another server running there?"
            ) from None

    async def start(self) -> None:
        """Serves whoever connects."""
        await self._server.start()

    async def tell_ready(self) -> None:
        """Has health say that calls are served."""
        for name in ["", *self._names]:
            await self.health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def drain(self, patience: float) -> asyncio.Task[None]:
        """Refuses new calls; those that are open get so many seconds. What is returned ends with
        the last of them."""
        await self.health.enter_graceful_shutdown()
        return asyncio.create_task(self._server.stop(patience))

    async def stop(self, draining: asyncio.Task[None], patience: float) -> None:
        """Waits for open calls to end, for so many seconds, and ends."""
        try:
            async with asyncio.timeout(patience):
                await asyncio.shield(draining)
        except TimeoutError:  # a health watch holds on for ever
            await self._server.stop(0)
            await draining


def _read(path: Path | None) -> bytes | None:
    return path.read_bytes() if path else None

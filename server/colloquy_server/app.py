"""The composition root: everything is built and wired here. Start reading here.

    api/           Edge ── ConversationService ── Watcher        AdminService, AttachmentService
                                 │                   │
    replies/                  Replies ─ Executor ─ Feeds ─ Bus   Upkeep, Titles
                                 │         │
    context/                     │   ContextBuilder ── ContentParts ── ExtractionCache
    providers/  files/           │   Providers ── any AI provider    Files, Extractor, Storage
                                 │
    database/                repository ── Database              the only truth

A message's way, file by file:

1. `api/interceptors.py` authenticates the call and validates it; `SendMessage` in
   `api/conversations.py` makes a `Prompt` of it.
2. `replies/engine.py` passes it to `replies/admission.py`, which has
   `database/repository/sending.py` store prompt and reply in one transaction, and launches the
   reply if it may start at once.
3. `replies/executor.py` has `context/builder.py` make the request, and `replies/generation.py`
   asks the provider through `providers/client.py`.
4. `replies/publishing.py` shows the text as it comes to `replies/feeds.py`.
5. Every stream's `api/watcher.py` makes its events from there, and `api/conversations.py` writes
   them to the client.
6. `replies/executor.py` stores the end by `database/repository/leases.py`, which starts the next
   reply in line.

Meanwhile `replies/upkeep.py` saves what has come, renews leases, makes what was said findable, and
takes over what others left.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import structlog
from colloquy.api import admin_service_pb2, attachment_service_pb2, conversation_service_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from colloquy_server.api.access import AccessControl
from colloquy_server.api.admin import AdminService
from colloquy_server.api.attachments import AttachmentService
from colloquy_server.api.conversations import ConversationService
from colloquy_server.api.handlers import generic_handler
from colloquy_server.api.interceptors import Edge, warm_up
from colloquy_server.context.builder import ContextBuilder
from colloquy_server.context.content_parts import ContentParts
from colloquy_server.context.extraction_cache import ExtractionCache
from colloquy_server.context.token_estimates import TokenEstimates
from colloquy_server.database.engine import open_database
from colloquy_server.errors import Unavailable
from colloquy_server.files.extraction import Extractor
from colloquy_server.files.files import Files
from colloquy_server.files.storage import Storage
from colloquy_server.providers.catalog import Catalog
from colloquy_server.providers.client import Providers
from colloquy_server.providers.discovery import Discovery
from colloquy_server.providers.local_model import LocalModel
from colloquy_server.replies.bus import Bus, open_bus
from colloquy_server.replies.engine import Replies
from colloquy_server.replies.feeds import Feeds
from colloquy_server.replies.titles import Titles
from colloquy_server.replies.upkeep import Upkeep
from colloquy_server.settings import Settings
from colloquy_server.telemetry import open_telemetry

log = structlog.get_logger()

_MAX_REQUEST_BYTES = 16 << 20
"""Above the limits of the API, so that a request that is too long gets an answer of ours."""

_OPTIONS = [
    ("grpc.max_receive_message_length", _MAX_REQUEST_BYTES),
    # Clients may ping twice a minute; without this gRPC hangs up on more than 12 an hour.
    ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
    ("grpc.keepalive_permit_without_calls", 1),
]

_STREAMS_END_TIMEOUT = 5.0
"""Seconds that calls get to end after the last reply has."""


class App:
    """One server process."""

    def __init__(
        self, settings: Settings, bus: Bus | None = None, *, shares_port: bool = False
    ) -> None:
        """Builds everything; raises CatalogError when the models file cannot be used.

        `bus` joins servers of one process; without it the settings say which bus to use.
        `shares_port` lets it listen where other workers do (see shared_port.py): else a second
        server on the same port is a mistake, and fails.
        """
        self.settings = settings
        self.telemetry = open_telemetry(settings.otel_exporter_otlp_endpoint, settings.sentry_dsn)
        self.catalog = Catalog.load(settings.models_file, settings.environ.get)
        self.db = open_database(settings.database_url, settings.database_pool_size)
        self.bus = bus or open_bus(settings.event_bus_url, settings.database_url)
        self.feeds = Feeds(self.db, self.bus)
        self.providers = Providers(
            settings.environ,
            first_byte_timeout=settings.provider_first_byte_timeout,
            idle_timeout=settings.provider_idle_timeout,
            total_timeout=settings.provider_total_timeout,
            local_model=LocalModel(),
            telemetry=self.telemetry,
        )
        self.discovery = Discovery(self.catalog, self.providers)
        storage = Storage.open(settings.storage_url, settings.environ)
        extractor = Extractor()
        self.files = Files(self.db, storage, extractor, settings.max_attachment_bytes)
        extractions = ExtractionCache(self.db, storage, extractor, self.catalog, self.providers)
        contexts = ContextBuilder(self.db, ContentParts(extractions), TokenEstimates())
        self.replies = Replies(
            self.db, self.feeds, self.discovery, self.providers, contexts, self.bus, settings
        )
        self.titles = Titles(self.db, self.feeds, self.catalog, self.providers, settings.lease_ttl)
        self.upkeep = Upkeep(self.db, self.bus, self.feeds, self.replies, self.titles, settings)
        self.access = AccessControl(
            self.db,
            settings.admin_api_key,
            rate=settings.max_requests_per_second,
            check_interval=settings.key_check_interval,
        )
        self.health = health.aio.HealthServicer()
        self.server = grpc.aio.server(
            interceptors=[Edge(self.access, self.telemetry)],
            options=[*_OPTIONS, ("grpc.so_reuseport", int(shares_port))],
        )
        self.port = 0
        self._register()

    def _register(self) -> None:
        conversation = conversation_service_pb2.DESCRIPTOR.services_by_name["ConversationService"]
        attachment = attachment_service_pb2.DESCRIPTOR.services_by_name["AttachmentService"]
        admin = admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"]
        conversation_servicer = ConversationService(
            self.db,
            self.replies,
            self.feeds,
            self.discovery,
            self.files,
            self.settings.heartbeat_interval,
        )
        attachment_servicer = AttachmentService(self.files)
        admin_servicer = AdminService(self.db, self.access, self.replies, self.files)
        self.server.add_generic_rpc_handlers(
            (
                generic_handler(conversation, conversation_servicer),
                generic_handler(attachment, attachment_servicer),
                generic_handler(admin, admin_servicer),
            )
        )
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        self._names = [service.full_name for service in (conversation, attachment, admin)]
        reflection.enable_server_reflection(
            [*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME], self.server
        )

    async def start(self) -> None:
        """Listens and serves; `port` then says where. Raises OSError when it cannot listen."""
        warm_up()
        self.port = self._listen()
        await self.server.start()
        await self.bus.start()
        self.access.start()
        self.upkeep.start()
        self.files.start()
        self.discovery.start()
        for name in ["", *self._names]:
            await self.health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def _listen(self) -> int:
        settings = self.settings
        try:
            if settings.tls_cert_file is None or settings.tls_key_file is None:
                return self.server.add_insecure_port(settings.grpc_address)
            credentials = grpc.ssl_server_credentials(
                [(settings.tls_key_file.read_bytes(), settings.tls_cert_file.read_bytes())],
                root_certificates=_read(settings.tls_client_ca_file),
                require_client_auth=settings.tls_client_ca_file is not None,
            )
            return self.server.add_secure_port(settings.grpc_address, credentials)
        except RuntimeError:
            raise OSError(
                f"cannot listen on {settings.grpc_address}: is another server running there?"
            ) from None

    async def stop(self, grace: float) -> None:
        """Shuts down in good order: `grace`, in seconds, is for live replies to finish."""
        await self.health.enter_graceful_shutdown()
        stopping = asyncio.create_task(self.server.stop(grace + _STREAMS_END_TIMEOUT))
        await self.replies.drain(grace)
        self.feeds.end_streams(Unavailable())
        try:
            async with asyncio.timeout(_STREAMS_END_TIMEOUT):
                await asyncio.shield(stopping)
        except TimeoutError:  # a health watch holds on for ever
            await self.server.stop(0)
            await stopping
        await self.upkeep.stop()
        await self.files.stop()
        await self.access.stop()
        await self.discovery.stop()
        await self.providers.close()
        await self.bus.stop()
        await self.db.close()
        await asyncio.to_thread(self.telemetry.close)


def _read(path: Path | None) -> bytes | None:
    return path.read_bytes() if path else None

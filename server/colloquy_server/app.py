"""The composition root: everything is built and wired here. Start reading here.

    web/           HttpFront ─ Rpc, FileRoutes, SignInRoutes, Pages
                       │
    api/  GrpcFront ─ Edge ── ConversationService ── Watcher     Attachment-, Session-, AdminService
                                 │                     │
    replies/                  Replies ─ Executor ─ Feeds ─ Bus   Upkeep, Titles
                                 │         │
    context/                     │   ContextBuilder ── ContentParts ── ExtractionCache
    providers/  files/           │   Providers ── any AI provider    Files, Extractor, Storage
                                 │
    webhooks/                   │   Deliverer ─ Sender ── any receiver of events
                                │
    database/                repository ── Database              the only truth

A message's way, file by file:

1. By gRPC a call comes in at `api/interceptors.py`, by HTTP at `web/rpc.py`. `api/edge.py`
   authenticates and validates it; `SendMessage` in `api/conversations.py` makes a `Prompt` of it.
2. `replies/engine.py` passes it to `replies/admission.py`, which has
   `database/repository/sending.py` store prompt and reply in one transaction, and launches the
   reply if it may start at once.
3. `replies/executor.py` runs it: `replies/fallbacks.py` chooses the model and has
   `context/builder.py` make the request, `replies/generation.py` asks the provider through
   `providers/client.py`.
4. `replies/publishing.py` shows the text as it comes to `replies/feeds.py`.
5. Every stream's `api/watcher.py` makes its events from there, and `api/conversations.py` writes
   them to the client.
6. `replies/executor.py` stores the end by `database/repository/leases.py`, which starts the next
   reply in line.

Meanwhile `replies/upkeep.py` saves what has come, renews leases, makes what was said findable, and
takes over what others left; `webhooks/deliverer.py` posts the events that transactions stored.
"""

from __future__ import annotations

import asyncio

import structlog
from colloquy.api import (
    admin_service_pb2,
    attachment_service_pb2,
    conversation_service_pb2,
    session_service_pb2,
)
from starlette.routing import BaseRoute

from colloquy_server.api.access import AccessControl
from colloquy_server.api.admin import AdminService
from colloquy_server.api.attachments import AttachmentService
from colloquy_server.api.audit import AuditTrail
from colloquy_server.api.conversations import ConversationService
from colloquy_server.api.edge import Edge, warm_up
from colloquy_server.api.front import GrpcFront
from colloquy_server.api.identity_access import IdentityAccess
from colloquy_server.api.identity_sign_in import IdentitySignIn
from colloquy_server.api.sessions import SessionService
from colloquy_server.api.sign_in import SignIn
from colloquy_server.context.builder import ContextBuilder
from colloquy_server.context.content_parts import ContentParts
from colloquy_server.context.extraction_cache import ExtractionCache
from colloquy_server.context.token_estimates import TokenEstimates
from colloquy_server.database.engine import open_database
from colloquy_server.database.repository.quotas import Limits
from colloquy_server.errors import Unavailable
from colloquy_server.files.extraction import Extractor
from colloquy_server.files.files import Files
from colloquy_server.files.storage import Storage
from colloquy_server.metrics import WATCHED
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
from colloquy_server.shared_port import HTTP_REMEDY, listen
from colloquy_server.telemetry import open_telemetry
from colloquy_server.web.application import Application
from colloquy_server.web.browsers import Browsers
from colloquy_server.web.files import FileRoutes
from colloquy_server.web.front import HttpFront
from colloquy_server.web.openapi import openapi_route
from colloquy_server.web.pages import Pages
from colloquy_server.web.probes import Probes
from colloquy_server.web.rpc import Rpc, Service
from colloquy_server.web.sign_in import SignInRoutes
from colloquy_server.webhooks.deliverer import Deliverer

log = structlog.get_logger()

_STREAMS_END_TIMEOUT = 5.0
"""Seconds that calls get to end after the last reply has."""


class App:
    """One server process."""

    def __init__(
        self,
        settings: Settings,
        bus: Bus | None = None,
        *,
        shares_port: bool = False,
        worker: int = 1,
    ) -> None:
        """Builds everything; raises CatalogError when the models file cannot be used, and
        SettingsError for OIDC_RULES that cannot.

        `bus` joins servers of one process; without it the settings say which bus to use.
        `shares_port` lets it listen where other workers do (see shared_port.py): else a second
        server on the same port is a mistake, and fails. `worker` is its number among them.
        """
        self.settings = settings
        self.telemetry = open_telemetry(
            settings.otel_exporter_otlp_endpoint,
            settings.sentry_dsn,
            settings.prometheus_address,
            worker,
        )
        self.catalog = Catalog.load(settings.models_file, settings.environ.get)
        on_wait = self.telemetry.database_waited if self.telemetry.counts else None
        self.db = open_database(settings.database_url, settings.database_pool_size, on_wait)
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
        limits = Limits.of_server(settings)
        self.files = Files(self.db, storage, extractor, settings.max_attachment_bytes, limits)
        extractions = ExtractionCache(self.db, storage, extractor, self.catalog, self.providers)
        contexts = ContextBuilder(self.db, ContentParts(extractions), TokenEstimates())
        self.replies = Replies(
            self.db,
            self.feeds,
            self.discovery,
            self.providers,
            contexts,
            self.bus,
            settings,
            self.telemetry,
        )
        self.titles = Titles(self.db, self.feeds, self.catalog, self.providers, settings.lease_ttl)
        self.upkeep = Upkeep(
            self.db, self.bus, self.feeds, self.replies, self.titles, settings, self.telemetry
        )
        self.deliverer = Deliverer(self.db, settings)
        self.identity = IdentityAccess.open(self.db, settings)
        self.access = AccessControl(
            self.db,
            admin_keys=settings.admin_keys,
            provisioning_keys=settings.provisioning_keys,
            rate=settings.max_requests_per_second,
            max_failures=settings.max_failed_authentications,
            check_interval=settings.key_check_interval,
            session_lifetime=settings.session_lifetime,
            tokens=self.identity,
        )
        self.trail = AuditTrail(self.db, settings.audit_retention_days)
        self.edge = Edge(
            self.access,
            self.trail,
            self.telemetry,
            proxies=settings.trusted_proxies,
            max_calls=settings.max_concurrent_calls,
            max_streams=settings.max_open_streams,
        )
        self.attachments = AttachmentService(self.files)
        services = self._services()
        self.grpc = GrpcFront(settings, self.edge, services, shares_port=shares_port)
        self.http = self._http(services) if settings.serves_http else None
        self._shares_port = shares_port
        self.port = 0
        self.http_port = 0
        """Where it listens for HTTP; 0 when it does not."""
        self.metrics_port = 0
        """Where Prometheus may come; 0 when it may not."""
        self._observe()

    def _observe(self) -> None:
        """What is looked at when somebody asks for metrics: numbers that are there anyway."""
        observe, live, bus = self.telemetry.observe, self.replies.ownership.live, self.bus
        limit = self.settings.max_live_replies
        observe("colloquy.reply.live", lambda: [(len(live), {})])
        observe("colloquy.reply.limit", lambda: [(limit, {})])
        observe(
            "colloquy.watcher.open",
            lambda: [
                (self.feeds.watchers, {WATCHED: "conversation"}),
                (self.feeds.accounts.watchers, {WATCHED: "account"}),
            ],
        )
        observe("colloquy.bus.up", lambda: [(int(bus.is_up), {})])
        observe("colloquy.bus.waiting", lambda: [(bus.waiting, {})])
        observe("colloquy.bus.disconnects", lambda: [(bus.disconnects, {})])

    def _services(self) -> list[Service]:
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
            Limits.of_server(self.settings),
        )
        admin_servicer = AdminService(
            self.db,
            self.access,
            self.replies,
            self.files,
            self.discovery,
            allow_private_webhooks=self.settings.webhook_allow_private,
        )
        session = session_service_pb2.DESCRIPTOR.services_by_name["SessionService"]
        session_servicer = SessionService(self.db, self.access, lambda: self.web_url)
        return [
            (conversation, conversation_servicer),
            (attachment, self.attachments),
            (admin, admin_servicer),
            (session, session_servicer),
        ]

    def _http(self, services: list[Service]) -> HttpFront:
        settings = self.settings
        browsers = Browsers(lambda: self.web_url)
        rpc = Rpc(self.edge, services, browsers, settings.request_timeout)
        probes = Probes(self.db)
        sign_in = SignInRoutes(
            browsers,
            SignIn(self.db, self.access, self.trail, settings.session_lifetime),
            IdentitySignIn.open(self.identity, settings, lambda: self.web_url),
            self.access,
            self.trail,
            lifetime=settings.session_lifetime,
            proxies=settings.trusted_proxies,
        )
        files = FileRoutes(
            self.edge, self.files, self.attachments, browsers, settings.request_timeout
        )
        routes: list[BaseRoute] = [
            *probes.routes(),
            openapi_route(),
            *sign_in.routes(),
            *files.routes(),
            *Pages().routes(),
        ]
        return HttpFront(
            settings,
            Application(rpc, routes, self.telemetry),
            draining=[rpc, probes, files],
        )

    @property
    def web_url(self) -> str:
        """Where the page is, to its users; empty where none is served."""
        return self.settings.page_url(self.http_port)

    async def start(self) -> None:
        """Listens and serves; `port`, `http_port` and `metrics_port` then say where. Raises OSError
        when it cannot listen."""
        warm_up()
        self.metrics_port = self.telemetry.listen()
        if self.metrics_port:
            log.info("metrics served", port=self.metrics_port)
        self.port = self.grpc.listen()
        if self.http is not None:
            sockets = listen(
                self.settings.http_address, shares_port=self._shares_port, remedy=HTTP_REMEDY
            )
            self.http_port = sockets[0].getsockname()[1]
            await self.http.start(sockets)
        await self.grpc.start()
        await self.bus.start()
        self.access.start()
        self.trail.start()
        if self.identity is not None:
            self.identity.start()
        self.upkeep.start()
        self.deliverer.start()
        self.files.start()
        self.discovery.start()
        await self.grpc.tell_ready()

    async def stop(self, grace: float) -> None:
        """Shuts down in good order: `grace`, in seconds, is for live replies to finish."""
        draining = await self.grpc.drain(grace + _STREAMS_END_TIMEOUT)
        if self.http is not None:
            self.http.drain()
        await self.replies.drain(grace)
        self.feeds.end_streams(Unavailable())
        ends = [self.grpc.stop(draining, _STREAMS_END_TIMEOUT)]
        if self.http is not None:
            ends.append(self.http.stop(_STREAMS_END_TIMEOUT))
        await asyncio.gather(*ends)
        await self.upkeep.stop()
        await self.deliverer.stop()
        await self.files.stop()
        await self.access.stop()
        await self.trail.stop()
        if self.identity is not None:
            await self.identity.stop()
        await self.discovery.stop()
        await self.providers.close()
        await self.bus.stop()
        await self.db.close()
        await asyncio.to_thread(self.telemetry.close)

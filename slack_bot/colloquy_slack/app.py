"""The Slack bot, put together: what is made here is all there is, and who knows whom is seen here.

Slack ──events──▶ incoming: bolt_app ─▶ listeners ─▶ intake ─▶ routing
                                          │                       │ stored, then acknowledged
                                          ▼                       ▼
                               surfaces: app_home,     database: inbox, outbox, leases …
                                  commands                        │ what is not done
                                                                  ▼
                           serving: lease_keeper ─▶ worker ─▶ reply_job ◀──▶ Colloquy's server
                                                                  │ the latest view of the reply
                                                                  ▼
Slack ◀──posts, edits── outgoing: chat_api ◀─ reply_messages ◀─ delivery

Every process takes in the events of all workspaces. The requests of one are answered by the process
that owns its lease; the inbox is all that connects the two. Which workspaces there are, and how
each is connected to Slack and to the server, is in `workspaces`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

import aiohttp
import structlog
from colloquy import AsyncAdminClient, AsyncConversationClient
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.app.async_app import AsyncApp
from slack_sdk.oauth.token_rotation.async_rotator import AsyncTokenRotator
from slack_sdk.web.async_client import AsyncWebClient

from colloquy_slack.database import listening, outbox
from colloquy_slack.database.engine import Database, migrate
from colloquy_slack.failpoints import FailpointHook, no_failpoint
from colloquy_slack.incoming.bolt_app import oauth_app, single_workspace_app
from colloquy_slack.incoming.http_server import HttpServer
from colloquy_slack.incoming.intake import Intake
from colloquy_slack.incoming.listeners import Listeners
from colloquy_slack.logs import describe
from colloquy_slack.outgoing.rendering import MAX_MESSAGES
from colloquy_slack.runtime import Runtime
from colloquy_slack.serving.lease_keeper import LeaseKeeper
from colloquy_slack.settings import Settings
from colloquy_slack.slack_api import TIMEOUT, SlackApi
from colloquy_slack.telemetry import open_telemetry
from colloquy_slack.workspaces.accounts import Accounts
from colloquy_slack.workspaces.connector import Connector
from colloquy_slack.workspaces.encryption import Cipher
from colloquy_slack.workspaces.erasure import WorkspaceErasure
from colloquy_slack.workspaces.installations import Installations
from colloquy_slack.workspaces.key_change import renew_encryption
from colloquy_slack.workspaces.notices import Notices
from colloquy_slack.workspaces.registry import (
    InstalledWorkspaces,
    SingleWorkspace,
    WorkspaceRegistry,
)
from colloquy_slack.workspaces.token_rotation import TokenRotation

log = structlog.get_logger()

_RETRY_FOR = 2.0
_CALL_TIMEOUT = 5.0
"""Seconds that the server may be away, or may hang, before people are told."""


class BotFailed(Exception):
    """The bot cannot go on: a part of it ended that never should."""


class Bot:
    """The bot in this process."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        failpoint: FailpointHook = no_failpoint,
    ) -> None:
        self._settings = settings
        self._clock, self._now, self._sleep, self._failpoint = clock, now, sleep, failpoint
        self.port = 0
        """Where it listens over HTTP; 0 when it does not."""
        self.metrics_port = 0
        """Where Prometheus may come; 0 when it may not."""
        self._telemetry = open_telemetry(
            settings.otel_exporter_otlp_endpoint, settings.slack_prometheus_address
        )
        self._cleanups: list[Callable[[], Awaitable[None]]] = []

    async def start(self) -> None:
        """Connect to the database, to Slack and to the server.

        Raises SettingsError, SlackError, ConfigurationError, SQLAlchemyError and OSError.
        """
        settings = self._settings
        self._cleanups.append(partial(asyncio.to_thread, self._telemetry.close))
        self.metrics_port = self._telemetry.listen()
        await asyncio.to_thread(migrate, settings.slack_database_url)
        db = Database(settings.slack_database_url)
        self._cleanups.append(db.close)
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT))
        self._cleanups.append(self._session.close)
        runtime = Runtime(
            db,
            clock=self._clock,
            now=self._now,
            sleep=self._sleep,
            failpoint=self._failpoint,
            telemetry=self._telemetry,
        )

        if await db.run(listening.begin, runtime.now()):
            doubted = await db.run(outbox.doubt_unfinished, range(MAX_MESSAGES))
            log.info("answers are looked up in Slack before they are posted", requests=doubted)

        self.workspaces, app = await self._workspaces_and_app(runtime)
        self._cleanups.append(self.workspaces.close)
        self._lease_keeper = LeaseKeeper(runtime, self.workspaces, settings.slack_lease_ttl)
        self._serving = asyncio.create_task(self._lease_keeper.run())
        self._cleanups.append(self._stop_serving)
        intake = Intake(runtime, self.workspaces)
        self._cleanups.append(intake.close)
        Listeners(runtime, self.workspaces, intake).add_to(app)

        if settings.is_http:
            http_server = HttpServer(app)
            self._cleanups.append(http_server.stop)
            self.port = await http_server.start(*settings.http_address)
        if settings.slack_app_token:
            await self._connect_socket_mode(app, settings.slack_app_token)

    async def wait_until_failed(self) -> BotFailed:
        """Wait until the bot cannot go on, and return why: without its lease keeper nothing is
        served."""
        (outcome,) = await asyncio.gather(asyncio.shield(self._serving), return_exceptions=True)
        return BotFailed(describe(outcome) if outcome else "the lease keeper ended")

    async def stop(self) -> None:
        """Take nothing more in, and leave what is open to the next process."""
        while self._cleanups:
            await self._cleanups.pop()()

    async def _workspaces_and_app(self, runtime: Runtime) -> tuple[WorkspaceRegistry, AsyncApp]:
        settings, client = self._settings, self._slack_client(None)
        connector = Connector(
            runtime,
            self._slack_client,
            self._server_client,
            is_native=settings.slack_native_streaming,
            web_url=settings.web_url,
        )
        if not settings.is_oauth:
            workspace = await connector.connect(
                settings.slack_bot_token or "", settings.conversation_api_key
            )
            return SingleWorkspace(workspace), single_workspace_app(settings, client, workspace)

        cipher = Cipher(settings.slack_encryption_key or "")
        admin = self._admin_client(settings.provisioning_api_key)
        self._cleanups.append(admin.close)
        accounts = Accounts(runtime.db, cipher, admin, self._admin_client)
        installations = Installations(
            settings.slack_client_id or "", runtime.db, cipher, settings.allowed_teams
        )
        if cipher.is_changing:
            renewed = await renew_encryption(runtime.db, installations, cipher)
            log.info("encrypted with the first key", values=renewed)
        rotator = AsyncTokenRotator(
            client_id=settings.slack_client_id or "",
            client_secret=settings.slack_client_secret or "",
            client=client,
        )
        workspaces = InstalledWorkspaces(
            installations,
            accounts,
            connector,
            TokenRotation(runtime.db, installations, rotator, runtime.now),
            Notices(runtime.db, installations),
            WorkspaceErasure(
                runtime,
                installations,
                admin,
                self._admin_client,
                self._server_client,
                settings.slack_erase_after_days,
            ),
        )
        return workspaces, oauth_app(
            settings,
            client,
            runtime.db,
            installations,
            workspaces,
            on_change=lambda: self._lease_keeper.wake(),
        )

    async def _connect_socket_mode(self, app: AsyncApp, app_token: str) -> None:
        # The handler itself would ask for ever, whatever Slack says of the token.
        slack = SlackApi(self._slack_client(app_token), self._sleep, self._telemetry)
        await slack.call_with_retries("apps.connections.open")
        handler = AsyncSocketModeHandler(app, app_token)
        self._cleanups.append(handler.close_async)
        await handler.client.connect()  # type: ignore[no-untyped-call]

    async def _stop_serving(self) -> None:
        self._serving.cancel()
        await asyncio.gather(self._serving, return_exceptions=True)
        await self._lease_keeper.stop()

    def _slack_client(self, token: str | None) -> AsyncWebClient:
        # No retry handlers: the SDK's own would post a second time when a connection breaks.
        return AsyncWebClient(
            token=token,
            base_url=self._settings.slack_api_url,
            session=self._session,
            retry_handlers=[],
        )

    def _admin_client(self, key: str | None) -> AsyncAdminClient:
        return AsyncAdminClient(self._settings.conversation_address, key)

    def _server_client(self, key: str | None) -> AsyncConversationClient:
        return AsyncConversationClient(
            self._settings.conversation_address, key, patience=_RETRY_FOR, timeout=_CALL_TIMEOUT
        )

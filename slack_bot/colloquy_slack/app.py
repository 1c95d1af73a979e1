"""The Slack bot, put together: what is made here is all there is, and who knows whom is seen here.

Slack ──events──▶ Listeners ──▶ Intake ──▶ inbox (committed, then acknowledged)
                                             │
the lease of a workspace: Keeper ──▶ Worker ─┴▶ Exchange ──▶ server (AsyncConversationClient)
                                                   │
Slack ◀──posts, edits── Delivery (with its outbox) ┘
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urljoin

import aiohttp
import structlog
from aiohttp import web
from colloquy import AsyncAdminClient, AsyncConversationClient
from slack_bolt.adapter.aiohttp import to_aiohttp_response, to_bolt_request
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.app.async_app import AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.authorization.async_authorize import AsyncAuthorize
from slack_bolt.context.async_context import AsyncBoltContext
from slack_bolt.oauth.async_callback_options import (
    AsyncCallbackOptions,
    AsyncFailureArgs,
    AsyncSuccessArgs,
)
from slack_bolt.oauth.async_oauth_settings import AsyncOAuthSettings
from slack_bolt.response import BoltResponse
from slack_sdk.oauth.state_store.sqlalchemy import AsyncSQLAlchemyOAuthStateStore
from slack_sdk.web.async_client import AsyncWebClient

from colloquy_slack.database.engine import Database, migrate
from colloquy_slack.failpoints import Reached, nothing
from colloquy_slack.incoming.intake import Intake
from colloquy_slack.incoming.listeners import Listeners
from colloquy_slack.logs import names
from colloquy_slack.serving.lease_keeper import Keeper
from colloquy_slack.settings import Settings
from colloquy_slack.slack_api import TIMEOUT, SlackApi
from colloquy_slack.workspaces.encryption import Vault
from colloquy_slack.workspaces.installations import STATES, Accounts, Installations
from colloquy_slack.workspaces.registry import (
    Connect,
    InstalledWorkspaces,
    OneWorkspace,
    Workspaces,
)
from colloquy_slack.workspaces.workspace import Tools

log = structlog.get_logger()

SCOPES = (
    *("app_mentions:read", "assistant:write", "channels:history", "chat:write", "commands"),
    *("files:read", "files:write", "groups:history", "im:history", "im:read", "im:write"),
    *("mpim:history", "reactions:read", "users:read"),
)
"""What an installation asks for; the same as in config/slack_manifest.yml."""

_STATE_SECONDS = 600
_PATIENCE = 2.0
_TIMEOUT = 5.0
"""Seconds that the server may be away, or may hang, before people are told."""


class BotBroke(Exception):
    """The bot cannot go on: a part of it ended that never should."""


class Bot:
    """The bot in this process."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        reached: Reached = nothing,
    ) -> None:
        self._settings = settings
        self._clock, self._sleep, self._reached = clock, sleep, reached
        self.port = 0
        """Where it listens over HTTP; 0 when it does not."""
        self._closing: list[Callable[[], Awaitable[None]]] = []

    async def start(self) -> None:
        """Connect to the database, to Slack and to the server.

        Raises SettingsError, SlackProblem, ConfigurationError, SQLAlchemyError and OSError.
        """
        settings = self._settings
        await asyncio.to_thread(migrate, settings.slack_database_url)
        db = Database(settings.slack_database_url)
        self._closing.append(db.close)
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT))
        self._closing.append(self._session.close)
        tools = Tools(db, clock=self._clock, sleep=self._sleep, reached=self._reached)
        connect = Connect(
            tools, self._web_client, self._colloquy, is_native=settings.slack_native_streaming
        )

        self.workspaces, app = await self._workspaces_and_app(tools, connect)
        self._closing.append(self.workspaces.close)
        self._keeper = Keeper(tools, self.workspaces, settings.slack_lease_ttl)
        self._keeping = asyncio.create_task(self._keeper.run())
        self._closing.append(lambda: _end(self._keeping, self._keeper))
        intake = Intake(tools, self.workspaces)
        self._closing.append(intake.close)
        Listeners(tools, self.workspaces, intake).add_to(app)

        if settings.is_http:
            await self._serve_http(app)
        if settings.slack_app_token:
            # The handler itself would ask for ever, whatever Slack says of the token.
            own = SlackApi(self._web_client(settings.slack_app_token), self._sleep)
            await own.call_patiently("apps.connections.open")
            handler = AsyncSocketModeHandler(app, settings.slack_app_token)
            self._closing.append(handler.close_async)
            await handler.client.connect()  # type: ignore[no-untyped-call]

    async def broke(self) -> BotBroke:
        """Wait until the bot cannot go on, and return why: without its keeper nothing is served."""
        (outcome,) = await asyncio.gather(asyncio.shield(self._keeping), return_exceptions=True)
        return BotBroke(names(outcome) if outcome else "the keeper ended")

    async def stop(self) -> None:
        """Take nothing more in, and leave what is open to the next process."""
        while self._closing:
            await self._closing.pop()()

    async def _workspaces_and_app(
        self, tools: Tools, connect: Connect
    ) -> tuple[Workspaces, AsyncApp]:
        settings = self._settings
        if not settings.is_oauth:
            workspace = await connect.workspace(
                settings.slack_bot_token or "", settings.conversation_api_key
            )

            async def authorize() -> AuthorizeResult:
                return AuthorizeResult(
                    enterprise_id=None,
                    team_id=workspace.team_id,
                    bot_token=settings.slack_bot_token,
                    bot_id=workspace.bot_id,
                    bot_user_id=workspace.bot_user_id,
                )

            app = AsyncApp(
                client=self._web_client(None),
                signing_secret=settings.slack_signing_secret or "",
                process_before_response=True,
                authorize=authorize,
            )
            return OneWorkspace(workspace), app

        vault = Vault(settings.slack_encryption_key or "")
        admin = AsyncAdminClient(settings.conversation_address, settings.admin_api_key)
        self._closing.append(admin.close)
        accounts = Accounts(tools.db, vault, admin)

        store = Installations(settings.slack_client_id or "", tools.db, vault)
        workspaces = InstalledWorkspaces(store, accounts, connect)
        app = AsyncApp(
            client=self._web_client(None),
            signing_secret=settings.slack_signing_secret or "",
            process_before_response=True,
            authorize=AsIdentified(workspaces),  # type: ignore[arg-type]  # an AsyncAuthorize may be
            oauth_settings=self._oauth_settings(store, tools.db),
        )

        async def gone(
            body: dict[str, Any], event: dict[str, Any], context: AsyncBoltContext
        ) -> None:
            """A workspace took the app away, or the bot's token. Others' tokens are not kept."""
            tokens = event.get("tokens") or {}
            if event["type"] == "tokens_revoked" and not tokens.get("bot"):
                return
            team_id = context.team_id or ""
            # The event's own time is exact; the other one is in whole seconds.
            when = float(event.get("event_ts") or body["event_time"] + 1)
            if await store.remove(team_id, when):
                await accounts.forget(team_id)
                await workspaces.drop(team_id)
                self._keeper.look()

        app.event("app_uninstalled")(gone)
        app.event("tokens_revoked")(gone)
        return workspaces, app

    def _oauth_settings(self, store: Installations, db: Database) -> AsyncOAuthSettings:
        settings = self._settings
        return AsyncOAuthSettings(
            client_id=settings.slack_client_id,
            client_secret=settings.slack_client_secret,
            scopes=SCOPES,
            authorization_url=urljoin(settings.slack_api_url, "../oauth/v2/authorize"),
            installation_store=store,
            installation_store_bot_only=True,
            state_store=AsyncSQLAlchemyOAuthStateStore(
                _STATE_SECONDS, db.async_engine, table_name=STATES
            ),
            state_expiration_seconds=_STATE_SECONDS,
            callback_options=AsyncCallbackOptions(success=self._installed, failure=_not_installed),
        )

    async def _installed(self, told: AsyncSuccessArgs) -> BoltResponse:
        """Connect the workspace at once, and make its account."""
        self._keeper.look()
        return await told.default.success(told)

    async def _serve_http(self, app: AsyncApp) -> None:
        async def take(request: web.Request) -> web.Response:
            return await to_aiohttp_response(
                await app.async_dispatch(await to_bolt_request(request))
            )

        pages = web.Application()
        pages.router.add_post("/slack/events", take)
        flow = app.oauth_flow
        if flow is not None:

            async def install(request: web.Request) -> web.Response:
                answer = await flow.handle_installation(await to_bolt_request(request))
                return await to_aiohttp_response(answer)

            async def allowed(request: web.Request) -> web.Response:
                answer = await flow.handle_callback(await to_bolt_request(request))
                return await to_aiohttp_response(answer)

            pages.router.add_get(flow.install_path, install)
            pages.router.add_get(flow.redirect_uri_path, allowed)
        runner = web.AppRunner(pages, access_log=None)
        await runner.setup()
        self._closing.append(runner.cleanup)
        await web.TCPSite(runner, *self._settings.http_address).start()
        self.port = runner.addresses[0][1]

    def _web_client(self, token: str | None) -> AsyncWebClient:
        # No retry handlers: the SDK's own would post a second time when a connection breaks.
        return AsyncWebClient(
            token=token,
            base_url=self._settings.slack_api_url,
            session=self._session,
            retry_handlers=[],
        )

    def _colloquy(self, key: str | None) -> AsyncConversationClient:
        return AsyncConversationClient(
            self._settings.conversation_address, key, patience=_PATIENCE, timeout=_TIMEOUT
        )


class AsIdentified(AsyncAuthorize):
    """Tells Bolt whom an event is for, from what is stored.

    Bolt's own asks Slack for auth.test: an event would wait for it, and be lost with it. Nobody
    needs a token before the event is stored.
    """

    def __init__(self, workspaces: Workspaces) -> None:
        self._workspaces = workspaces

    async def __call__(self, *, team_id: str | None, **_more: Any) -> AuthorizeResult | None:
        """Return who the bot is, None in a workspace that does not have the app."""
        identity = await self._workspaces.identify(team_id)
        if identity is None:
            return None
        return AuthorizeResult(
            enterprise_id=None, team_id=identity.team_id, bot_user_id=identity.bot_user_id
        )


async def _not_installed(told: AsyncFailureArgs) -> BoltResponse:
    log.warning("not installed", why=told.reason)
    return await told.default.failure(told)


async def _end(keeping: asyncio.Task[None], keeper: Keeper) -> None:
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    await keeper.stop()

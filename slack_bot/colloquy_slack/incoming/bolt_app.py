"""The apps of Bolt, Slack's framework: they check who sends events, and install workspaces."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urljoin

import aiohttp
import structlog
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
from slack_sdk.errors import SlackClientError
from slack_sdk.oauth.state_store.sqlalchemy import AsyncSQLAlchemyOAuthStateStore
from slack_sdk.web.async_client import AsyncWebClient

from colloquy_slack.database.engine import Database
from colloquy_slack.settings import Settings
from colloquy_slack.workspaces.installations import STATES_TABLE, InstallationRefused, Installations
from colloquy_slack.workspaces.registry import InstalledWorkspaces, WorkspaceRegistry
from colloquy_slack.workspaces.scopes import SCOPES
from colloquy_slack.workspaces.workspace import Workspace

log = structlog.get_logger()

_NAME = __name__
"""What Bolt names its logger after; else it searches the sources of all that is loaded."""

_STATE_TTL = 600
"""Seconds that an installation may take, once begun."""


def single_workspace_app(
    settings: Settings, client: AsyncWebClient, workspace: Workspace
) -> AsyncApp:
    """Return the app for the workspace of SLACK_BOT_TOKEN."""

    async def authorize() -> AuthorizeResult:
        return AuthorizeResult(
            enterprise_id=None,
            team_id=workspace.team_id,
            bot_token=settings.slack_bot_token,
            bot_id=workspace.bot_id,
            bot_user_id=workspace.bot_user_id,
        )

    return AsyncApp(
        name=_NAME,
        client=client,
        signing_secret=settings.slack_signing_secret or "",
        process_before_response=True,
        authorize=authorize,
    )


def oauth_app(
    settings: Settings,
    client: AsyncWebClient,
    db: Database,
    installations: Installations,
    workspaces: InstalledWorkspaces,
    on_change: Callable[[], None],
) -> AsyncApp:
    """Return the app that any workspace may install.

    `on_change` is called when one was installed or uninstalled.
    """

    installations.give_back = partial(_revoke, client)

    async def installed(args: AsyncSuccessArgs) -> BoltResponse:
        on_change()
        return await args.default.success(args)

    async def uninstalled(
        body: dict[str, Any], event: dict[str, Any], context: AsyncBoltContext
    ) -> None:
        """A workspace took the app away, or the bot's token. Others' tokens are not kept."""
        tokens = event.get("tokens") or {}
        if event["type"] == "tokens_revoked" and not tokens.get("bot"):
            return
        # The event's own time is exact; the other one is in whole seconds.
        when = float(event.get("event_ts") or body["event_time"] + 1)
        if await workspaces.uninstall(context.team_id or "", when):
            on_change()

    app = AsyncApp(
        name=_NAME,
        client=client,
        signing_secret=settings.slack_signing_secret or "",
        process_before_response=True,
        authorize=StoredAuthorize(workspaces),  # type: ignore[arg-type]  # an AsyncAuthorize may be
        oauth_settings=AsyncOAuthSettings(
            client_id=settings.slack_client_id,
            client_secret=settings.slack_client_secret,
            scopes=SCOPES,
            authorization_url=urljoin(settings.slack_api_url, "../oauth/v2/authorize"),
            installation_store=installations,
            installation_store_bot_only=True,
            state_store=AsyncSQLAlchemyOAuthStateStore(
                _STATE_TTL, db.async_engine, table_name=STATES_TABLE
            ),
            state_expiration_seconds=_STATE_TTL,
            callback_options=AsyncCallbackOptions(success=installed, failure=_not_installed),
        ),
    )
    app.event("app_uninstalled")(uninstalled)
    app.event("tokens_revoked")(uninstalled)
    return app


class StoredAuthorize(AsyncAuthorize):
    """Tells Bolt whom an event is for, from what is stored.

    Bolt's own asks Slack for auth.test: an event would wait for it, and be lost with it. Nobody
    needs a token before the event is stored.
    """

    def __init__(self, workspaces: WorkspaceRegistry) -> None:
        self._workspaces = workspaces

    async def __call__(self, *, team_id: str | None, **_more: Any) -> AuthorizeResult | None:
        """Return who the bot is, None in a workspace that does not have the app."""
        identity = await self._workspaces.identify(team_id)
        if identity is None:
            return None
        return AuthorizeResult(
            enterprise_id=None, team_id=identity.team_id, bot_user_id=identity.bot_user_id
        )


async def _revoke(client: AsyncWebClient, token: str) -> None:
    """Give a token back, so that the app is not half installed. Failure is harmless."""
    try:
        await client.auth_revoke(token=token)
    except (TimeoutError, aiohttp.ClientError, SlackClientError, OSError) as error:
        log.info("token not revoked", error=type(error).__name__)


async def _not_installed(args: AsyncFailureArgs) -> BoltResponse:
    if isinstance(args.error, InstallationRefused):
        log.warning("installation refused", why=type(args.error).__name__)
        return BoltResponse(
            status=403,
            headers={"Content-Type": "text/html; charset=utf-8"},
            body=f"<!DOCTYPE html><title>Not installed</title><p>{args.error}</p>",
        )
    log.warning("installation failed", why=args.reason)
    return await args.default.failure(args)

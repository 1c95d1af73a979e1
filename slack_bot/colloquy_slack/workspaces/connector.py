"""Connects a workspace: who the bot is there, and its clients of Slack and of the server."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from colloquy import AsyncConversationClient
from slack_sdk.web.async_client import AsyncWebClient

from colloquy_slack.runtime import Runtime
from colloquy_slack.slack_api import Refused, SlackApi
from colloquy_slack.workspaces.rate_limiter import RateLimiter
from colloquy_slack.workspaces.scopes import missing_scopes
from colloquy_slack.workspaces.workspace import Workspace

log = structlog.get_logger()

MakeSlackClient = Callable[[str], AsyncWebClient]
"""Makes a client of Slack's Web API with a token."""

MakeServerClient = Callable[[str | None], AsyncConversationClient]
"""Makes a client of the server with a key; None: the one of the environment."""


class Connector:
    """Makes workspaces of tokens."""

    def __init__(
        self,
        runtime: Runtime,
        slack_client: MakeSlackClient,
        server_client: MakeServerClient,
        *,
        is_native: bool,
        web_url: str,
    ) -> None:
        self._runtime, self._is_native, self._web_url = runtime, is_native, web_url
        self._slack_client, self._server_client = slack_client, server_client

    async def connect(
        self, token: str, key: str | None, colloquy: AsyncConversationClient | None = None
    ) -> Workspace:
        """Return the workspace of a token, on a connection to the server that is there or a new
        one. Raises SlackError and ConfigurationError."""
        runtime = self._runtime
        slack = SlackApi(self._slack_client(token), runtime.sleep, runtime.telemetry)
        bot = await slack.read_with_retries("auth.test")
        if not bot.get("bot_id"):
            raise Refused("not_a_bot_token")
        if missing := missing_scopes(slack.scopes):
            log.warning("scopes missing", team=bot["team_id"], scopes=missing)
        return Workspace(
            team_id=str(bot["team_id"]),
            bot_user_id=str(bot["user_id"]),
            bot_id=str(bot["bot_id"]),
            url=str(bot.get("url") or "https://slack.com/"),
            slack=slack,
            colloquy=colloquy or self._server_client(key),
            limiter=RateLimiter(self._runtime.clock),
            is_native=self._is_native,
            web_url=self._web_url,
        )

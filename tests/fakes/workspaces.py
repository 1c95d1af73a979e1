"""Workspaces of the Slack bot that are connected to nothing."""

from __future__ import annotations

from typing import cast

from colloquy import AsyncConversationClient
from colloquy_slack.slack_api import SlackApi
from colloquy_slack.workspaces.rate_limiter import RateLimiter
from colloquy_slack.workspaces.workspace import Workspace


def workspace(team_id: str, server: object = None) -> Workspace:
    """One whose connection to the server is `server`."""
    return Workspace(
        team_id=team_id,
        bot_user_id="UBOT",
        bot_id="B1",
        url="https://example.slack.com/",
        slack=cast(SlackApi, None),
        colloquy=cast(AsyncConversationClient, server),
        limiter=RateLimiter(lambda: 0.0),
    )

"""Tokens that expire are refreshed before they do, by one process at a time."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import aiohttp
import structlog
from slack_sdk.errors import SlackClientError, SlackTokenRotationError
from slack_sdk.oauth.installation_store import Bot
from slack_sdk.oauth.token_rotation.async_rotator import AsyncTokenRotator

from colloquy_slack.database import leases
from colloquy_slack.database.engine import Database
from colloquy_slack.workspaces.installations import Installations

log = structlog.get_logger()

_MARGIN = 2 * 3_600.0
"""Seconds before its end that a token is refreshed; it lives for twelve hours."""

_LEASE_TTL = 60.0
"""Seconds that others wait for a process that died while it refreshed a token."""


class TokenRotation:
    """Finds the bots of workspaces with tokens that hold."""

    def __init__(
        self,
        db: Database,
        installations: Installations,
        rotator: AsyncTokenRotator,
        now: Callable[[], float],
    ) -> None:
        """`now` gives seconds since 1970."""
        self._db, self._installations, self._rotator = db, installations, rotator
        self._now = now
        self._owner = uuid4().hex

    async def find_bot(self, team_id: str) -> Bot | None:
        """Return a workspace's bot, its token refreshed if that is due.

        While another process refreshes it, or Slack is away, the old token goes on: it holds until
        its end. Raises SettingsError when a token cannot be read.
        """
        bot = await self._stored(team_id)
        if bot is None or not self._is_due(bot):
            return bot
        # Slack takes a refresh token once: two processes must not both use it.
        lease = f"token:{team_id}"
        if not await self._db.run(leases.claim, lease, self._owner, self._now(), _LEASE_TTL):
            return bot
        try:
            bot = await self._stored(team_id)
            return await self._refreshed(bot) if bot is not None and self._is_due(bot) else bot
        finally:
            await self._db.run(leases.release, [lease], self._owner)

    async def _stored(self, team_id: str) -> Bot | None:
        return await self._installations.async_find_bot(enterprise_id=None, team_id=team_id)

    def _is_due(self, bot: Bot) -> bool:
        expires_at = bot.bot_token_expires_at
        return expires_at is not None and expires_at < self._now() + _MARGIN

    async def _refreshed(self, bot: Bot) -> Bot:
        try:
            fresh = await self._rotator.perform_bot_token_rotation(
                bot=bot, minutes_before_expiration=int(_MARGIN // 60)
            )
        except SlackTokenRotationError as error:
            answer = getattr(error.api_error, "response", {})
            why = answer.get("error") or "no answer"
            log.error("token not refreshed", team=bot.team_id, error=why)
            return bot
        except (TimeoutError, aiohttp.ClientError, SlackClientError, OSError) as error:
            log.warning("token not refreshed", team=bot.team_id, error=type(error).__name__)
            return bot
        if fresh is None:
            return bot
        await self._installations.replace_token(bot, fresh)
        log.info("token refreshed", team=bot.team_id)
        return fresh

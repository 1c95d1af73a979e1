"""A workspace that is connected: its two clients, its rate limiter, and its users' profiles."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from colloquy import AsyncConversationClient

from colloquy_slack.slack_api import SlackApi, SlackError
from colloquy_slack.workspaces.names import Names
from colloquy_slack.workspaces.rate_limiter import RateLimiter

_PROFILE_TTL = 3_600.0
_MAX_PROFILES = 10_000
_PROFILE_MAX_WAIT = 5.0
"""Seconds that a message waits for its author's name when Slack is busy."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A person as others see them."""

    name: str
    avatar_url: str = ""
    utc_offset: int = 0
    """Seconds that their clock is ahead of UTC."""


@dataclass
class Workspace:
    """One workspace, connected."""

    team_id: str
    bot_user_id: str
    bot_id: str
    url: str
    """Where people see it: https://example.slack.com/."""
    slack: SlackApi
    colloquy: AsyncConversationClient
    limiter: RateLimiter
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a request came in."""
    is_native: bool = False
    """Whether replies are streamed with chat.startStream."""
    has_status: bool = True
    """Whether Slack shows a status in threads; off once it said that it does not."""
    names: Names = field(init=False)
    """Of its channels and groups."""
    _profiles: dict[str, tuple[float, Profile]] = field(default_factory=dict)
    _lookups: dict[str, asyncio.Future[Profile]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = Names(self.slack)

    async def profile(self, user_id: str, now: float) -> Profile:
        """Return a user's name and picture; their id when Slack does not say."""
        lookup = self._lookups.get(user_id)
        if lookup is None:
            lookup = asyncio.ensure_future(self._look_up(user_id, now))
            self._lookups[user_id] = lookup
            lookup.add_done_callback(lambda _: self._lookups.pop(user_id, None))
        return await asyncio.shield(lookup)

    async def _look_up(self, user_id: str, now: float) -> Profile:
        cached = self._profiles.get(user_id)
        if cached is not None and now - cached[0] < _PROFILE_TTL:
            return cached[1]
        try:
            answer = await self.slack.read_with_retries(
                "users.info", max_wait=_PROFILE_MAX_WAIT, user=user_id
            )
        except SlackError:
            return cached[1] if cached else Profile(user_id)
        user = answer.get("user") or {}
        fields = user.get("profile") or {}
        name = fields.get("display_name") or fields.get("real_name") or user.get("name")
        profile = Profile(
            str(name or user_id),
            str(fields.get("image_192") or ""),
            int(user.get("tz_offset") or 0),
        )
        if len(self._profiles) >= _MAX_PROFILES:
            self._profiles.clear()
        self._profiles[user_id] = (now, profile)
        return profile

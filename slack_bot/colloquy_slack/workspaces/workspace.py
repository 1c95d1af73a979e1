"""A workspace that is connected: its two clients, its rate limiter, and its users' profiles."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import Any

from colloquy import AsyncConversationClient

from colloquy_slack.slack_api import SlackApi, SlackError
from colloquy_slack.workspaces.channels import Channels
from colloquy_slack.workspaces.names import Names
from colloquy_slack.workspaces.rate_limiter import RateLimiter

_PROFILE_TTL = 3_600.0
_MAX_PROFILES = 10_000
_MAX_CONVERSATIONS = 10_000
_MAX_EMAIL = 255
_EMAIL = re.compile(r"[^\s@\x00-\x1f\x7f]+@[^\s@\x00-\x1f\x7f]+")
"""What the server takes for an address; it refuses the message of an author with another one."""

_PROFILE_MAX_WAIT = 5.0
"""Seconds that a message waits for its author's name when Slack is busy."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A person as others see them."""

    name: str
    avatar_url: str = ""
    utc_offset: int = 0
    """Seconds that their clock is ahead of UTC."""
    email: str = ""
    """Their address, if this workspace can vouch that it is theirs: by it the server knows them for
    somebody who comes from elsewhere, and lets them see what that person does."""


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
    web_url: str = ""
    """Where Colloquy's page is; empty: nothing links there."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a request came in."""
    is_native: bool = False
    """Whether replies are streamed with chat.startStream."""
    has_status: bool = True
    """Whether Slack shows a status in threads; off once it said that it does not."""
    names: Names = field(init=False)
    """Of its channels and groups."""
    channels: Channels = field(init=False)
    """Who is in them."""
    audience_wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a channel may have changed."""
    names_apart: dict[str, tuple[frozenset[str], frozenset[str]]] = field(default_factory=dict)
    """Of conversations, by their ids: the external_ids of members who have other names at the
    server, and the ids of the users who they are there."""
    _profiles: dict[str, tuple[float, Profile]] = field(default_factory=dict)
    _lookups: dict[str, asyncio.Future[Profile]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = Names(self.slack)
        self.channels = Channels(self.slack, self.bot_user_id)

    def web_link(self, conversation_id: str) -> str:
        """Return where a conversation is on the web, empty when it is nowhere."""
        is_there = self.web_url and conversation_id
        return f"{self.web_url}/c/{conversation_id}" if is_there else ""

    def note_names_apart(
        self, conversation_id: str, names: tuple[frozenset[str], frozenset[str]]
    ) -> None:
        """Remember that the others in a conversation are members under other names."""
        if len(self.names_apart) >= _MAX_CONVERSATIONS:
            self.names_apart.clear()
        self.names_apart[conversation_id] = names

    def wake_up(self) -> None:
        """Have what came in seen at once."""
        self.wake.set()
        self.audience_wake.set()

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
            self._vouched_email(user),
        )
        if len(self._profiles) >= _MAX_PROFILES:
            self._profiles.clear()
        self._profiles[user_id] = (now, profile)
        return profile

    def _vouched_email(self, user: dict[str, Any]) -> str:
        """Return the address of a person of this workspace who showed Slack that it is theirs.

        Another company's people, whom Slack Connect brings, have what that company says; apps have
        what their makers say; who left may have lost the address to somebody else.
        """
        email = str((user.get("profile") or {}).get("email") or "")
        is_ours = user.get("team_id") == self.team_id and not user.get("is_stranger")
        is_somebody = not (user.get("is_bot") or user.get("is_workflow_bot") or user.get("deleted"))
        is_whole = len(email) <= _MAX_EMAIL and _EMAIL.fullmatch(email)
        is_theirs = user.get("is_email_confirmed") is True
        return email if is_ours and is_somebody and is_theirs and is_whole else ""

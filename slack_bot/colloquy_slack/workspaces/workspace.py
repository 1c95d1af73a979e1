"""A workspace as the bot serves it: its two clients, its budget, and who is who."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from colloquy import AsyncConversationClient

from colloquy_slack.database.engine import Database
from colloquy_slack.failpoints import Reached, nothing
from colloquy_slack.slack_api import SlackApi, SlackProblem
from colloquy_slack.workspaces.rate_limiter import Pace

_NAMES_KEPT_FOR = 3_600.0
_NAMES_KEPT = 10_000
_NAME_PATIENCE = 5.0
"""Seconds that a message waits for its author's name when Slack is busy."""


@dataclass(frozen=True)
class Tools:
    """What every part of the bot works with. Tests give their own clock and steps."""

    db: Database
    clock: Callable[[], float] = time.monotonic
    """Seconds that never go back."""
    now: Callable[[], float] = time.time
    """Seconds since 1970."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    reached: Reached = nothing

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Wait for an event, for so long at most. Returns whether it came."""
        if seconds <= 0:
            return event.is_set()
        waiting = [
            asyncio.ensure_future(event.wait()),
            asyncio.ensure_future(self.sleep(seconds)),
        ]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
        return event.is_set()


@dataclass(frozen=True, slots=True)
class Named:
    """A person as others see them."""

    name: str
    avatar_url: str = ""


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
    pace: Pace
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a request came in."""
    is_native: bool = False
    """Whether replies are streamed with chat.startStream."""
    has_status: bool = True
    """Whether Slack shows a status in threads; off once it said that it does not."""
    _people: dict[str, tuple[float, Named]] = field(default_factory=dict)
    _asking: dict[str, asyncio.Future[Named]] = field(default_factory=dict)

    async def person(self, user_id: str, now: float) -> Named:
        """Return a user's name and picture; their id when Slack does not say."""
        asking = self._asking.get(user_id)
        if asking is None:
            asking = asyncio.ensure_future(self._ask_for(user_id, now))
            self._asking[user_id] = asking
            asking.add_done_callback(lambda _: self._asking.pop(user_id, None))
        return await asyncio.shield(asking)

    async def _ask_for(self, user_id: str, now: float) -> Named:
        known = self._people.get(user_id)
        if known is not None and now - known[0] < _NAMES_KEPT_FOR:
            return known[1]
        try:
            answer = await self.slack.read_patiently(
                "users.info", patience=_NAME_PATIENCE, user=user_id
            )
        except SlackProblem:
            return known[1] if known else Named(user_id)
        user = answer.get("user") or {}
        profile = user.get("profile") or {}
        name = profile.get("display_name") or profile.get("real_name") or user.get("name")
        named = Named(str(name or user_id), str(profile.get("image_192") or ""))
        if len(self._people) >= _NAMES_KEPT:
            self._people.clear()
        self._people[user_id] = (now, named)
        return named

"""Who sees what is said in a workspace's channels."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from colloquy_slack.slack_api import SlackApi, SlackError

log = structlog.get_logger()

_TTL = 600.0
"""Seconds that an answer of Slack's is kept. Events tell of changes before that, where the app is
subscribed to them."""

_MAX_CHANNELS = 10_000
_MEMBERS_AT_ONCE = 1_000
"""The most that Slack gives in one answer."""


@dataclass(frozen=True, slots=True)
class Audience:
    """Who sees what is said in a channel: everybody, or where it is private its members."""

    is_private: bool
    members: frozenset[str] | None = None
    """Of a private channel: their ids, without the bot's. None when Slack does not tell."""
    can_change: bool = False
    """Whether people may come and go."""


UNKNOWN = Audience(is_private=True)
"""Of a channel of which Slack tells nothing: nobody sees more than they must."""


def direct_audience(user_id: str) -> Audience:
    """Return who sees the direct messages of a person and the bot."""
    return Audience(is_private=True, members=frozenset({user_id}) if user_id else None)


class Channels:
    """The audiences of channels, as Slack told the last time."""

    def __init__(self, slack: SlackApi, bot_user_id: str) -> None:
        self._slack, self._bot_user_id = slack, bot_user_id
        # By channel: until when it holds.
        self._known: dict[str, tuple[float, Audience]] = {}

    async def audience(self, channel_id: str, now: float, max_wait: float) -> Audience:
        """Return a channel's audience. `now` is in seconds since 1970, `max_wait` is how many to
        wait when Slack is busy. Raises SlackError."""
        until, known = self._known.get(channel_id, (0.0, UNKNOWN))
        if now < until:
            return known
        audience = await self._read(channel_id, max_wait)
        if len(self._known) >= _MAX_CHANNELS:
            self._known.clear()
        self._known[channel_id] = now + _TTL, audience
        return audience

    def forget(self, channel_id: str) -> None:
        """Ask Slack anew the next time."""
        self._known.pop(channel_id, None)

    async def _read(self, channel_id: str, max_wait: float) -> Audience:
        answer = await self._slack.read_with_retries(
            "conversations.info", max_wait=max_wait, channel=channel_id
        )
        channel = answer.get("channel") or {}
        if channel.get("is_im"):
            return direct_audience(str(channel.get("user") or ""))
        is_group_message = bool(channel.get("is_mpim"))
        if not (is_group_message or channel.get("is_private") or channel.get("is_group")):
            return Audience(is_private=False)
        try:
            members = await self._members(channel_id, max_wait)
        except SlackError as error:
            log.warning("members of a private channel not read", error=str(error))
            return UNKNOWN
        return Audience(is_private=True, members=members, can_change=not is_group_message)

    async def _members(self, channel_id: str, max_wait: float) -> frozenset[str]:
        members: set[str] = set()
        cursor = None
        while True:
            answer = await self._slack.read_with_retries(
                "conversations.members",
                max_wait=max_wait,
                channel=channel_id,
                cursor=cursor,
                limit=_MEMBERS_AT_ONCE,
            )
            members.update(map(str, answer.get("members") or []))
            cursor = str((answer.get("response_metadata") or {}).get("next_cursor") or "")
            if not cursor:
                return frozenset(members - {self._bot_user_id})

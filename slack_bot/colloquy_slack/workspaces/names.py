"""The names of a workspace's channels and groups, for messages that carry only their ids."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from colloquy_slack.slack_api import SlackApi, SlackError

log = structlog.get_logger()

_TTL = 3_600.0
"""Seconds that a name is kept, and also that Slack would not tell it."""

_MAX_NAMES = 10_000
_MAX_WAIT = 5.0
"""Seconds that a message waits for a name when Slack is busy."""


class Names:
    """What ids stand for, as far as Slack tells; a name that is unknown is left out."""

    def __init__(self, slack: SlackApi) -> None:
        self._slack = slack
        # By id: until when it holds, and the name, empty where there is none.
        self._known: dict[str, tuple[float, str]] = {}

    async def of(self, ids: Iterable[str], now: float) -> dict[str, str]:
        """Return the names of channels and groups. `now` is in seconds since 1970."""
        names = {one: await self._name(one, now) for one in ids}
        return {one: name for one, name in names.items() if name}

    async def _name(self, one: str, now: float) -> str:
        until, name = self._known.get(one, (0.0, ""))
        if now < until:
            return name
        if len(self._known) >= _MAX_NAMES:
            self._known.clear()
        self._known[one] = now + _TTL, name
        try:
            if one.startswith("S"):
                found = await self._groups()
            else:
                found = await self._channel(one)
        except SlackError as error:
            log.info("name not found", error=str(error))
            return name
        self._known |= {each: (now + _TTL, called) for each, called in found.items()}
        return found.get(one, name)

    async def _channel(self, channel_id: str) -> dict[str, str]:
        answer = await self._slack.read_with_retries(
            "conversations.info", max_wait=_MAX_WAIT, channel=channel_id
        )
        return {channel_id: str((answer.get("channel") or {}).get("name") or "")}

    async def _groups(self) -> dict[str, str]:
        """Return all groups: Slack has no method for one."""
        answer = await self._slack.read_with_retries("usergroups.list", max_wait=_MAX_WAIT)
        groups = answer.get("usergroups") or []
        return {str(one["id"]): str(one.get("handle") or "") for one in groups}

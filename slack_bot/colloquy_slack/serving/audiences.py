"""Who sees a conversation at the server: whoever sees it in Slack."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from colloquy import ColloquyError
from colloquy.api.resources_pb2 import Conversation, User
from colloquy.errors import NotFound
from sqlalchemy.exc import SQLAlchemyError

from colloquy_slack.database import audiences
from colloquy_slack.database.models import Request, WatchedChannel
from colloquy_slack.external_ids import user_external_id
from colloquy_slack.logs import describe
from colloquy_slack.runtime import Runtime
from colloquy_slack.slack_api import Refused, SlackError
from colloquy_slack.workspaces.channels import UNKNOWN, Audience, direct_audience
from colloquy_slack.workspaces.workspace import Workspace

log = structlog.get_logger()

_MESSAGE_MAX_WAIT = 5.0
"""Seconds that a message waits for who is in its channel when Slack is busy."""

_LOOK_INTERVAL = 3_600.0
"""Seconds after which it is looked who is in a private channel though nothing told of a change."""

_POLL_INTERVAL = 5.0
"""Seconds after which what another process took in is seen."""

_RETRY_DELAY = 30.0
"""Seconds before a channel is tried again that failed."""

_CHANNELS_AT_ONCE = 4
_CONVERSATIONS_AT_ONCE = 4
_INVITED_AT_ONCE = 1_000
"""The most that the server takes in one call."""

_LOOKED_UP = 30
"""People of a channel who are asked for at Slack, which allows 100 a minute, when they are new in a
conversation."""


async def of_request(runtime: Runtime, workspace: Workspace, request: Request) -> Audience:
    """Return who sees what is said where a request was made, which does not wait long for it."""
    now, channel_id = runtime.now(), request.channel_id
    if request.is_direct:
        return direct_audience(request.user_id)
    try:
        audience = await workspace.channels.audience(channel_id, now, _MESSAGE_MAX_WAIT)
    except SlackError as error:
        log.warning("channel not read", error=str(error))
        audience = UNKNOWN
    if audience.is_private:
        next_at = now + _LOOK_INTERVAL if audience.can_change else None
        await runtime.db.run(audiences.watch, workspace.team_id, channel_id, next_at)
    return audience


def visibility(audience: Audience) -> Conversation.Visibility.ValueType:
    """Return who is to see a conversation at the server."""
    if audience.is_private:
        return Conversation.VISIBILITY_PARTICIPANTS
    return Conversation.VISIBILITY_ACCOUNT


async def apply(
    workspace: Workspace, conversation: Conversation, audience: Audience, now: float
) -> None:
    """Have the server show a conversation to those who see it in Slack, and to nobody else who
    takes part in it or made it. `now` is in seconds since 1970. Raises ColloquyError."""
    client, team_id = workspace.colloquy, workspace.team_id
    if conversation.visibility != visibility(audience):
        await client.update_conversation(conversation.id, visibility=visibility(audience))
    if audience.members is None:
        return
    members = {user_external_id(team_id, member): member for member in audience.members}
    there = {user.id: user.external_id for user in conversation.participants}
    missing = sorted(members.keys() - set(there.values()))
    if conversation.HasField("creator"):
        there.setdefault(conversation.creator.id, conversation.creator.external_id)
    # The account's default user, who has no name, is the bot.
    others = [user_id for user_id, name in there.items() if name and name not in members]
    # While it is the same, it need not be asked again.
    names_apart = frozenset(missing), frozenset(others)
    if workspace.names_apart.get(conversation.id) == names_apart:
        return
    emails = await _emails(workspace, [members[name] for name in missing[:_LOOKED_UP]], now)
    invited = [User(external_id=name, email=emails.get(members[name], "")) for name in missing]
    added = await _invite(workspace, conversation, invited) - there.keys()
    # Members whom the server knows from elsewhere, by their e-mail addresses, have other names
    # there. Those who were not added now were there already: they are among the others.
    renamed = len(missing) - len(added)
    if len(others) == renamed:
        if renamed:
            workspace.note_names_apart(conversation.id, names_apart)
        return
    for user_id in others:
        await client.remove_participant(conversation.id, user_id)
    if renamed:
        await _invite(workspace, conversation, invited)


async def _emails(workspace: Workspace, user_ids: Sequence[str], now: float) -> dict[str, str]:
    """Return the e-mail addresses of people: whoever is known from elsewhere is invited as that
    person, and not added as somebody else of whom nothing is known but an id."""
    profiles = await asyncio.gather(*(workspace.profile(one, now) for one in user_ids))
    return {one: profile.email for one, profile in zip(user_ids, profiles, strict=True)}


async def _invite(
    workspace: Workspace, conversation: Conversation, users: Sequence[User]
) -> set[str]:
    """Invite people; returns the ids of all who are in the conversation then."""
    there: set[str] = set()
    for start in range(0, len(users), _INVITED_AT_ONCE):
        batch = users[start : start + _INVITED_AT_ONCE]
        changed = await workspace.colloquy.add_participants(conversation.id, batch)
        there.update(user.id for user in changed.participants)
    return there


class AudienceKeeper:
    """Follows the channels of a workspace: who comes and goes, and whether they are private."""

    def __init__(self, runtime: Runtime, workspace: Workspace) -> None:
        self._runtime, self._workspace = runtime, workspace
        self._slots = asyncio.Semaphore(_CONVERSATIONS_AT_ONCE)
        # By channel: not before this time, on the clock that never goes back.
        self._failed: dict[str, float] = {}

    async def run(self) -> None:
        """Work until cancelled."""
        wake = self._workspace.audience_wake
        while True:
            wake.clear()
            try:
                while await self._look_at_due():
                    pass
            except SQLAlchemyError as error:
                log.warning("channels not read", error=describe(error))
            await self._runtime.wait(wake, _POLL_INTERVAL)

    async def _look_at_due(self) -> bool:
        """Look at some channels; returns whether there may be more."""
        team_id, clock = self._workspace.team_id, self._runtime.clock
        due = await self._runtime.db.run(
            audiences.due, team_id, self._runtime.now(), _CHANNELS_AT_ONCE + len(self._failed)
        )
        ready = [one for one in due if self._failed.get(one.channel_id, 0.0) <= clock()]
        chosen = ready[:_CHANNELS_AT_ONCE]
        await asyncio.gather(*(self._look_at(one) for one in chosen))
        return bool(chosen)

    async def _look_at(self, channel: WatchedChannel) -> None:
        try:
            await self._update(channel)
        except (ColloquyError, SlackError) as error:
            log.warning("audience not updated", error=describe(error))
            self._failed[channel.channel_id] = self._runtime.clock() + _RETRY_DELAY
        else:
            self._failed.pop(channel.channel_id, None)

    async def _update(self, channel: WatchedChannel) -> None:
        db, workspace = self._runtime.db, self._workspace
        workspace.channels.forget(channel.channel_id)
        try:
            audience = await workspace.channels.audience(
                channel.channel_id, self._runtime.now(), _RETRY_DELAY
            )
        except Refused:
            # The bot was put out of it, or it is gone: nothing more is said there that it hears.
            await db.run(audiences.settle, channel, None)
            return
        if audience.is_private or channel.is_private:
            ids = await db.run(audiences.conversations_of, workspace.team_id, channel.channel_id)
            await asyncio.gather(*(self._apply(one, audience) for one in ids))
        if not audience.is_private:
            await db.run(audiences.forget, channel)
            return
        is_watched = audience.can_change or audience.members is None
        next_at = self._runtime.now() + _LOOK_INTERVAL if is_watched else None
        await db.run(audiences.settle, channel, next_at)

    async def _apply(self, conversation_id: str, audience: Audience) -> None:
        async with self._slots:
            try:
                found = await self._workspace.colloquy.get_conversation(conversation_id)
                now = self._runtime.now()
                await apply(self._workspace, found.conversation, audience, now)
            except NotFound:  # it was deleted
                pass

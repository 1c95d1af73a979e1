"""Ids by which the server knows Slack's things: the same on every delivery and restart."""

from __future__ import annotations

from dataclasses import dataclass

from colloquy.api.resources_pb2 import User


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message is answered: in a thread, or in the channel itself (`thread_ts` empty)."""

    team_id: str
    channel_id: str
    thread_ts: str = ""


def thread_external_id(place: Place) -> str:
    """Return the external_id of a thread's conversation."""
    return f"slack:{place.team_id}:{place.channel_id}:{place.thread_ts}"


def channel_external_id(team_id: str, channel_id: str, chapter: int) -> str:
    """Return the external_id of a whole channel's conversation; `/colloquy new` opens a chapter."""
    return f"slack:{team_id}:{channel_id}:channel:{chapter}"


def place_of(external_id: str) -> Place | None:
    """Return where a conversation is, None when it is not one of Slack's."""
    parts = external_id.split(":")
    if len(parts) == 4 and parts[0] == "slack":
        return Place(parts[1], parts[2], parts[3])
    if len(parts) == 5 and parts[0] == "slack" and parts[3] == "channel":
        return Place(parts[1], parts[2])
    return None


def request_id(team_id: str, channel_id: str, ts: str) -> str:
    """Return the request_id of what is asked for at `ts`."""
    return f"{team_id}:{channel_id}:{ts}"


def account_external_id(team_id: str) -> str:
    """Return the external_id of a workspace's account."""
    return f"slack:{team_id}"


def user_external_id(team_id: str, user_id: str) -> str:
    """Return the external_id of a Slack user."""
    return f"slack:{team_id}:{user_id}"


def author(team_id: str, user_id: str, display_name: str, avatar_url: str, email: str) -> User:
    """Return a Slack user as an author; the server takes 255 characters of a name, and 2,048 of
    where a picture is."""
    return User(
        external_id=user_external_id(team_id, user_id),
        display_name=display_name[:255],
        avatar_url=avatar_url if len(avatar_url) <= 2_048 else "",
        email=email,
    )

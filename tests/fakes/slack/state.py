"""What the double's Slack knows: workspaces with their people, channels, messages and files."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

Json = dict[str, Any]
StreamState = Literal["in_progress", "completed", "expired", "stopped_by_user"]

_COLOURS = ("e8912d", "2bac76", "3aa3e3", "9b59b6", "cb4b16", "4cc1bc", "d9534f", "5b7083")


class Ids:
    """Ids that look like Slack's and say in which order they were made."""

    def __init__(self) -> None:
        self._counters: dict[str, Iterator[int]] = {}

    def next(self, prefix: str) -> str:
        counter = self._counters.setdefault(prefix, itertools.count(1))
        return f"{prefix}0DBL{next(counter):06d}"


@dataclass
class User:
    id: str
    team_id: str
    name: str
    real_name: str
    is_bot: bool = False
    display_name: str = ""
    email: str = ""
    is_confirmed: bool = True
    """Whether they showed Slack that the address is theirs."""
    deleted: bool = False
    app_id: str = ""
    guest: bool = False
    stranger: bool = False
    """From another company, in a channel that is shared with it."""

    @property
    def shown_name(self) -> str:
        return self.display_name or self.real_name

    @property
    def colour(self) -> str:
        return _COLOURS[sum(self.id.encode()) % len(_COLOURS)]

    def to_json(self) -> Json:
        """As users.info answers it."""
        image = f"https://avatars.slack-edge.com/{self.id}"
        profile = {
            "real_name": self.real_name,
            "real_name_normalized": self.real_name,
            "display_name": self.display_name,
            "display_name_normalized": self.display_name,
            "email": self.email,
            "team": self.team_id,
            **{f"image_{size}": f"{image}_{size}.png" for size in (24, 32, 48, 72, 192, 512)},
        }
        return {
            "id": self.id,
            "team_id": self.team_id,
            "name": self.name,
            "real_name": self.real_name,
            "deleted": self.deleted,
            "color": self.colour,
            "tz": "Europe/Berlin",
            "tz_offset": 3600,
            "is_bot": self.is_bot,
            "is_app_user": False,
            "is_restricted": self.guest,
            "is_ultra_restricted": False,
            "is_stranger": self.stranger,
            "is_email_confirmed": self.is_confirmed,
            "updated": 1700000000,
            "profile": profile,
        }


@dataclass
class File:
    id: str
    team_id: str
    user: str
    name: str
    mimetype: str
    content: bytes
    created: int
    url: str
    """Where it is downloaded from, with the bot's token."""
    title: str = ""
    connect: bool = False
    """From another company's workspace: events carry only `file_access: check_file_info`."""
    extra: Json = field(default_factory=dict)
    """What else Slack says of it: of a canvas, a clip."""
    channels: list[str] = field(default_factory=list)

    def to_json(self) -> Json:
        """As files.info answers it."""
        filetype = self.name.rpartition(".")[2].lower() if "." in self.name else "text"
        return {
            "id": self.id,
            "created": self.created,
            "timestamp": self.created,
            "name": self.name,
            "title": self.title or self.name,
            "mimetype": self.mimetype,
            "filetype": filetype,
            "pretty_type": filetype.upper(),
            "user": self.user,
            "user_team": self.team_id,
            "editable": False,
            "size": len(self.content),
            "mode": "hosted",
            "is_external": False,
            "external_type": "",
            "is_public": True,
            "public_url_shared": False,
            "display_as_bot": False,
            "username": "",
            "url_private": self.url,
            "url_private_download": f"{self.url}?download",
            "permalink": self.url.replace("/files-pri/", "/files/"),
            "channels": list(self.channels),
            "has_rich_preview": False,
            "file_access": "visible",
            **self.extra,
        }

    def in_event(self) -> Json:
        """As events carry it."""
        if not self.connect:
            return self.to_json()
        return {
            "id": self.id,
            "created": 0,
            "timestamp": 0,
            "mode": "file_access",
            "file_access": "check_file_info",
            "user": self.user,
            "user_team": self.team_id,
        }


@dataclass
class Version:
    """What a message was from a time on."""

    at: float
    text: str
    blocks: list[Json]
    shown: str
    """What a reader sees as the message's words, Markdown as it was sent."""


@dataclass
class Stream:
    """A message that is being written with chat.startStream."""

    started_at: float
    mode: Literal["markdown_text", "chunks"] | None = None
    state: StreamState = "in_progress"
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass
class Message:
    channel: str
    ts: str
    user: str
    at: float
    """The double's time when it was posted."""
    text: str = ""
    blocks: list[Json] = field(default_factory=list)
    markdown_text: str | None = None
    attachments: list[Json] = field(default_factory=list)
    thread_ts: str | None = None
    broadcast: bool = False
    metadata: Json | None = None
    files: list[File] = field(default_factory=list)
    bot_id: str | None = None
    username: str | None = None
    """The name that an app's message shows."""
    subtype: str | None = None
    edited: Json | None = None
    client_msg_id: str | None = None
    reactions: dict[str, list[str]] = field(default_factory=dict)
    deleted: bool = False
    ephemeral_to: str | None = None
    stream: Stream | None = None
    versions: list[Version] = field(default_factory=list)

    @property
    def thread(self) -> str:
        """The root of the thread that it is in or would be the root of."""
        return self.thread_ts or self.ts

    @property
    def is_reply(self) -> bool:
        return self.thread_ts is not None and self.thread_ts != self.ts


@dataclass
class Channel:
    id: str
    team_id: str
    name: str
    kind: Literal["channel", "group", "im", "mpim"] = "channel"
    members: set[str] = field(default_factory=set)
    messages: dict[str, Message] = field(default_factory=dict)
    """By ts, in order, deleted ones too."""
    connect: bool = False
    archived: bool = False
    restricted: str = ""
    """The error with which Slack refuses what the bot posts to everybody, as for channels where
    only some may post; empty: it does not."""

    def to_json(self) -> Json:
        """As conversations.info answers it."""
        common: Json = {"id": self.id, "created": 1700000000, "is_archived": self.archived}
        if self.kind == "im":
            return {**common, "is_im": True, "is_org_shared": False, "user": min(self.members)}
        return {
            **common,
            "name": self.name,
            "name_normalized": self.name,
            "is_channel": self.kind == "channel",
            "is_group": self.kind == "group",
            "is_im": False,
            "is_mpim": self.kind == "mpim",
            "is_private": self.kind != "channel",
            "is_general": self.name == "general",
            "is_shared": self.connect,
            "is_ext_shared": self.connect,
            "context_team_id": self.team_id,
            "num_members": len(self.members),
            "topic": {"value": "", "creator": "", "last_set": 0},
            "purpose": {"value": "", "creator": "", "last_set": 0},
        }

    def in_thread(self, thread_ts: str) -> list[Message]:
        """The messages of a thread, its root first."""
        return [message for message in self.messages.values() if message.thread == thread_ts]


@dataclass
class Workspace:
    id: str
    name: str
    domain: str
    bot: User
    bot_id: str
    scopes: set[str]
    bot_token: str | None
    """None: the app is not installed."""
    token_expires_at: float | None = None
    refresh_token: str = ""
    old_tokens: dict[str, float] = field(default_factory=dict)
    """Tokens that others took the place of, until when they hold."""
    groups: dict[str, str] = field(default_factory=dict)
    """Handles of user groups, by their ids."""
    users: dict[str, User] = field(default_factory=dict)
    channels: dict[str, Channel] = field(default_factory=dict)
    files: dict[str, File] = field(default_factory=dict)
    home_views: dict[str, Json] = field(default_factory=dict)
    """What App Home shows, by user."""
    modals: list[Json] = field(default_factory=list)
    statuses: dict[tuple[str, str], tuple[float, Json]] = field(default_factory=dict)
    """assistant.threads.setStatus by channel and thread: when, and what."""
    titles: dict[tuple[str, str], str] = field(default_factory=dict)
    prompts: dict[tuple[str, str | None], Json] = field(default_factory=dict)
    sessions: dict[tuple[str, str], Json] = field(default_factory=dict)
    edit_window: float | None = None
    """Seconds in which messages can be edited; None: always."""

    def direct_channel(self, user: str) -> Channel | None:
        """The channel of the bot and one person."""
        for channel in self.channels.values():
            if channel.kind == "im" and user in channel.members:
                return channel
        return None

"""The Slack app under test, as its settings page at Slack knows it: secrets, scopes, events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SCOPES = frozenset(
    [
        "app_mentions:read",
        "assistant:write",
        "channels:history",
        "channels:read",
        "chat:write",
        "commands",
        "files:read",
        "files:write",
        "groups:history",
        "groups:read",
        "im:history",
        "im:read",
        "im:write",
        "mpim:history",
        "mpim:read",
        "reactions:read",
        "reactions:write",
        "team:read",
        "usergroups:read",
        "users:read",
        "users:read.email",
    ]
)
EVENTS = frozenset(
    [
        "agent_session_stopped",
        "app_context_changed",
        "app_home_opened",
        "app_mention",
        "app_uninstalled",
        "member_joined_channel",
        "member_left_channel",
        "message.channels",
        "message.groups",
        "message.im",
        "message.mpim",
        "reaction_added",
        "tokens_revoked",
    ]
)
# The scope that an event needs, from its reference page; the others need none. People who come
# and go need channels:read where the channel is public.
EVENT_SCOPES = {
    "member_joined_channel": "groups:read",
    "member_left_channel": "groups:read",
    "app_mention": "app_mentions:read",
    "message.channels": "channels:history",
    "message.groups": "groups:history",
    "message.im": "im:history",
    "message.mpim": "mpim:history",
    "reaction_added": "reactions:read",
    "reaction_removed": "reactions:read",
}


@dataclass
class SlackApp:
    """The defaults are what a good bot asks for; `use_manifest` takes what this one asks for."""

    id: str = "A0DBL000001"
    name: str = "Colloquy"
    client_id: str = "1234567890.1234567890"
    client_secret: str = "the-client-secret-of-the-double"
    signing_secret: str = "the-signing-secret-of-the-double"
    verification_token: str = "the-old-verification-token"
    app_token: str = "xapp-1-A0DBL000001-1-socket"
    scopes: set[str] = field(default_factory=lambda: set(SCOPES))
    """What an installation is granted."""
    rotates_tokens: bool = False
    """Whether tokens expire and have to be refreshed."""
    events: set[str] = field(default_factory=lambda: set(EVENTS))
    """The bot events that it is subscribed to."""

    def use_manifest(self, manifest: dict[str, Any]) -> None:
        """Take scopes and events from an app manifest, as pasting it at Slack does."""
        self.name = manifest["display_information"]["name"]
        self.scopes = set(manifest["oauth_config"]["scopes"]["bot"])
        self.events = set(manifest["settings"]["event_subscriptions"]["bot_events"])

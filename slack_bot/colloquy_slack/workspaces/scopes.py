"""What an installation asks for, and what of it a token does not have."""

from __future__ import annotations

SCOPES = (
    *("app_mentions:read", "assistant:write", "channels:history", "channels:read", "chat:write"),
    *("commands", "files:read", "files:write", "groups:history", "groups:read", "im:history"),
    *("im:read", "im:write", "mpim:history", "mpim:read", "reactions:read", "usergroups:read"),
    *("users:read", "users:read.email"),
)
"""The same as in the manifest."""


def missing_scopes(granted: frozenset[str]) -> list[str]:
    """Return those of SCOPES that a token does not have; none while it is not known what it has."""
    return sorted(set(SCOPES) - granted) if granted else []

"""Slack's rate limits: how many calls of a method a workspace takes, and what was refused.

Slack publishes tiers ("50+ per minute", per method, workspace and app) and not its algorithm. The
double takes the published number as a hard bound over every 60 seconds, without bursts above it:
whoever stays inside this stays inside the real one.
https://docs.slack.dev/apis/web-api/rate-limits
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

MINUTE = 60.0
TIER_1, TIER_2, TIER_3, TIER_4 = 1, 20, 50, 100

# Calls a minute, from each method's reference page. Methods with special tiers that have no
# published number (auth.test: "hundreds", assistant.threads.setStatus) get a generous one.
PER_MINUTE = {
    "agents.sessions.setStatus": TIER_3,
    "agents.sessions.rename": TIER_3,
    "apps.connections.open": TIER_3,
    "assistant.threads.setStatus": 600,
    "assistant.threads.setSuggestedPrompts": TIER_4,
    "assistant.threads.setTitle": TIER_4,
    "auth.revoke": TIER_3,
    "auth.test": 600,
    "bots.info": TIER_3,
    "chat.appendStream": TIER_4,
    "chat.delete": TIER_3,
    "chat.getPermalink": 600,
    "chat.postEphemeral": TIER_4,
    "chat.startStream": TIER_2,
    "chat.stopStream": TIER_2,
    "chat.update": TIER_3,
    "conversations.history": TIER_3,
    "conversations.info": TIER_3,
    "conversations.list": TIER_2,
    "conversations.members": TIER_4,
    "conversations.open": TIER_3,
    "conversations.replies": TIER_3,
    "files.completeUploadExternal": TIER_4,
    "files.delete": TIER_3,
    "files.getUploadURLExternal": TIER_4,
    "files.info": TIER_4,
    "oauth.v2.access": 600,
    "reactions.add": TIER_3,
    "reactions.get": TIER_3,
    "reactions.remove": TIER_2,
    "team.info": TIER_3,
    "usergroups.list": TIER_2,
    "users.info": TIER_4,
    "users.list": TIER_2,
    "views.open": TIER_4,
    "views.publish": TIER_4,
    "views.update": TIER_4,
}


@dataclass
class Window:
    """At most `size` calls in every `seconds`."""

    size: int
    seconds: float = MINUTE
    accepted: deque[float] = field(default_factory=deque)
    busiest: int = 0
    """The most calls that any window took."""

    def wait(self, now: float) -> float:
        """Seconds until a call is taken; 0: now."""
        while self.accepted and self.accepted[0] <= now - self.seconds:
            self.accepted.popleft()
        if len(self.accepted) < self.size:
            return 0.0
        return self.accepted[len(self.accepted) - self.size] + self.seconds - now

    def take(self, now: float) -> None:
        self.accepted.append(now)
        self.busiest = max(self.busiest, len(self.accepted))


@dataclass
class Bucket:
    """One call a `1 / rate` seconds, and `burst` at once after a silence."""

    rate: float
    burst: int
    tokens: float = 0.0
    at: float | None = None

    def wait(self, now: float) -> float:
        self._fill(now)
        return 0.0 if self.tokens >= 1 else (1 - self.tokens) / self.rate

    def take(self, now: float) -> None:
        self._fill(now)
        self.tokens -= 1

    def _fill(self, now: float) -> None:
        if self.at is None:
            self.tokens = float(self.burst)
        else:
            self.tokens = min(float(self.burst), self.tokens + (now - self.at) * self.rate)
        self.at = now


@dataclass
class Limits:
    """The limits of all workspaces; change a field to try others."""

    enabled: bool = True
    per_minute: dict[str, int] = field(default_factory=lambda: dict(PER_MINUTE))
    post_rate: float = 1.0
    """chat.postMessage a second and channel ("generally one per second per channel")."""
    post_burst: int = 3
    """Short bursts >1 are allowed: how many is not published."""
    posts_per_minute: int = 300
    """chat.postMessage in a whole workspace ("several hundred messages per minute")."""
    members_at_once: int = 1_000
    """Members that conversations.members gives in one answer, whatever it is asked for."""
    restricted_history: bool = False
    """conversations.history and .replies as new apps that are sold outside the Marketplace have
    them: once a minute, 15 items. https://docs.slack.dev/changelog/2025/05/29/"""
    _windows: dict[tuple[str, str], Window] = field(default_factory=dict)
    _buckets: dict[tuple[str, str], Bucket] = field(default_factory=dict)

    def check(self, team: str, method: str, channel: str | None, now: float) -> int | None:
        """Take a call, or return what Retry-After says: whole seconds, at least 1."""
        if not self.enabled:
            return None
        gates = self._gates(team, method, channel)
        wait = max((gate.wait(now) for gate in gates), default=0.0)
        if wait > 0:
            return max(1, math.ceil(wait))
        for gate in gates:
            gate.take(now)
        return None

    def busiest_minute(self, method: str, team: str) -> int:
        """The most calls of a method that a workspace took within 60 seconds."""
        window = self._windows.get((team, method))
        return window.busiest if window else 0

    def _gates(self, team: str, method: str, channel: str | None) -> list[Window | Bucket]:
        gates: list[Window | Bucket] = []
        size = self.per_minute.get(method)
        if method == "chat.postMessage":
            size = self.posts_per_minute
            key = (team, channel or "")
            bucket = Bucket(self.post_rate, self.post_burst)
            gates.append(self._buckets.setdefault(key, bucket))
        if self.restricted_history and method in {
            "conversations.history",
            "conversations.replies",
        }:
            size = 1
        if size is not None:
            gates.append(self._windows.setdefault((team, method), Window(size)))
        return gates

"""Since when Slack's events are taken in without a gap. Functions of a Session.

Slack delivers again for some minutes what nobody acknowledged: a restart is no gap.
"""

from __future__ import annotations

from sqlalchemy.orm import Session

from colloquy_slack.database.models import Listening

MAX_PAUSE = 300.0
"""Seconds without any process after which events may be lost: Slack's last retry comes then."""

_ROW = 1


def begin(s: Session, now: float) -> None:
    """Note that a process begins to take events in."""
    row = s.get(Listening, _ROW)
    if row is None:
        s.add(Listening(id=_ROW, since=now, seen_at=now))
    elif now - row.seen_at > MAX_PAUSE:
        row.since = row.seen_at = now


def go_on(s: Session, now: float) -> None:
    """Note that a process still takes events in."""
    row = s.get(Listening, _ROW)
    if row is not None:
        row.seen_at = max(row.seen_at, now)


def since(s: Session) -> float:
    """Return when it began, in seconds since 1970; 0 when nothing is noted."""
    row = s.get(Listening, _ROW)
    return row.since if row is not None else 0.0

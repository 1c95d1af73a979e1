"""Since when Slack's events are taken in without a gap. Functions of a Session.

Slack delivers again for some minutes what nobody acknowledged: a restart is no gap.
"""

from __future__ import annotations

from sqlalchemy.orm import Session

from colloquy_slack.database.models import Listening

MAX_PAUSE = 300.0
"""Seconds without any process after which events may be lost: Slack's last retry comes then."""

NOTE_INTERVAL = 30.0
"""Seconds between two notes that a process takes events in."""

_MAX_RESTART = 3 * NOTE_INTERVAL
"""Seconds without such a note after which this may be a database of some time ago."""

_ROW = 1


def begin(s: Session, now: float) -> bool:
    """Note that a process begins to take events in.

    Returns whether the database may be a copy of some time ago that was put back: the bot may have
    done more than it knows.
    """
    row = s.get(Listening, _ROW)
    if row is None:
        s.add(Listening(id=_ROW, since=now, seen_at=now))
        return False
    pause = now - row.seen_at
    if pause > MAX_PAUSE:
        row.since = row.seen_at = now
    return pause > _MAX_RESTART


def go_on(s: Session, now: float) -> None:
    """Note that a process still takes events in."""
    row = s.get(Listening, _ROW)
    if row is not None:
        row.seen_at = max(row.seen_at, now)


def since(s: Session) -> float:
    """Return when it began, in seconds since 1970; 0 when nothing is noted."""
    row = s.get(Listening, _ROW)
    return row.since if row is not None else 0.0

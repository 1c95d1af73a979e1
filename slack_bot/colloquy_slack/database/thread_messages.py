"""What is said in threads and was not for the bot. Functions of a Session.

It is kept for two reasons. Slack delivers in no order: what somebody answers in a thread may come
before the mention that called the bot into it. And in a thread that the bot is in, the next request
brings along what was said since the last one. `said` is a message_events.UserMessage as a dict.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from colloquy_slack.database.models import ThreadMessage, ThreadRead

CALL_TTL = 600.0
"""Seconds that one is kept where the bot is not: Slack's last retry comes after five minutes."""

THREAD_TTL = 7 * 86_400.0
"""Seconds that one is kept where the bot is, as long as a message that was not answered."""


def lock_thread(s: Session, team_id: str, thread_ts: str) -> None:
    """Have nobody else take in a message of this thread until the transaction ends."""
    if s.get_bind().dialect.name == "postgresql":
        s.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"{team_id}:{thread_ts}"))))


def store(s: Session, team_id: str, said: dict[str, Any], now: float, *, is_engaged: bool) -> None:
    """Keep a message, unless the server was given it already. `is_engaged`: the bot is in the
    thread."""
    delete_expired(s, now)
    channel_id, ts, thread_ts = said["channel_id"], said["ts"], said["thread_ts"]
    read = s.get(ThreadRead, (team_id, channel_id, thread_ts))
    kept = s.get(ThreadMessage, (team_id, channel_id, ts))
    if kept is not None or (read is not None and ts <= read.read_until):
        return
    ttl = THREAD_TTL if is_engaged or read is not None else CALL_TTL
    s.add(
        ThreadMessage(
            team_id=team_id,
            channel_id=channel_id,
            ts=ts,
            thread_ts=thread_ts,
            said=said,
            received_at=now,
            expires_at=now + ttl,
            is_given=False,
        )
    )


def replace(s: Session, team_id: str, said: dict[str, Any]) -> None:
    """Keep what a message was edited to, if it is kept and was not given."""
    row = s.get(ThreadMessage, (team_id, said["channel_id"], said["ts"]))
    if row is not None and not row.is_given:
        row.said = said


def withhold(s: Session, team_id: str, said: dict[str, Any], now: float) -> None:
    """Note of a message that it is never to be given."""
    row = s.get(ThreadMessage, (team_id, said["channel_id"], said["ts"]))
    if row is None:
        row = ThreadMessage(
            team_id=team_id,
            channel_id=said["channel_id"],
            ts=said["ts"],
            thread_ts=said["thread_ts"],
            received_at=now,
        )
        s.add(row)
    row.is_given, row.said, row.expires_at = True, {}, now + THREAD_TTL


def delete_one(s: Session, team_id: str, channel_id: str, ts: str) -> None:
    """Delete one that was deleted in Slack."""
    row = s.get(ThreadMessage, (team_id, channel_id, ts))
    if row is not None and not row.is_given:
        s.delete(row)


def delete_expired(s: Session, now: float) -> None:
    """Delete what was kept long enough."""
    s.execute(delete(ThreadMessage).where(ThreadMessage.expires_at < now))


def pop_after(
    s: Session, team_id: str, channel_id: str, thread_ts: str, ts: str, now: float
) -> list[dict[str, Any]]:
    """Return what came lately, was said in a thread after `ts` and not given; keep it no longer."""
    found = _waiting(team_id, channel_id, thread_ts).where(
        ThreadMessage.ts > ts, ThreadMessage.received_at >= now - CALL_TTL
    )
    rows = list(s.scalars(found.order_by(ThreadMessage.ts)))
    for row in rows:
        s.delete(row)
    s.flush()
    return [row.said for row in rows]


def before(
    s: Session, team_id: str, channel_id: str, thread_ts: str, ts: str
) -> list[dict[str, Any]]:
    """Return what was said in a thread before `ts` and not given, in the order it was said."""
    found = _waiting(team_id, channel_id, thread_ts).where(ThreadMessage.ts < ts)
    return [row.said for row in s.scalars(found.order_by(ThreadMessage.ts))]


def given_among(s: Session, team_id: str, channel_id: str, ts: list[str]) -> set[str]:
    """Return which of these messages were given."""
    found = select(ThreadMessage.ts).where(
        ThreadMessage.team_id == team_id,
        ThreadMessage.channel_id == channel_id,
        ThreadMessage.ts.in_(ts),
        ThreadMessage.is_given,
    )
    return set(s.scalars(found))


def mark_given(s: Session, team_id: str, channel_id: str, ts: list[str]) -> None:
    """Note that messages were given: of those that are kept, only that stays."""
    found = select(ThreadMessage).where(
        ThreadMessage.team_id == team_id,
        ThreadMessage.channel_id == channel_id,
        ThreadMessage.ts.in_(ts),
    )
    for row in s.scalars(found):
        row.is_given, row.said = True, {}
        row.expires_at = max(row.expires_at, row.received_at + THREAD_TTL)


def _waiting(team_id: str, channel_id: str, thread_ts: str) -> Any:
    return select(ThreadMessage).where(
        ThreadMessage.team_id == team_id,
        ThreadMessage.channel_id == channel_id,
        ThreadMessage.thread_ts == thread_ts,
        ThreadMessage.is_given.is_(False),
    )

"""Replies in threads that the bot is not in yet. Functions of a Session.

Slack delivers in no order: what somebody answers in a thread may come before the mention that
called the bot into it.
"""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from colloquy_slack.database.models import UnaddressedReply
from colloquy_slack.incoming.message_events import UserMessage

_TTL = 600.0
"""Seconds that one is kept: Slack's last retry comes after five minutes."""


def lock_thread(s: Session, team_id: str, thread_ts: str) -> None:
    """Have nobody else take in a message of this thread until the transaction ends."""
    if s.get_bind().dialect.name == "postgresql":
        s.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"{team_id}:{thread_ts}"))))


def store(s: Session, team_id: str, message: UserMessage, now: float) -> None:
    """Keep a reply for a while."""
    s.execute(delete(UnaddressedReply).where(UnaddressedReply.received_at < now - _TTL))
    s.merge(
        UnaddressedReply(
            team_id=team_id,
            channel_id=message.channel_id,
            ts=message.ts,
            thread_ts=message.thread_ts,
            said=asdict(message),
            received_at=now,
        )
    )


def delete_one(s: Session, team_id: str, channel_id: str, ts: str) -> None:
    """Delete one that was deleted in Slack."""
    row = s.get(UnaddressedReply, (team_id, channel_id, ts))
    if row is not None:
        s.delete(row)


def pop_after(s: Session, team_id: str, mention: UserMessage, now: float) -> list[UserMessage]:
    """Return the replies to a thread that came after a mention in it, and keep them no longer."""
    found = select(UnaddressedReply).where(
        UnaddressedReply.team_id == team_id,
        UnaddressedReply.channel_id == mention.channel_id,
        UnaddressedReply.thread_ts == (mention.thread_ts or mention.ts),
        UnaddressedReply.ts > mention.ts,
        UnaddressedReply.received_at >= now - _TTL,
    )
    rows = list(s.scalars(found.order_by(UnaddressedReply.ts)))
    for row in rows:
        s.delete(row)
    return [UserMessage(**row.said) for row in rows]

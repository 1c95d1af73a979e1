"""Replies in threads that the bot is not in yet. Functions of a Session.

Slack delivers in no order: what somebody answers in a thread may come before the mention that
called the bot into it.
"""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from colloquy_slack.database.models import UnaddressedReply
from colloquy_slack.incoming.message_events import Said

_KEPT = 600.0
"""Seconds that one is kept: Slack's last retry comes after five minutes."""


def one_at_a_time(s: Session, team_id: str, thread_ts: str) -> None:
    """Have nobody else take in a message of this thread until the transaction ends."""
    if s.get_bind().dialect.name == "postgresql":
        s.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"{team_id}:{thread_ts}"))))


def keep(s: Session, team_id: str, said: Said, now: float) -> None:
    """Keep a reply for a while."""
    s.execute(delete(UnaddressedReply).where(UnaddressedReply.received_at < now - _KEPT))
    s.merge(
        UnaddressedReply(
            team_id=team_id,
            channel_id=said.channel_id,
            ts=said.ts,
            thread_ts=said.thread_ts,
            said=asdict(said),
            received_at=now,
        )
    )


def forget(s: Session, team_id: str, channel_id: str, ts: str) -> None:
    """Delete one that was deleted in Slack."""
    row = s.get(UnaddressedReply, (team_id, channel_id, ts))
    if row is not None:
        s.delete(row)


def take(s: Session, team_id: str, said: Said, now: float) -> list[Said]:
    """Return the replies to a thread that were said after a mention in it, and keep them no
    longer."""
    found = select(UnaddressedReply).where(
        UnaddressedReply.team_id == team_id,
        UnaddressedReply.channel_id == said.channel_id,
        UnaddressedReply.thread_ts == (said.thread_ts or said.ts),
        UnaddressedReply.ts > said.ts,
        UnaddressedReply.received_at >= now - _KEPT,
    )
    rows = list(s.scalars(found.order_by(UnaddressedReply.ts)))
    for row in rows:
        s.delete(row)
    return [Said(**row.said) for row in rows]

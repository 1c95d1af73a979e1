"""Private channels, and when to look who is in them. Functions of a Session."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from colloquy_slack.database.models import Request, WatchedChannel


def watch(s: Session, team_id: str, channel_id: str, due_at: float | None) -> None:
    """Remember a channel, to look at it at `due_at` (seconds since 1970; None: when it is told of).
    One that is known stays as it is."""
    dialect = postgresql if s.get_bind().dialect.name == "postgresql" else sqlite
    values = {"team_id": team_id, "channel_id": channel_id, "due_at": due_at, "is_private": True}
    s.execute(dialect.insert(WatchedChannel).values(values).on_conflict_do_nothing())


def mark_due(s: Session, team_id: str, channel_id: str, now: float, *, is_new: bool) -> None:
    """Have a channel looked at that is known, or with `is_new` any."""
    if is_new:
        watch(s, team_id, channel_id, now)
    s.execute(
        update(WatchedChannel)
        .where(WatchedChannel.team_id == team_id, WatchedChannel.channel_id == channel_id)
        .values(due_at=now)
    )


def due(s: Session, team_id: str, now: float, limit: int) -> list[WatchedChannel]:
    """Return a workspace's channels that are to be looked at, the longest waiting first."""
    return list(
        s.scalars(
            select(WatchedChannel)
            .where(WatchedChannel.team_id == team_id, WatchedChannel.due_at <= now)
            .order_by(WatchedChannel.due_at)
            .limit(limit)
        )
    )


def settle(s: Session, looked_at: WatchedChannel, next_at: float | None) -> None:
    """Note that a private channel was looked at, unless something happened there meanwhile."""
    s.execute(
        update(WatchedChannel).where(_unchanged(looked_at)).values(due_at=next_at, is_private=True)
    )


def forget(s: Session, looked_at: WatchedChannel) -> None:
    """Forget a channel that is not private, unless something happened there meanwhile."""
    s.execute(delete(WatchedChannel).where(_unchanged(looked_at)))


def _unchanged(channel: WatchedChannel) -> ColumnElement[bool]:
    return and_(
        WatchedChannel.team_id == channel.team_id,
        WatchedChannel.channel_id == channel.channel_id,
        WatchedChannel.due_at == channel.due_at,
    )


def conversations_of(s: Session, team_id: str, channel_id: str) -> list[str]:
    """Return the ids of the conversations that were held in a channel, the latest first."""
    ids = s.scalars(
        select(Request.conversation_id)
        .where(
            Request.team_id == team_id,
            Request.channel_id == channel_id,
            Request.conversation_id != "",
        )
        .order_by(Request.id.desc())
    )
    return list(dict.fromkeys(ids))

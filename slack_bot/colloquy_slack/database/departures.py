"""Workspaces that took the app away, until their conversations are deleted. Functions of a
Session."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from colloquy_slack.database.models import Departure


def note(s: Session, team_id: str, account_id: str, left_at: float) -> None:
    """Note that a workspace left at a time (seconds since 1970), which may be noted already."""
    s.merge(Departure(team_id=team_id, account_id=account_id, left_at=left_at))


def before(s: Session, left_before: float) -> list[Departure]:
    """Return those that left before a time, the first one first."""
    found = select(Departure).where(Departure.left_at <= left_before).order_by(Departure.left_at)
    return list(s.scalars(found))


def is_noted(s: Session, team_id: str) -> bool:
    """Whether a workspace is away, and not erased yet."""
    return s.get(Departure, team_id) is not None


def forget(s: Session, team_id: str) -> None:
    """Forget that a workspace left: it is back, or nothing is left of it."""
    s.execute(delete(Departure).where(Departure.team_id == team_id))

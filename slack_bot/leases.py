"""One process at a time serves a workspace: who holds its lease. Functions of a Session.

Times are seconds since 1970, by the clocks of the processes: they have to agree within a fraction
of the lease's length.
"""

from __future__ import annotations

from sqlalchemy import delete, or_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from slack_bot.models import Lease


def take(s: Session, team_id: str, owner: str, now: float, ttl: float) -> bool:
    """Take or renew a lease for `ttl` seconds. Returns whether `owner` holds it."""
    dialect = postgresql if s.get_bind().dialect.name == "postgresql" else sqlite
    until = {"owner": owner, "expires_at": now + ttl}
    statement = (
        dialect.insert(Lease)
        .values(team_id=team_id, **until)
        .on_conflict_do_update(
            index_elements=[Lease.team_id],
            set_=until,
            where=or_(Lease.owner == owner, Lease.expires_at <= now),
        )
        .returning(Lease.owner)
    )
    return s.scalars(statement).first() == owner


def give_back(s: Session, team_id: str, owner: str) -> None:
    """End a lease, for the next process to take at once."""
    s.execute(delete(Lease).where(Lease.team_id == team_id, Lease.owner == owner))

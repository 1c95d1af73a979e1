"""One process at a time serves a workspace: who holds its lease. Functions of a Session.

Times are seconds since 1970, by the clocks of the processes: they have to agree within a fraction
of the lease's length.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import delete, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from colloquy_slack.database.models import Lease


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


def renew(s: Session, owner: str, now: float, ttl: float) -> set[str]:
    """Renew all leases that `owner` holds. Returns their workspaces."""
    renewed = update(Lease).where(Lease.owner == owner).values(expires_at=now + ttl)
    return set(s.scalars(renewed.returning(Lease.team_id)))


def take_free(
    s: Session, team_ids: Collection[str], owner: str, now: float, ttl: float
) -> set[str]:
    """Take those of the leases that nobody holds. Returns their workspaces."""
    held = set(s.scalars(select(Lease.team_id).where(Lease.expires_at > now)))
    # In order: two processes that take the same ones do not wait for each other.
    free = sorted(set(team_ids) - held)
    return {team_id for team_id in free if take(s, team_id, owner, now, ttl)}


def give_back(s: Session, team_ids: Iterable[str], owner: str) -> None:
    """End leases, for the next process to take at once."""
    for team_id in team_ids:
        s.execute(delete(Lease).where(Lease.team_id == team_id, Lease.owner == owner))


def give_back_all(s: Session, owner: str) -> None:
    """End all leases of a process, also those that it does not know of yet: it may have been
    stopped while it took them."""
    s.execute(delete(Lease).where(Lease.owner == owner))

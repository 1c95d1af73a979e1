"""Leases: which process serves a workspace, one at a time. Functions of a Session.

Times are seconds since 1970, by the clocks of the processes: they have to agree within a fraction
of the lease's length.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import delete, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from colloquy_slack.database.models import Lease


def claim(s: Session, team_id: str, owner: str, now: float, ttl: float) -> bool:
    """Claim or renew a lease for `ttl` seconds. Returns whether `owner` has it."""
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


def claim_free(
    s: Session, team_ids: Collection[str], owner: str, now: float, ttl: float
) -> set[str]:
    """Claim those of the leases that nobody owns. Returns their workspaces."""
    owned = set(s.scalars(select(Lease.team_id).where(Lease.expires_at > now)))
    # In order: two processes that claim the same ones do not wait for each other.
    free = sorted(set(team_ids) - owned)
    return {team_id for team_id in free if claim(s, team_id, owner, now, ttl)}


def renew(s: Session, owner: str, now: float, ttl: float) -> set[str]:
    """Renew all leases of `owner`. Returns their workspaces."""
    renewed = update(Lease).where(Lease.owner == owner).values(expires_at=now + ttl)
    return set(s.scalars(renewed.returning(Lease.team_id)))


def release(s: Session, team_ids: Iterable[str], owner: str) -> None:
    """Release leases, for the next process to claim at once."""
    for team_id in team_ids:
        s.execute(delete(Lease).where(Lease.team_id == team_id, Lease.owner == owner))


def release_all(s: Session, owner: str) -> None:
    """Release all leases of a process, also those that it does not know of yet: it may have been
    stopped while it claimed them."""
    s.execute(delete(Lease).where(Lease.owner == owner))

"""The inbox: the requests, each stored before Slack is told that its event arrived.

Functions of a Session.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import ColumnElement, and_, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, aliased

from colloquy_slack.database.models import Kind, Request, State

UNFINISHED = (State.NEW, State.OPEN)


@dataclass(frozen=True, slots=True)
class NewRequest:
    """A request as it comes in."""

    team_id: str
    channel_id: str
    ts: str
    thread_ts: str
    external_id: str
    user_id: str
    received_at: float
    kind: Kind = Kind.MESSAGE
    is_direct: bool = False
    text: str = ""
    files: list[dict[str, Any]] = field(default_factory=list)
    target_reply_id: str = ""
    conversation_id: str = ""
    # What the server gets; None: it has yet to be made of `text`.
    content: str | None = None
    state: State = State.NEW


def store(s: Session, new: NewRequest) -> int | None:
    """Store a request and return its id; None when it was stored before, by whichever delivery."""
    values = {
        "is_stopped": False,
        "is_deleted": False,
        "attachment_ids": [],
        "author": {},
        "notes": [],
        "reply_id": "",
        **{name: getattr(new, name) for name in NewRequest.__slots__},
    }
    dialect = postgresql if s.get_bind().dialect.name == "postgresql" else sqlite
    statement = dialect.insert(Request).values(values).on_conflict_do_nothing()
    return s.scalars(statement.returning(Request.id)).first()


def add_files(s: Session, new: NewRequest) -> None:
    """Add the files of a message to its request, which has none, unless it was sent already."""
    row = by_ts(s, new.team_id, new.channel_id, new.ts)
    if row is not None and row.state == State.NEW and row.content is None and not row.files:
        row.files = new.files


def store_offer(s: Session, new: NewRequest) -> int | None:
    """Store an edited message to be offered; return its id, None when it was answered already."""
    row_id = store(s, new)
    if row_id is None:
        row = by_ts(s, new.team_id, new.channel_id, new.ts)
        return row.id if row is not None and row.state == State.OFFERED else None
    return row_id


def store_stop(s: Session, new: NewRequest, thread_ts: str | None) -> bool:
    """Store a message that stops what is being answered in a thread; None: in the whole channel.

    Returns whether it stops anything, or did so when it was stored before.
    """
    stored = by_ts(s, new.team_id, new.channel_id, new.ts)
    if stored is not None:
        return stored.state == State.DONE
    running = unfinished_in(s, new.team_id, new.channel_id, thread_ts)
    if not running or store(s, replace(new, state=State.DONE)) is None:
        return False
    for request in running:
        request.is_stopped = True
    return True


def is_engaged(s: Session, team_id: str, external_id: str) -> bool:
    """Whether the bot was asked anything in a conversation."""
    found = select(Request.id).where(Request.team_id == team_id, Request.external_id == external_id)
    return s.scalars(found.limit(1)).first() is not None


def people_in(s: Session, team_id: str, external_id: str) -> list[str]:
    """Return who said something in a conversation, in the order in which they came."""
    found = (
        select(Request.user_id)
        .where(Request.team_id == team_id, Request.external_id == external_id)
        .group_by(Request.user_id)
        .order_by(func.min(Request.id))
    )
    return list(s.scalars(found))


def unfinished(s: Session, team_id: str, except_ids: Iterable[int], limit: int) -> list[Request]:
    """Return requests that are not done, in the order of their messages, but not `except_ids`."""
    found = (
        select(Request)
        .where(Request.team_id == team_id, Request.state.in_(UNFINISHED))
        .order_by(Request.ts, Request.id)
    )
    excluded = set(except_ids)
    return [row for row in s.scalars(found.limit(limit + len(excluded))) if row.id not in excluded][
        :limit
    ]


def unfinished_by_workspace(s: Session) -> dict[str, tuple[int, set[int]]]:
    """Return how many requests of each workspace are not done, and which of them are to stop."""
    live = Request.state.in_(UNFINISHED)
    counted = select(Request.team_id, func.count()).where(live).group_by(Request.team_id)
    found = {team_id: (number, set[int]()) for team_id, number in s.execute(counted)}
    stopped = select(Request.team_id, Request.id).where(live, Request.is_stopped)
    for team_id, row_id in s.execute(stopped):
        found[team_id][1].add(row_id)
    return found


def backlog(s: Session) -> tuple[int, float]:
    """Return how many requests are not done, and when the oldest of them came in; 0 for none."""
    found = select(func.count(), func.min(Request.received_at)).where(Request.state.in_(UNFINISHED))
    number, oldest = s.execute(found).one()
    return number, oldest or 0.0


def stopped_among(s: Session, rows: Collection[int]) -> dict[int, bool]:
    """Return which of these requests somebody wants stopped, and whether by deleting them."""
    if not rows:
        return {}
    found = select(Request.id, Request.is_deleted).where(Request.id.in_(rows), Request.is_stopped)
    return {row.id: row.is_deleted for row in s.execute(found)}


def unfinished_in(
    s: Session, team_id: str, channel_id: str, thread_ts: str | None
) -> list[Request]:
    """Return requests that are not done in a thread, or in a whole channel, oldest first."""
    found = select(Request).where(
        Request.team_id == team_id,
        Request.channel_id == channel_id,
        Request.state.in_(UNFINISHED),
    )
    if thread_ts is not None:
        found = found.where(Request.thread_ts == thread_ts)
    return list(s.scalars(found.order_by(Request.id)))


def is_regenerating(s: Session, team_id: str, reply_id: str) -> bool:
    """Whether a reply is being regenerated already."""
    found = select(Request.id).where(
        Request.team_id == team_id,
        Request.target_reply_id == reply_id,
        Request.state.in_(UNFINISHED),
    )
    return s.scalars(found.limit(1)).first() is not None


def get(s: Session, team_id: str, row_id: int) -> Request | None:
    """Return a request of this workspace."""
    found = select(Request).where(Request.team_id == team_id, Request.id == row_id)
    return s.scalars(found).one_or_none()


def by_ts(s: Session, team_id: str, channel_id: str, ts: str) -> Request | None:
    """Return the request that a message made."""
    found = select(Request).where(
        Request.team_id == team_id, Request.channel_id == channel_id, Request.ts == ts
    )
    return s.scalars(found).one_or_none()


def last_reply_to(s: Session, team_id: str, user_id: str) -> str:
    """Return the id of the last reply to something that a user wrote; empty when there is none."""
    found = (
        select(Request.reply_id)
        .where(
            Request.team_id == team_id,
            Request.user_id == user_id,
            Request.kind == Kind.MESSAGE,
            Request.reply_id != "",
            Request.is_deleted.is_(False),
        )
        .order_by(Request.id.desc())
        .limit(1)
    )
    return s.scalars(found).one_or_none() or ""


def set_fields(s: Session, /, row_id: int, **values: Any) -> tuple[bool, bool]:
    """Set fields of a request. Returns whether somebody wants it stopped, and deleted it."""
    statement = update(Request).where(Request.id == row_id).values(**values)
    flags = s.execute(statement.returning(Request.is_stopped, Request.is_deleted)).first()
    return (flags[0], flags[1]) if flags else (False, False)


def mark_stopped(s: Session, team_id: str, row_id: int) -> Request | None:
    """Note that a request is to be stopped. Returns it, or None when it is done or not there."""
    row = get(s, team_id, row_id)
    if row is None or row.state not in UNFINISHED:
        return None
    row.is_stopped = True
    return row


def finish(s: Session, row_id: int) -> None:
    """Note that a request is done. One whose message was deleted is forgotten."""
    row = s.get(Request, row_id, with_for_update=True)
    if row is not None:
        row.state = State.DONE
        if row.is_deleted:
            _forget(row)


def mark_deleted(s: Session, team_id: str, channel_id: str, ts: str) -> bool:
    """Note that a message was deleted. Returns False when it is not known (yet)."""
    found = select(Request).where(
        Request.team_id == team_id, Request.channel_id == channel_id, Request.ts == ts
    )
    row = s.scalars(found.with_for_update()).one_or_none()
    if row is not None:
        row.is_deleted = True
        if row.state in UNFINISHED:
            row.is_stopped = True
        else:
            _forget(row)
    return row is not None


def _forget(row: Request) -> None:
    """Keep nothing of what a request said, but where it was said and that it came."""
    row.text, row.content, row.files = "", "", []
    row.author, row.notes, row.attachment_ids = {}, [], []


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A request whose message was deleted, and that the server has."""

    row_id: int
    conversation_id: str
    reply_id: str
    is_only: bool
    """Nothing else was ever asked in its conversation, or all of it was deleted."""


def _to_withdraw() -> ColumnElement[bool]:
    return and_(
        Request.is_deleted,
        Request.state == State.DONE,
        Request.kind == Kind.MESSAGE,
        Request.reply_id != "",
    )


def withdrawals(s: Session, team_id: str) -> list[Withdrawal]:
    """Return what is to be deleted at the server, of a workspace."""
    other = aliased(Request)
    others = select(other.id).where(
        other.team_id == Request.team_id,
        other.external_id == Request.external_id,
        other.kind == Kind.MESSAGE,
        other.is_deleted.is_(False),
    )
    found = select(Request.id, Request.conversation_id, Request.reply_id, ~others.exists()).where(
        Request.team_id == team_id, _to_withdraw()
    )
    return [Withdrawal(*row) for row in s.execute(found)]


def with_withdrawals(s: Session) -> list[str]:
    """Return the workspaces of which something is to be deleted at the server."""
    return list(s.scalars(select(Request.team_id).where(_to_withdraw()).distinct()))


def mark_withdrawn(s: Session, row_id: int) -> None:
    """Note that the server has nothing of a request any more."""
    s.execute(update(Request).where(Request.id == row_id).values(reply_id="", conversation_id=""))


def store_deleted(s: Session, new: NewRequest) -> None:
    """Store a message that was deleted before it came, without its text: it is not answered."""
    # Without a conversation: nobody is engaged by it.
    store(s, replace(new, text="", files=[], external_id="", state=State.DONE))


def retry(row: Request) -> bool:
    """Have a request that the server refused tried again. Returns False when it is not done
    yet."""
    if row.state != State.DONE:
        return False
    row.state, row.is_stopped = State.NEW, False
    return True


def accept_offer(s: Session, team_id: str, row_id: int, user_id: str) -> bool:
    """Have an edited message answered, if its author says so. Returns whether it now is."""
    row = get(s, team_id, row_id)
    if row is None or row.state != State.OFFERED or row.user_id != user_id:
        return False
    row.state = State.NEW
    return True

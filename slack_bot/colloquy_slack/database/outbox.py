"""The outbox: which messages in Slack a reply has, stored before each is posted.

Functions of a Session. A post whose `ts` is empty is in doubt: it may or may not have arrived.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from colloquy_slack.database.inbox import UNFINISHED
from colloquy_slack.database.models import Post, Request

FILE = -1
"""The number of the whole text as a file. Below it are superseded messages that are not deleted
yet."""


def posts(s: Session, request_row: int) -> list[Post]:
    """Return what was posted or meant to be, in order."""
    found = select(Post).where(Post.request_row == request_row)
    return list(s.scalars(found.order_by(Post.number)))


def intend(s: Session, request_row: int, number: int) -> None:
    """Store that a message is about to be posted."""
    dialect = postgresql if s.get_bind().dialect.name == "postgresql" else sqlite
    values = {"request_row": request_row, "number": number, "ts": "", "file_id": ""}
    s.execute(dialect.insert(Post).values(values).on_conflict_do_nothing())


def doubt_unfinished(s: Session, numbers: Iterable[int]) -> int:
    """Note of all requests that are not done that messages of these numbers may have been posted:
    each is then looked up in Slack before it is posted. Returns how many requests."""
    rows = list(s.scalars(select(Request.id).where(Request.state.in_(UNFINISHED))))
    wanted = list(numbers)
    for row in rows:
        for number in wanted:
            intend(s, row, number)
    return len(rows)


def record(s: Session, /, request_row: int, number: int, **values: Any) -> None:
    """Store what is known of a message: its ts, or its file."""
    here = (Post.request_row == request_row, Post.number == number)
    s.execute(update(Post).where(*here).values(**values))


def supersede(s: Session, request_row: int, number: int) -> int:
    """Make room for another message in the place of one. Returns the number that the old one has
    now."""
    lowest = s.scalars(select(func.min(Post.number)).where(Post.request_row == request_row)).one()
    superseded = min(lowest, FILE) - 1
    here = (Post.request_row == request_row, Post.number == number)
    s.execute(update(Post).where(*here).values(number=superseded))
    return superseded


def delete_post(s: Session, request_row: int, number: int) -> None:
    """Delete a message that is no longer in Slack."""
    s.execute(delete(Post).where(Post.request_row == request_row, Post.number == number))


def request_of_post(s: Session, team_id: str, channel_id: str, ts: str) -> Request | None:
    """Return the request whose reply a message in Slack shows."""
    found = (
        select(Request)
        .join(Post, Post.request_row == Request.id)
        .where(Request.team_id == team_id, Request.channel_id == channel_id, Post.ts == ts)
    )
    return s.scalars(found).first()


def recorded_ts(s: Session, team_id: str, channel_id: str, ts: list[str]) -> set[str]:
    """Return which of these messages are recorded."""
    found = (
        select(Post.ts)
        .join(Request, Post.request_row == Request.id)
        .where(Request.team_id == team_id, Request.channel_id == channel_id, Post.ts.in_(ts))
    )
    return set(s.scalars(found))

"""How far each thread was read and given to the server. Functions of a Session."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from colloquy_slack.database import listening, thread_messages
from colloquy_slack.database.models import Post, Request, ThreadRead


@dataclass(frozen=True, slots=True)
class Thread:
    """What is known of a thread when a request in it is prepared."""

    given_until: str
    """The ts up to which it was given; empty: it never was."""
    is_to_be_read: bool
    """Slack has to be asked: the bot was not in it, or may have missed something."""
    kept: list[dict[str, Any]] = field(default_factory=list)
    """What was said since and kept, each a UserMessage as a dict."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a request adds to what is known of its thread."""

    given: list[str]
    """The ts of the messages that it brings along."""
    given_until: str
    read_until: str = ""
    """Empty: nothing was read in Slack."""
    is_complete: bool = True


def load(s: Session, request: Request, ts: str) -> Thread:
    """Return what is known of a request's thread, whose message has this ts."""
    where = (request.team_id, request.channel_id, request.thread_ts)
    kept = thread_messages.before(s, *where, ts)
    row = s.get(ThreadRead, where)
    if row is None:
        return Thread("", ts != request.thread_ts, kept)
    may_have_missed = _seconds(row.given_until) < listening.since(s)
    return Thread(row.given_until, may_have_missed or not row.is_complete, kept)


def known_among(s: Session, request: Request, ts: list[str]) -> set[str]:
    """Return which of these messages the request's conversation has: as requests and replies of its
    own, or brought along."""
    here = (
        Request.team_id == request.team_id,
        Request.channel_id == request.channel_id,
        Request.external_id == request.external_id,
    )
    known = set(s.scalars(select(Request.ts).where(*here, Request.ts.in_(ts))))
    posts = select(Post.ts).join(Request, Post.request_row == Request.id)
    known |= set(s.scalars(posts.where(*here, Post.ts.in_(ts))))
    return known | thread_messages.given_among(s, request.team_id, request.channel_id, ts)


def fix_content(
    s: Session, request: Request, progress: Progress | None, values: dict[str, Any]
) -> dict[str, Any]:
    """Store what the server gets for a request, and what that adds to its thread, as one.

    Returns what is stored: another process may have been first, when this one lost its lease.
    Of a request that was given files meanwhile only these: it is to be prepared with them.
    """
    row = s.get(Request, request.id, with_for_update=True)
    if row is None:
        return values
    if row.content is not None:
        return {name: getattr(row, name) for name in values}
    if row.files != request.files:
        return {"files": row.files}
    for name, value in values.items():
        setattr(row, name, value)
    if progress is not None:
        # What is kept meanwhile has to see this, or be seen by it.
        thread_messages.lock_thread(s, request.team_id, request.thread_ts)
        _advance(s, request, progress)
    return values


def _advance(s: Session, request: Request, progress: Progress) -> None:
    where = (request.team_id, request.channel_id, request.thread_ts)
    thread_messages.mark_given(s, request.team_id, request.channel_id, progress.given)
    row = s.get(ThreadRead, where)
    if row is None:
        row = ThreadRead(
            team_id=request.team_id,
            channel_id=request.channel_id,
            thread_ts=request.thread_ts,
            read_until="",
            given_until="",
        )
        s.add(row)
    row.read_until = max(row.read_until, progress.read_until)
    row.given_until = max(row.given_until, progress.given_until)
    row.is_complete = progress.is_complete


def _seconds(ts: str) -> float:
    try:
        return float(ts)
    except ValueError:
        return 0.0

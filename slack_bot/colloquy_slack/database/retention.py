"""Deletes what is no longer needed: old text, and all of a workspace. Functions of a Session."""

from __future__ import annotations

from sqlalchemy import and_, delete, or_, update
from sqlalchemy.orm import Session

from colloquy_slack.database.inbox import UNFINISHED
from colloquy_slack.database.models import (
    Channel,
    Notice,
    Person,
    Request,
    State,
    Thread,
    ThreadMessage,
    ThreadRead,
    WatchedChannel,
)


def delete_text(s: Session, answered_before: float, unanswered_before: float) -> None:
    """Delete the text of requests that came before, and that were answered or were not.

    Unanswered ones have a button that still needs the text: an offer to answer an edited message,
    a message that the server refused. Who asked and where stays, so that a late delivery is still
    known.
    """
    is_answered = and_(Request.state == State.DONE, Request.reply_id != "")
    s.execute(
        update(Request)
        .where(
            Request.state.not_in(UNFINISHED),
            or_(
                Request.received_at < unanswered_before,
                and_(is_answered, Request.received_at < answered_before),
            ),
            or_(Request.text != "", Request.content != ""),
        )
        .values(text="", content="", files=[], author={})
    )


def delete_workspace(s: Session, team_id: str) -> None:
    """Delete a workspace's requests, preferences and what was kept of its threads.

    What was posted for the requests is no longer known.
    """
    for table in (
        *(Request, Channel, Thread, Person, ThreadMessage, ThreadRead, Notice),
        WatchedChannel,
    ):
        s.execute(delete(table).where(table.team_id == team_id))

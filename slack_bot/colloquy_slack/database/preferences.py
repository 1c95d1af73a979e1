"""What people set for a channel, a thread or for themselves. Functions of a Session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from colloquy_slack.database.models import Channel, Mode, Person, Thread


@dataclass(frozen=True, slots=True)
class ChannelPreferences:
    """What holds in a channel; `model` and `prompt` are empty when none is set."""

    answers_all: bool = False
    chapter: int = 0
    model: str = ""
    mode: Mode = Mode.AUTO
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class ThreadPreferences:
    """What was set for a thread, and the last messages in it that called a person and the bot."""

    mode: Mode = Mode.UNSET
    aside_ts: str = ""
    called_ts: str = ""


def channel_preferences(s: Session, team_id: str, channel_id: str) -> ChannelPreferences:
    """Return what holds in a channel."""
    row = s.get(Channel, (team_id, channel_id))
    if row is None:
        return ChannelPreferences()
    return ChannelPreferences(
        row.answers_all, row.chapter, row.model, row.mode or Mode.AUTO, row.prompt
    )


def set_channel(s: Session, /, team_id: str, channel_id: str, **values: Any) -> None:
    """Change what holds in a channel."""
    row = s.get(Channel, (team_id, channel_id))
    if row is None:
        row = Channel(
            team_id=team_id,
            channel_id=channel_id,
            answers_all=False,
            chapter=0,
            model="",
            mode=Mode.UNSET,
            prompt="",
        )
        s.add(row)
    for name, value in values.items():
        setattr(row, name, value)


def thread_preferences(
    s: Session, team_id: str, channel_id: str, thread_ts: str
) -> ThreadPreferences:
    """Return what was set for a thread."""
    row = s.get(Thread, (team_id, channel_id, thread_ts))
    return ThreadPreferences(row.mode, row.aside_ts, row.called_ts) if row else ThreadPreferences()


def set_thread(s: Session, /, team_id: str, channel_id: str, thread_ts: str, **values: Any) -> None:
    """Change what is known of a thread."""
    row = s.get(Thread, (team_id, channel_id, thread_ts))
    if row is None:
        row = Thread(
            team_id=team_id,
            channel_id=channel_id,
            thread_ts=thread_ts,
            mode=Mode.UNSET,
            aside_ts="",
            called_ts="",
        )
        s.add(row)
    for name, value in values.items():
        setattr(row, name, value)


def user_model(s: Session, team_id: str, user_id: str) -> str:
    """Return the model that a person set, empty for none."""
    row = s.get(Person, (team_id, user_id))
    return row.model if row else ""


def conversation_model(s: Session, team_id: str, channel_id: str, user_id: str) -> str:
    """Return the model that a new conversation gets: the channel's, else the person's."""
    return channel_preferences(s, team_id, channel_id).model or user_model(s, team_id, user_id)


def set_user_model(s: Session, team_id: str, user_id: str, model: str) -> None:
    """Set a person's model."""
    s.merge(Person(team_id=team_id, user_id=user_id, model=model))

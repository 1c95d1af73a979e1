"""What people set for a channel or for themselves. Functions of a Session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from colloquy_slack.database.models import Channel, Person


@dataclass(frozen=True, slots=True)
class ChannelPreferences:
    """What holds in a channel; `model` is empty when none is set."""

    answers_all: bool = False
    chapter: int = 0
    model: str = ""


def channel_preferences(s: Session, team_id: str, channel_id: str) -> ChannelPreferences:
    """Return what holds in a channel."""
    row = s.get(Channel, (team_id, channel_id))
    return (
        ChannelPreferences(row.answers_all, row.chapter, row.model) if row else ChannelPreferences()
    )


def set_channel(s: Session, /, team_id: str, channel_id: str, **values: Any) -> None:
    """Change what holds in a channel."""
    row = s.get(Channel, (team_id, channel_id))
    if row is None:
        row = Channel(
            team_id=team_id, channel_id=channel_id, answers_all=False, chapter=0, model=""
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

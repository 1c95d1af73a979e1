"""What people chose for a channel or for themselves. Functions of a Session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from colloquy_slack.database.models import Channel, Person


@dataclass(frozen=True, slots=True)
class ChannelChoices:
    """What holds in a channel; `model` is empty when none was chosen."""

    answers_all: bool = False
    chapter: int = 0
    model: str = ""


def of_channel(s: Session, team_id: str, channel_id: str) -> ChannelChoices:
    """Return what holds in a channel."""
    row = s.get(Channel, (team_id, channel_id))
    return ChannelChoices(row.answers_all, row.chapter, row.model) if row else ChannelChoices()


def choose(s: Session, /, team_id: str, channel_id: str, **values: Any) -> None:
    """Change what holds in a channel."""
    row = s.get(Channel, (team_id, channel_id))
    if row is None:
        row = Channel(
            team_id=team_id, channel_id=channel_id, answers_all=False, chapter=0, model=""
        )
        s.add(row)
    for name, value in values.items():
        setattr(row, name, value)


def model_of(s: Session, team_id: str, user_id: str) -> str:
    """Return the model that a person chose, empty for none."""
    row = s.get(Person, (team_id, user_id))
    return row.model if row else ""


def model_for(s: Session, team_id: str, channel_id: str, user_id: str) -> str:
    """Return the model that a new conversation gets: the channel's, else the person's."""
    return of_channel(s, team_id, channel_id).model or model_of(s, team_id, user_id)


def choose_model(s: Session, team_id: str, user_id: str, model: str) -> None:
    """Note the model that a person chose."""
    s.merge(Person(team_id=team_id, user_id=user_id, model=model))

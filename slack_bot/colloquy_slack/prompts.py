"""What a model is told before all that people say."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

INSTRUCTIONS = (
    "You are Colloquy, an assistant in Slack. Each message says who wrote it. Answer in the"
    " language in which you are asked, as briefly as the question allows, in Markdown. You see this"
    " conversation only: no other channels, and nothing of Slack beyond it."
)
"""What holds where a channel does not say otherwise."""

MAX_NAMES = 20
"""People who are named; of more there is the number."""

_MAX_NAME = 80


def system_prompt(
    instructions: str, today: date, names: Sequence[str], others: int, *, is_direct: bool
) -> str:
    """Return the system prompt of a conversation with some people and so many others.

    It changes with the day and when somebody joins, and at no other time: providers keep what
    begins with the same words.
    """
    listed = ", ".join(" ".join(name.split())[:_MAX_NAME] for name in names)
    if others:
        listed += f" and {others} more"
    where = f"You talk with {listed}" if is_direct else f"In this conversation are {listed}"
    day = f"{today:%A}, {today.day} {today:%B %Y}"
    return f"{instructions or INSTRUCTIONS}\n\nToday is {day}. {where}."

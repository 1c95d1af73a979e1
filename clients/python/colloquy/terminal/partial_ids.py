"""Ids that people shorten: how they begin, or how they end."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING

from colloquy.terminal.console import usage_error

if TYPE_CHECKING:
    from colloquy import AsyncConversationClient, ConversationClient

# Shorter parts of an id would match by chance.
_SHORTEST_PART = 4


def is_whole_id(part: str) -> bool:
    """Whether this is a whole id and not a part of one."""
    try:
        return str(uuid.UUID(part)) == part
    except ValueError:
        return False


def check_user_id(user: str) -> None:
    """Exits with 2 where this is not a whole id, but a name, or a part of one."""
    if not is_whole_id(user):
        usage_error(
            f"{user!r} is not the id of a user: `colloquy admin list-keys --json` tells it, and"
            " each message's `colloquy show --json`"
        )


def pick_id(part: str, ids: Iterable[str], what: str) -> str:
    """Return the id that begins or ends with `part`; `what` names its kind.

    Exits with 2 when there is none, or more than one.
    """
    part = part.strip().lower()
    if len(part) < _SHORTEST_PART:
        usage_error(
            f"{part!r} is too short for the id of the {what}: give at least {_SHORTEST_PART}"
            " characters"
        )
    found = [id_ for id_ in ids if id_.startswith(part) or id_.endswith(part)]
    if not found:
        usage_error(f"there is no {what} whose id begins or ends with {part!r}")
    if len(found) > 1:
        usage_error(f"{part!r} fits {len(found)} ids: give more of the {what}'s")
    return found[0]


def find_conversation(client: ConversationClient, part: str) -> str:
    """Return the id of the conversation that a part of its id names."""
    if is_whole_id(part):
        return part
    return pick_id(part, (found.id for found in client.conversations()), "conversation")


async def find_conversation_async(client: AsyncConversationClient, part: str) -> str:
    """Return the same with the other client."""
    if is_whole_id(part):
        return part
    return pick_id(part, [found.id async for found in client.conversations()], "conversation")

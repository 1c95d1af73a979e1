"""What watchers read: snapshots of a conversation, and its changes since a version."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from colloquy_server.database.models import Conversation, Message, State
from colloquy_server.database.repository import messages
from colloquy_server.database.repository.changes import is_generating, with_participants
from colloquy_server.errors import NotFound


@dataclass(frozen=True, slots=True)
class Page:
    """Changes up to `version`: the messages as they stand, in the order of their changes, and the
    conversation if it changed itself. `ended` is the reply that the reader follows, if it ended,
    also when that is among the changes after these."""

    version: int
    messages: list[Message]
    conversation: Conversation | None
    ended: Message | None


def version(s: Session, conversation_id: str) -> int:
    """The latest version of a conversation. Raises NotFound."""
    return _versions_of(s, conversation_id)[0]


def _versions_of(s: Session, conversation_id: str) -> tuple[int, int]:
    """Of the conversation with its messages, and of what it says of itself."""
    found = s.execute(
        select(Conversation.version, Conversation.info_version).where(
            Conversation.id == conversation_id
        )
    ).one_or_none()
    if found is None:
        raise NotFound("CONVERSATION")
    return found[0], found[1]


def versions(s: Session, conversation_ids: Collection[str]) -> dict[str, int]:
    """The latest versions of those of the conversations that exist."""
    rows = s.execute(
        select(Conversation.id, Conversation.version).where(Conversation.id.in_(conversation_ids))
    )
    return {row[0]: row[1] for row in rows}


def generating(
    s: Session, conversation_ids: Collection[str], known: Mapping[str, tuple[int, int]]
) -> list[Message]:
    """The live replies of these conversations that are further than is `known`: attempt and code
    points, by message."""
    lengths = s.execute(
        select(Message.id, Message.attempt, func.length(Message.content)).where(
            Message.conversation_id.in_(conversation_ids), is_generating
        )
    )
    further = [row[0] for row in lengths if (row[1], row[2]) > known.get(row[0], (0, -1))]
    return list(s.scalars(select(Message).where(Message.id.in_(further)))) if further else []


def snapshot(s: Session, conversation_id: str) -> tuple[Conversation, list[Message]]:
    """A conversation and its replies that are not finished. Raises NotFound."""
    conversation = with_participants(s, conversation_id)
    return conversation, messages.unfinished(s, conversation_id)


def changes(s: Session, conversation_id: str, since: int, limit: int, followed: str) -> Page:
    """What changed after version `since`; `limit` messages or a few more. Raises NotFound."""
    newest, info_version = _versions_of(s, conversation_id)
    read = messages.changed_since(s, conversation_id, since, limit)
    # A message that changed once more while we read comes again, with that change.
    changed = [message for message in read if message.version <= newest]
    reached = newest if len(changed) < limit else changed[-1].version
    ended = next((message for message in changed if message.id == followed), None)
    is_whole = len(changed) == len(read) < limit
    if followed and ended is None and not is_whole:
        ended = messages.changed_message(s, followed, since)
    if ended is not None and ended.state <= State.GENERATING:
        ended = None
    is_due = since < info_version <= reached
    conversation = with_participants(s, conversation_id) if is_due else None
    return Page(reached, changed, conversation, ended)

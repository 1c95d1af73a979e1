"""What watchers read: snapshots of a conversation, and its changes since a version."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from server.errors import NotFound
from server.models import Conversation, Message
from server.repository import messages
from server.repository.changes import with_participants


@dataclass(frozen=True, slots=True)
class Page:
    """Changes up to `version`: the messages as they stand, in the order of their changes, and the
    conversation if it changed itself."""

    version: int
    messages: list[Message]
    conversation: Conversation | None


def version(s: Session, conversation_id: str) -> int:
    """The latest version of a conversation. Raises NotFound."""
    found = s.scalars(
        select(Conversation.version).where(Conversation.id == conversation_id)
    ).one_or_none()
    if found is None:
        raise NotFound("CONVERSATION")
    return found


def snapshot(s: Session, conversation_id: str) -> tuple[Conversation, list[Message]]:
    """A conversation and its replies that are not finished. Raises NotFound."""
    conversation = with_participants(s, conversation_id)
    return conversation, messages.unfinished(s, conversation_id)


def changes(s: Session, conversation_id: str, since: int, limit: int) -> Page:
    """What changed after version `since`; `limit` messages or a few more. Raises NotFound."""
    newest = version(s, conversation_id)
    changed = messages.changed_since(s, conversation_id, since, limit)
    # A message that changed once more while we read comes again, with that change.
    changed = [message for message in changed if message.version <= newest]
    reached = newest if len(changed) < limit else changed[-1].version
    conversation = with_participants(s, conversation_id)
    is_due = since < conversation.info_version <= reached
    return Page(reached, changed, conversation if is_due else None)

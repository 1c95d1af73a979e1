"""What watchers read: snapshots of a conversation, and its changes since a version."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import bindparam, func, select

from colloquy_server.database.models import Conversation, Message, State
from colloquy_server.database.repository import messages
from colloquy_server.database.repository.changes import conversation, is_generating
from colloquy_server.database.rows import MESSAGE, ConversationRow, MessageRow, message
from colloquy_server.database.transactions import Session
from colloquy_server.errors import NotFound


@dataclass(frozen=True, slots=True)
class Page:
    """Changes up to `version`: the messages as they stand, in the order of their changes, and the
    conversation if it changed itself; it last did so at `info_version`, which may come after these.
    `ended` is the reply that the reader follows, if it ended,
    also when that is among the changes after these."""

    version: int
    info_version: int
    messages: list[MessageRow]
    conversation: ConversationRow | None
    ended: MessageRow | None


def version(s: Session, conversation_id: str) -> int:
    """The latest version of a conversation. Raises NotFound."""
    return _versions_of(s, conversation_id)[0]


_VERSIONS = select(Conversation.version, Conversation.info_version).where(
    Conversation.id == bindparam("wanted")
)


def _versions_of(s: Session, conversation_id: str) -> tuple[int, int]:
    """Of the conversation with its messages, and of what it says of itself."""
    found = s.run(_VERSIONS, {"wanted": conversation_id}).one_or_none()
    if found is None:
        raise NotFound("CONVERSATION")
    return found[0], found[1]


_VERSIONS_OF_MANY = select(Conversation.id, Conversation.version).where(
    Conversation.id.in_(bindparam("conversations", expanding=True))
)


def versions(s: Session, conversation_ids: Collection[str]) -> dict[str, int]:
    """The latest versions of those of the conversations that exist."""
    rows = s.run(_VERSIONS_OF_MANY, {"conversations": list(conversation_ids)})
    return {row[0]: row[1] for row in rows}


_LENGTHS = select(Message.id, Message.attempt, func.length(Message.content)).where(
    Message.conversation_id.in_(bindparam("conversations", expanding=True)), is_generating
)
_MESSAGES = select(*MESSAGE).where(Message.id.in_(bindparam("wanted", expanding=True)))


def generating(
    s: Session, conversation_ids: Collection[str], known: Mapping[str, tuple[int, int]]
) -> list[MessageRow]:
    """The live replies of these conversations that are further than is `known`: attempt and code
    points, by message."""
    lengths = s.run(_LENGTHS, {"conversations": list(conversation_ids)})
    further = [row[0] for row in lengths if (row[1], row[2]) > known.get(row[0], (0, -1))]
    return [message(row) for row in s.run(_MESSAGES, {"wanted": further})] if further else []


def snapshot(s: Session, conversation_id: str) -> tuple[ConversationRow, list[MessageRow]]:
    """A conversation and its replies that are not finished. Raises NotFound."""
    return conversation(s, conversation_id), messages.unfinished(s, conversation_id)


def changes(s: Session, conversation_id: str, since: int, limit: int, followed: str) -> Page:
    """What changed after version `since`; `limit` messages or a few more. Raises NotFound."""
    newest, info_version = _versions_of(s, conversation_id)
    read = messages.changed_since(s, conversation_id, since, limit)
    # A message that changed once more while we read comes again, with that change.
    changed = [row for row in read if row.version <= newest]
    reached = newest if len(changed) < limit else changed[-1].version
    ended = next((row for row in changed if row.id == followed), None)
    is_whole = len(changed) == len(read) < limit
    if followed and ended is None and not is_whole:
        ended = messages.changed_message(s, conversation_id, followed, since)
    if ended is not None and ended.state <= State.GENERATING:
        ended = None
    is_due = since < info_version <= reached
    told = conversation(s, conversation_id) if is_due else None
    return Page(reached, info_version, changed, told, ended)

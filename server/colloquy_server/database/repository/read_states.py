"""What somebody makes of a conversation for themselves: it is pinned, or read up to a message.

Nobody else is told, and nobody waits for it: a conversation's row is only kept from being deleted.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from sqlalchemy import Insert, bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from colloquy_server.database.marks import next_mark
from colloquy_server.database.models import Conversation, Message, PersonalState
from colloquy_server.database.repository.changes import now
from colloquy_server.database.repository.users import Author, resolve_author
from colloquy_server.database.transactions import Session
from colloquy_server.errors import NotFound

_HELD = (
    select(Conversation.account_id)
    .where(Conversation.id == bindparam("wanted"))
    .with_for_update(read=True, key_share=True, of=Conversation)
)


def _hold(s: Session, conversation_id: str) -> str:
    """Keeps a conversation, which the caller sees, from being deleted before this transaction ends,
    and from nothing else; returns its account. Raises NotFound."""
    account_id = s.run(_HELD, {"wanted": conversation_id}).scalar_one_or_none()
    if account_id is None:
        raise NotFound("CONVERSATION")
    return str(account_id)


def pin(s: Session, conversation_id: str, user_id: str, *, pinned: bool) -> None:
    """Keeps a conversation in a user's view, or no longer. Raises NotFound."""
    account_id = _hold(s, conversation_id)
    state = {"pinned": pinned, "read_position": 0}
    _store(s, account_id, conversation_id, user_id, "pinned", state)


_POSITION = select(Message.position).where(
    Message.id == bindparam("wanted"), Message.conversation_id == bindparam("conversation")
)


def mark_read(s: Session, conversation_id: str, message_id: str, author: Author) -> str:
    """Stores that somebody has read a conversation up to a message, if that is further than before;
    returns the user's id. Raises NotFound, and what `resolve_author` raises."""
    account_id = _hold(s, conversation_id)
    wanted = {"wanted": message_id, "conversation": conversation_id}
    position = s.run(_POSITION, wanted).scalar_one_or_none()
    if position is None:
        raise NotFound("MESSAGE")
    user = resolve_author(s, account_id, author, now(s))
    store_read(s, account_id, conversation_id, user.id, position)
    return user.id


def store_read(
    s: Session, account_id: str, conversation_id: str, user_id: str, position: int
) -> None:
    """Stores that a user has read a conversation up to a position, if that is further than before.
    The caller keeps the conversation from being deleted."""
    state = {"pinned": False, "read_position": position}
    _store(s, account_id, conversation_id, user_id, "read_position", state)


_MARK = select(next_mark(bindparam("owner")))


def _store(
    s: Session,
    account_id: str,
    conversation_id: str,
    user_id: str,
    changed: str,
    state: Mapping[str, object],
) -> None:
    """Stores one thing of a state; the other is as it is where there is no row yet."""
    values = {
        "account_id": account_id,
        "conversation_id": conversation_id,
        "user_id": user_id,
        "change_mark": s.run(_MARK, {"owner": account_id}).scalar_one(),
    }
    s.run(_upsert(changed, s.is_sqlite), {**values, **state})


@cache
def _upsert(changed: str, is_sqlite: bool) -> Insert:
    insert = sqlite.insert(PersonalState) if is_sqlite else postgresql.insert(PersonalState)
    given = insert.excluded
    before = getattr(PersonalState, changed)
    is_news = before < given[changed] if changed == "read_position" else before != given[changed]
    return insert.on_conflict_do_update(
        index_elements=["conversation_id", "user_id"],
        set_={changed: given[changed], "change_mark": given.change_mark},
        where=is_news,
    )

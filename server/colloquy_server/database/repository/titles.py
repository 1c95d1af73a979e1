"""Titles that the server owes: which, and who makes them."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Integer, bindparam, select, update

from colloquy_server.database.models import Conversation, Message, Role, State, db_now
from colloquy_server.database.repository.changes import Change, conversation, lock
from colloquy_server.database.transactions import Session

TITLE_TRIES = 3
"""How often the title model is asked for one conversation before it stays without a title."""


_OWED = (
    select(Conversation.account_id, Conversation.id)
    .where(Conversation.title_owed > 0, Conversation.title_lease_until < db_now())
    .order_by(Conversation.activity_time)
    .limit(bindparam("size", type_=Integer))
)


def owed(s: Session, limit: int) -> list[tuple[str, str]]:
    """(account_id, conversation_id) of titles that are owed and that no process works on."""
    return [(row[0], row[1]) for row in s.run(_OWED, {"size": limit})]


_CLAIM = (
    update(Conversation)
    .where(
        Conversation.id == bindparam("wanted"),
        Conversation.title_owed > 0,
        Conversation.title_lease_until < db_now(),
    )
    .values(title_owed=Conversation.title_owed - 1, title_lease_until=db_now() + bindparam("ttl"))
    .returning(Conversation.id)
)
_FIRST_REPLY = (
    select(Message.reply_to, Message.content)
    .where(
        Message.conversation_id == bindparam("wanted"),
        Message.role == Role.ASSISTANT,
        Message.state == State.COMPLETED,
    )
    .order_by(Message.position)
    .limit(1)
)
_PROMPT = select(Message.content).where(Message.id == bindparam("prompt"))


def claim(s: Session, conversation_id: str, ttl: int) -> tuple[str, str] | None:
    """Claims a title that is owed, for `ttl` microseconds, and returns the texts of the first
    finished exchange (prompt, reply); None when nothing is owed any more."""
    claimed = s.run(_CLAIM, {"wanted": conversation_id, "ttl": ttl}).one_or_none()
    if claimed is None:
        return None
    reply = s.run(_FIRST_REPLY, {"wanted": conversation_id}).one_or_none()
    if reply is None:
        return None
    return s.run(_PROMPT, {"prompt": reply[0]}).scalar_one(), reply[1]


_RENEW = (
    update(Conversation)
    .where(
        Conversation.id.in_(bindparam("conversations", expanding=True)),
        Conversation.title_lease_until > 0,
    )
    .values(title_lease_until=db_now() + bindparam("ttl"))
)


def renew(s: Session, conversation_ids: Collection[str], ttl: int) -> None:
    """Renews the leases of titles that are being made, for `ttl` microseconds from now."""
    s.run(_RENEW, {"conversations": list(conversation_ids), "ttl": ttl})


_SET = (
    update(Conversation)
    .where(Conversation.id == bindparam("wanted"))
    .values(
        title=bindparam("new_title"),
        title_owed=0,
        title_lease_until=0,
        update_time=bindparam("now"),
        info_version=bindparam("new_version"),
    )
)


def set_title(s: Session, conversation_id: str, title: str) -> Change | None:
    """Stores a title that the model made, unless there is one by now. Raises NotFound."""
    locked = lock(s, conversation_id)
    if locked.is_titled:
        s.undo()
        return None
    s.run(
        _SET,
        {
            "wanted": conversation_id,
            "new_title": title,
            "now": locked.now,
            "new_version": locked.version,
        },
    )
    return Change(conversation_id, locked.version, conversation=conversation(s, conversation_id))

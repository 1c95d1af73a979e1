"""Titles that the server owes: which, and who makes them."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from colloquy_server.database.models import Conversation, Message, Role, State, db_now
from colloquy_server.database.repository.changes import (
    NO_SYNC,
    Change,
    lock,
    undo,
    with_participants,
)

TITLE_TRIES = 3
"""How often the title model is asked for one conversation before it stays without a title."""


def owed(s: Session, limit: int) -> list[tuple[str, str]]:
    """(account_id, conversation_id) of titles that are owed and that no process works on."""
    rows = s.execute(
        select(Conversation.account_id, Conversation.id)
        .where(Conversation.title_owed > 0, Conversation.title_lease_until < db_now())
        .order_by(Conversation.activity_time)
        .limit(limit)
    )
    return [(row[0], row[1]) for row in rows]


def claim(s: Session, conversation_id: str, ttl: int) -> list[Message] | None:
    """Claims a title that is owed, for `ttl` microseconds, and returns the first finished
    exchange (prompt, reply); None when nothing is owed any more."""
    claimed = s.scalars(
        update(Conversation)
        .where(
            Conversation.id == conversation_id,
            Conversation.title_owed > 0,
            Conversation.title_lease_until < db_now(),
        )
        .values(title_owed=Conversation.title_owed - 1, title_lease_until=db_now() + ttl)
        .returning(Conversation.id),
        execution_options=NO_SYNC,
    ).one_or_none()
    if claimed is None:
        return None
    reply = s.scalars(
        select(Message)
        .where(
            Message.conversation_id == conversation_id,
            Message.role == Role.ASSISTANT,
            Message.state == State.COMPLETED,
        )
        .order_by(Message.position)
        .limit(1)
    ).one_or_none()
    if reply is None:
        return None
    prompt = s.scalars(select(Message).where(Message.id == reply.reply_to)).one()
    return [prompt, reply]


def renew(s: Session, conversation_ids: Collection[str], ttl: int) -> None:
    """Renews the leases of titles that are being made, for `ttl` microseconds from now."""
    s.execute(
        update(Conversation)
        .where(Conversation.id.in_(conversation_ids), Conversation.title_lease_until > 0)
        .values(title_lease_until=db_now() + ttl),
        execution_options=NO_SYNC,
    )


def set_title(s: Session, conversation_id: str, title: str) -> Change | None:
    """Stores a title that the model made, unless there is one by now. Raises NotFound."""
    locked = lock(s, conversation_id)
    conversation = locked.conversation
    if conversation.title or conversation.title_by_user:
        undo(s)
        return None
    s.execute(
        update(Conversation)
        .where(Conversation.id == conversation_id)
        .values(
            title=title,
            title_owed=0,
            title_lease_until=0,
            update_time=locked.now,
            info_version=locked.version,
        ),
        execution_options=NO_SYNC,
    )
    return Change(
        conversation_id, locked.version, conversation=with_participants(s, conversation_id)
    )

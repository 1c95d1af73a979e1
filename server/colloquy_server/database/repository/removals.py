"""What is gone from somebody's index of conversations, so that who comes back hears of it."""

from __future__ import annotations

from sqlalchemy import BigInteger, bindparam, delete, insert, select

from colloquy_server.database.models import (
    MICROS,
    Conversation,
    ConversationRemoval,
    Membership,
    Visibility,
    db_now,
)
from colloquy_server.database.repository.changes import Locked
from colloquy_server.database.transactions import Session

KEPT = 8 * 86_400 * MICROS
"""Microseconds for which it is known what was removed; tokens end a day earlier."""

_REMOVE = insert(ConversationRemoval)
_AUDIENCE = select(Conversation.visibility, Conversation.creator_id).where(
    Conversation.id == bindparam("wanted")
)
_PARTICIPANTS = select(Membership.user_id).where(
    Membership.conversation_id == bindparam("wanted"), Membership.is_removed.is_(False)
)


def note_deletion(s: Session, locked: Locked) -> None:
    """Notes for all who see a conversation that it is being deleted."""
    wanted = {"wanted": locked.id}
    visibility, creator_id = s.run(_AUDIENCE, wanted).one()
    if visibility == Visibility.ACCOUNT:
        _note(s, locked, {""}, was_open=True)
    else:
        # The empty one for who sees all.
        _note(s, locked, {"", creator_id or "", *s.run(_PARTICIPANTS, wanted).scalars()})


def note_closing(s: Session, locked: Locked) -> None:
    """Notes that a conversation is to be seen by some only, if all of the account saw it."""
    if s.run(_AUDIENCE, {"wanted": locked.id}).one()[0] == Visibility.ACCOUNT:
        _note(s, locked, {""}, was_open=True)


def note_departure(s: Session, locked: Locked, user_id: str) -> None:
    """Notes that somebody takes part no more."""
    _note(s, locked, {user_id})


def _note(s: Session, locked: Locked, user_ids: set[str], *, was_open: bool = False) -> None:
    s.run(
        _REMOVE,
        [
            {
                "account_id": locked.account_id,
                "conversation_id": locked.id,
                "user_id": user_id,
                "was_open": was_open,
                "change_mark": locked.mark,
                "create_time": locked.now,
            }
            for user_id in sorted(user_ids)
        ],
    )


_FORGET = delete(ConversationRemoval).where(
    ConversationRemoval.create_time < db_now() - bindparam("kept", type_=BigInteger)
)


def forget_old(s: Session) -> None:
    """Forgets what nobody can ask for any more."""
    s.run(_FORGET, {"kept": KEPT})

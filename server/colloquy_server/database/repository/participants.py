"""Who takes part in a conversation: inviting people, joining by writing, and removing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Insert,
    Integer,
    bindparam,
    false,
    func,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from colloquy_server.database.models import Conversation, Membership, Visibility
from colloquy_server.database.repository import removals
from colloquy_server.database.repository.changes import (
    Change,
    Locked,
    conversation,
    lock,
    require_control,
)
from colloquy_server.database.repository.users import Author, resolve_people
from colloquy_server.database.scope import of_account
from colloquy_server.database.transactions import Session

_in_conversation = Membership.conversation_id == bindparam("conversation")
_next_place = (
    select(func.coalesce(func.max(Membership.position), 0) + 1)
    .where(of_account(Membership), _in_conversation)
    .scalar_subquery()
)


def _joining(place: ColumnElement[int]) -> dict[bool, Insert]:
    """A statement that makes somebody a participant at this place, or again at the place that they
    had; by whether it is for SQLite. It changes no row when there is nothing to do."""
    values: dict[str, ColumnElement[Any]] = {
        "account_id": bindparam("account_id"),
        "conversation_id": bindparam("conversation"),
        "user_id": bindparam("user"),
        "position": place,
        "is_removed": false(),
    }
    made: dict[bool, Insert] = {}
    for insert in (sqlite.insert(Membership), postgresql.insert(Membership)):
        made[isinstance(insert, sqlite.Insert)] = (
            insert.values(values)
            .on_conflict_do_update(
                index_elements=["conversation_id", "user_id"],
                set_={"is_removed": false()},
                where=Membership.is_removed.is_(True),
            )
            .execution_options(preserve_rowcount=True)
        )
    return made


_JOIN = _joining(_next_place)
_JOIN_AT = _joining(bindparam("place", type_=Integer))


def join(s: Session, locked: Locked, user_id: str) -> None:
    """Makes who wrote in a conversation a participant."""
    s.send(_JOIN[s.is_sqlite], {**_of(locked), "user": user_id, "account": locked.account_id})


def _of(locked: Locked) -> dict[str, str]:
    return {"conversation": locked.id, "account_id": locked.account_id}


_LAST_PLACE = select(func.coalesce(func.max(Membership.position), 0)).where(_in_conversation)


def add(s: Session, conversation_id: str, people: Sequence[Author], *, may_rename: bool) -> Change:
    """Makes people participants, behind those who are there. Those who are not known yet are added;
    with `may_rename` the others get the names that are given.

    Raises NotFound, and InvalidField for a person who cannot be told.
    """
    locked = lock(s, conversation_id)
    users = resolve_people(s, locked.account_id, people, locked.now, may_rename=may_rename)
    last = s.run(_LAST_PLACE, {"conversation": locked.id}).scalar_one()
    rows = [
        {**_of(locked), "user": user.id, "place": last + number}
        for number, user in enumerate(users, 1)
    ]
    return _note(s, locked, is_other=s.run(_JOIN_AT[s.is_sqlite], rows).rowcount > 0)


def _note(s: Session, locked: Locked, *, is_other: bool) -> Change:
    """The change, if other people take part from now on; the conversation is told in any case."""
    if not is_other:
        return Change(locked.id, locked.version, conversation=conversation(s, locked.id))
    s.run(
        update(Conversation)
        .where(Conversation.id == locked.id)
        .values(update_time=locked.now, info_version=locked.version)
    )
    return Change(locked.id, locked.version, conversation=conversation(s, locked.id))


def remove(s: Session, conversation_id: str, user_id: str) -> tuple[Change, bool]:
    """Takes somebody out of a conversation; who made it did not make it from then on. Also says
    whether the caller still sees it.

    Raises NotFound, and PermissionDenied when the caller may remove nobody else.
    """
    locked = lock(s, conversation_id)
    if user_id != s.viewer_id:
        require_control(s, conversation_id, "remove others")
    removed = s.run(
        update(Membership)
        .where(
            Membership.conversation_id == conversation_id,
            Membership.user_id == user_id,
            Membership.is_removed.is_(False),
        )
        .values(is_removed=true())
    )
    # Without its request_id: for who cannot see it any more, the request made nothing.
    unmade = s.run(
        update(Conversation)
        .where(Conversation.id == conversation_id, Conversation.creator_id == user_id)
        .values(creator_id=None, request_id=None)
    )
    if removed.rowcount + unmade.rowcount:
        removals.note_departure(s, locked, user_id)
    change = _note(s, locked, is_other=removed.rowcount + unmade.rowcount > 0)
    assert change.conversation is not None
    is_open = change.conversation.visibility == Visibility.ACCOUNT
    return change, is_open or user_id != s.viewer_id

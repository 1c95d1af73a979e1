"""What has changed in an account's index of conversations, for those who watch it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, Integer, Select, bindparam, literal_column, select, update

from colloquy_server.database.marks import ceiling, horizon, lineage, next_mark
from colloquy_server.database.models import (
    MICROS,
    Conversation,
    ConversationRemoval,
    PersonalState,
    User,
    db_now,
)
from colloquy_server.database.repository import conversations, personal, removals
from colloquy_server.database.repository.changes import with_participants
from colloquy_server.database.repository.personal import Readable, State
from colloquy_server.database.rows import (
    ConversationRow,
    conversation_without_participants,
    select_conversations,
)
from colloquy_server.database.transactions import Session

BEGINNING: Final = 50
"""Conversations with the latest activity with which a watch begins."""

MAX_CHANGES: Final = 500
"""Changes that are read at once: whoever missed more begins anew."""


_MARGIN = 86_400 * MICROS
"""Microseconds by which a token ends before what it needs is forgotten."""


class Place(NamedTuple):
    """Where a reader of the changes stands: all whose mark is below the horizon is seen. Times are
    the database's."""

    lineage: int
    horizon: int
    time: int


_PLACE = select(lineage(), horizon(bindparam("owner")), db_now())


def place(s: Session, account_id: str) -> Place:
    """Where a reader stands who has seen what this transaction sees."""
    return Place._make(s.run(_PLACE, {"owner": account_id}).one())


def _can_go_on(since: Place, here: Place) -> bool:
    """Whether all is known that changed since a place, for who is here now."""
    is_of_here = since.lineage == here.lineage and since.horizon <= here.horizon
    return is_of_here and since.time > here.time - removals.KEPT + _MARGIN


_MARKED = (Conversation, PersonalState, ConversationRemoval)
_FOREIGN = tuple(
    select(model.change_mark).where(model.change_mark >= ceiling(bindparam("owner"))).limit(1)
    for model in _MARKED
)
_ADOPT = tuple(
    update(model)
    .where(model.change_mark >= ceiling(bindparam("owner")))
    .values(change_mark=next_mark(bindparam("owner")))
    for model in _MARKED
)


def is_foreign(s: Session, account_id: str) -> bool:
    """Whether marks of an account are of another database, from which this one was restored."""
    return any(s.run(query, {"owner": account_id}).all() for query in _FOREIGN)


def adopt(s: Session, account_id: str) -> None:
    """Gives what has such marks those of this database."""
    for change in _ADOPT:
        s.run(change, {"owner": account_id})


class Removal(NamedTuple):
    """That a conversation is gone for somebody; see `models.ConversationRemoval`."""

    conversation_id: str
    user_id: str
    was_open: bool
    mark: int


class Touched(NamedTuple):
    """That a conversation has changed, or for `user_id` alone what it is to them."""

    conversation_id: str
    user_id: str
    version: int
    mark: int


def _since(columns: Sequence[Any], mark: Any) -> Select[Any]:
    return (
        select(*columns, mark)
        .where(mark >= bindparam("since", type_=BigInteger))
        .order_by(mark)
        .limit(bindparam("size", type_=Integer))
    )


_CHANGED = _since(
    (Conversation.id, literal_column("''"), Conversation.version), Conversation.change_mark
)
_PERSONAL = _since(
    (PersonalState.conversation_id, PersonalState.user_id, literal_column("0", Integer)),
    PersonalState.change_mark,
)
_OWN = _PERSONAL.where(PersonalState.user_id == bindparam("reader"))
_REMOVED = _since(
    (
        ConversationRemoval.conversation_id,
        ConversationRemoval.user_id,
        ConversationRemoval.was_open,
    ),
    ConversationRemoval.change_mark,
)
_WAYS: Final[Sequence[tuple[Select[Any], type[Touched | Removal]]]] = (
    (_CHANGED, Touched),
    (_PERSONAL, Touched),
    (_REMOVED, Removal),
)


# --- for one reader -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a watch begins with: the conversations, and the ids of those that are gone, as they are
    at `place`; `is_new` if that is not what has changed, but what there is. To the reader nothing
    is new that was said before `unread_since`."""

    place: Place
    conversations: list[ConversationRow]
    removed: list[str]
    is_new: bool
    unread_since: int


_UNREAD_SINCE = select(User.unread_since).where(User.id == bindparam("reader"))


def beginning(s: Session, account_id: str, user_id: str, since: Place | None) -> Beginning:
    """What a user is told first, who has seen all up to a place, or nothing."""
    here = place(s, account_id)
    unread_since = s.run(_UNREAD_SINCE, {"reader": user_id}).scalar_one_or_none() or 0
    changed = None
    if since is not None and _can_go_on(since, here):
        changed = _changed_since(s, user_id, since)
    if changed is None:
        rows = conversations.page(s, limit=BEGINNING, after=None, participant=None)
        return Beginning(here, personal.told(s, rows, user_id), [], True, unread_since)
    touched, removed = changed
    rows = conversations.by_ids(s, [*touched, *removed])
    seen = {row.id for row in rows}
    gone = [conversation_id for conversation_id in removed if conversation_id not in seen]
    return Beginning(here, personal.told(s, rows, user_id), gone, False, unread_since)


def _changed_since(
    s: Session, user_id: str, since: Place
) -> tuple[dict[str, None], dict[str, None]] | None:
    """The ids of conversations that changed, and of those that may be gone; None for too many."""
    values = {"since": since.horizon, "size": MAX_CHANGES}
    touched: dict[str, None] = {}
    for rows in (s.run(_CHANGED, values), s.run(_OWN, {**values, "reader": user_id})):
        touched.update((row[0], None) for row in rows)
    removed = dict.fromkeys(row[0] for row in s.run(_REMOVED, values))
    if max(len(touched), len(removed)) >= MAX_CHANGES:
        return None
    return touched, removed


# --- for all readers of an account ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Item:
    """A conversation of which something changed, with all from which it is made out who is to be
    told what. `row` is None when it is deleted. It `is_changed` for all, or for `users` alone."""

    conversation_id: str
    row: ConversationRow | None
    newest: Sequence[Readable]
    states: dict[str, State]
    removals: Sequence[Removal]
    is_changed: bool
    users: frozenset[str]


@dataclass(frozen=True, slots=True)
class News:
    """What changed in an account up to `place`. `known` is what may be found once more by who goes
    on from there. Without `items` it was too much to be read at once."""

    place: Place
    items: Sequence[Item] | None
    known: frozenset[Touched | Removal]


def news(s: Session, account_id: str, since: Place, known: frozenset[Touched | Removal]) -> News:
    """What changed since a place, but for what is known."""
    here = place(s, account_id)
    # What is known takes no room from what is not.
    values = {"since": since.horizon, "size": MAX_CHANGES + len(known)}
    found: set[Touched | Removal] = set()
    for way, kind in _WAYS:
        found.update(kind._make(row) for row in s.run(way, values))
    again = frozenset(each for each in found if each.mark >= here.horizon)
    fresh = found - known
    if since.lineage != here.lineage or len(fresh) >= MAX_CHANGES:
        return News(here, None, again)
    return News(here, _items(s, fresh), again)


_ROWS = (
    select_conversations()
    .add_columns(personal.is_replying)
    .where(Conversation.id.in_(bindparam("wanted", expanding=True)))
)
_STATES = select(
    PersonalState.conversation_id,
    PersonalState.user_id,
    PersonalState.pinned,
    PersonalState.read_position,
).where(PersonalState.conversation_id.in_(bindparam("wanted", expanding=True)))


def _items(s: Session, fresh: Collection[Touched | Removal]) -> list[Item]:
    """The conversations that are behind some news, as they stand."""
    ids = sorted({each.conversation_id for each in fresh})
    if not ids:
        return []
    rows = {}
    for found in s.run(_ROWS, {"wanted": ids}):
        row = conversation_without_participants(found[:-1])._replace(replying=bool(found[-1]))
        rows[row.id] = row
    rows = {row.id: row for row in with_participants(s, list(rows.values()))}
    # Asked for one by one, as a database reads no more than is wanted of each; together on the way.
    asked = {each: s.send(personal.NEWEST, {"conversation": each}) for each in rows}
    states: dict[str, dict[str, State]] = {each: {} for each in ids}
    for conversation_id, user_id, *state in s.run(_STATES, {"wanted": ids}):
        states[conversation_id][user_id] = State._make(state)
    touched: dict[str, set[str]] = {each: set() for each in ids}
    removed: dict[str, list[Removal]] = {each: [] for each in ids}
    for one in fresh:
        if isinstance(one, Removal):
            removed[one.conversation_id].append(one)
        else:
            touched[one.conversation_id].add(one.user_id)
    return [
        Item(
            each,
            rows.get(each),
            [Readable._make(found) for found in asked[each]()] if each in asked else (),
            states[each],
            removed[each],
            is_changed="" in touched[each] or bool(removed[each]),
            users=frozenset(touched[each]),
        )
        for each in ids
    ]

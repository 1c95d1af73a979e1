"""Which conversations a member sees, found without looking at those that the member does not.

With the conditions of `audience.py` alone a database would go through all conversations of the
account in turn, as most of those that it meets are seen by most people. These statements say the
same by three ways that each have an index: what the whole account sees, what the member made, and
what the member takes part in. What is found by them is read with the conditions all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from heapq import nlargest
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Text,
    and_,
    bindparam,
    func,
    literal_column,
    select,
    tuple_,
)

from colloquy_server.database.audience import table_of
from colloquy_server.database.models import Conversation, Membership, User
from colloquy_server.database.repository.personal import is_pinned
from colloquy_server.database.scope import of_account
from colloquy_server.database.transactions import Session

_place = (Conversation.activity_time, Conversation.id)
_is_open = Conversation.visibility == literal_column("1")
_is_closed = Conversation.visibility == literal_column("2")
_behind = tuple_(*_place) < tuple_(
    bindparam("time", type_=BigInteger), bindparam("after", type_=Text)
)
_part = table_of(Membership).alias("part")
# Asked of each conversation that is seen. As an EXISTS, Postgres may begin with all in which the
# participant takes part, and how long that takes would tell of those that are hidden.
_has_participant = select(func.count()).select_from(_part).where(
    _part.c.account_id == Conversation.account_id,
    _part.c.conversation_id == Conversation.id,
    _part.c.user_id == bindparam("participant"),
    _part.c.is_removed.is_(False),
).correlate(Conversation).scalar_subquery() > literal_column("0", Integer)


def _open(*more: ColumnElement[bool]) -> Select[int, str]:
    return select(*_place).where(_is_open, *more)


def _made(*more: ColumnElement[bool]) -> Select[int, str]:
    is_own = Conversation.creator_id == bindparam("viewer")
    return select(*_place).where(_is_closed, is_own, *more)


def _joined(*more: ColumnElement[bool]) -> Select[int, str]:
    """Begins with the memberships, as an outer join has to: SQLite would else go through the
    account's conversations in the order of the list. It has a row without a conversation for each
    that is not wanted."""
    is_wanted = and_(
        Conversation.id == Membership.conversation_id,
        of_account(Conversation),
        *more,
    )
    return (
        select(*_place)
        .select_from(Membership)
        .outerjoin(Conversation, is_wanted)
        .where(Membership.user_id == bindparam("viewer"), Membership.is_removed.is_(False))
    )


def _joined_closed(*more: ColumnElement[bool]) -> Select[int, str]:
    return _joined(_is_closed, *more)


_newest_first = tuple(column.desc() for column in _place)
_newest_first_of_joined = tuple(order.nulls_last() for order in _newest_first)
_ORDERS = (
    (_open, _newest_first),
    (_made, _newest_first),
    (_joined_closed, _newest_first_of_joined),
)


class _Of(Enum):
    """Whose conversations are looked for: all, or those in which somebody takes part."""

    ALL = auto()
    PERSON = auto()
    VIEWER = auto()


def _ways(of: _Of, *more: ColumnElement[bool]) -> list[Select[int, str]]:
    size = bindparam("size", type_=Integer)
    if of is _Of.VIEWER:  # each of them is seen
        return [_joined(*more).order_by(*_newest_first_of_joined).limit(size)]
    if of is _Of.PERSON:
        more = (*more, _has_participant)
    return [way(*more).order_by(*order).limit(size) for way, order in _ORDERS]


@dataclass(frozen=True, slots=True)
class Only:
    """Which conversations are wanted: those that are archived, or pinned by the reader, or are not;
    None for both."""

    archived: bool | None = None
    pinned: bool | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same in SQL."""
        wanted: list[ColumnElement[bool]] = []
        if self.archived is not None:
            wanted.append(Conversation.archived.is_(self.archived))
        if self.pinned is not None:
            wanted.append(is_pinned if self.pinned else ~is_pinned)
        return wanted


ALL: Final = Only()
EVERY_KIND: Final = tuple(
    Only(archived, pinned) for archived in (None, False, True) for pinned in (None, False, True)
)
_WAYS = {
    (of, is_later, only): _ways(of, *([_behind] if is_later else []), *only.conditions())
    for of in _Of
    for is_later in (False, True)
    for only in EVERY_KIND
}
"""By whose conversations are wanted, whether it is a later page, and which of them."""
_PERSON = select(User.id).where(User.external_id == bindparam("wanted"))


def newest(
    s: Session,
    values: Mapping[str, object],
    *,
    after: tuple[int, str] | None,
    participant: str | None,
    only: Only = ALL,
) -> list[str]:
    """The conversations that the viewer sees, by latest activity, the newest first, behind `after`,
    an (activity_time, id); those in which the user takes part whose external_id is `participant`,
    or all. `values` are the `size` of the page and what `only` needs."""
    values = {**values, "viewer": s.viewer_id}
    if after is not None:
        values |= {"time": after[0], "after": after[1]}
    of = _Of.ALL
    if participant is not None:
        # For nobody it is looked for all the same.
        person = s.run(_PERSON, {"wanted": participant}).scalar_one_or_none() or ""
        of = _Of.VIEWER if person == s.viewer_id else _Of.PERSON
        values["participant"] = person
    found: set[tuple[int, str]] = set()
    for rows in _each_way(s, values, _WAYS[of, after is not None, only]):
        found.update((row[0], row[1]) for row in rows)
    return [conversation_id for _, conversation_id in nlargest(int(str(values["size"])), found)]


def few(s: Session, limit: int) -> list[str] | None:
    """All conversations that the viewer sees; None when they are more than `limit`."""
    found: set[str] = set()
    for rows in _each_way(
        s, {"size": limit + 1, "viewer": s.viewer_id}, _WAYS[_Of.ALL, False, ALL]
    ):
        found.update(row[1] for row in rows)
        if len(found) > limit:
            return None
    return sorted(found)


def _each_way(
    s: Session, values: Mapping[str, object], ways: Iterable[Select[int, str]]
) -> Iterator[Any]:
    for way in ways:
        with s.unlimited():  # each says itself what the viewer sees
            rows = s.run(way, values)
        yield [row for row in rows if row[0] is not None]

"""Full-text search in what was said: SQLite's FTS5, or a tsvector on Postgres.

`database.tokenizer` makes the terms for both, so that both find the same and no query has a syntax.
Each entry also has its account and its conversation as terms, so that a search reads only its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    bindparam,
    column,
    delete,
    func,
    select,
    table,
    text,
)

from colloquy_server.database.models import Conversation, Message, SearchEntry, User
from colloquy_server.database.repository import attachments, seen
from colloquy_server.database.rows import MESSAGE, USER, MessageRow, author_of_message, message
from colloquy_server.database.transactions import Session
from colloquy_server.errors import NotFound

_terms = table("search_words", column("rowid"), column("number"), column("words"))

Shaped = TypeVar("Shaped")
V = TypeVar("V")

_VALUES = 500
"""Values in a statement; SQLite may take no more than 999."""

_FEW = 500
"""Conversations that a search names one by one."""

_READ_AT_ONCE = 16
"""Messages that are read at a time, because each may have 1 MiB."""


def _number(s: Session) -> ColumnElement[int]:
    """The terms' column with their entry's number."""
    return _terms.c.rowid if s.is_sqlite else _terms.c.number


def owner_term(identifier: str) -> str:
    """An id as one term that no text holds: terms end at 64 characters, and this is longer."""
    return identifier.replace("-", "") + "0" * 64


def forget(s: Session, conversation_ids: Collection[str]) -> None:
    """Takes conversations out of the search, which are to be deleted in this transaction."""
    key = _number(s)
    for of_these in _batched(sorted(conversation_ids)):
        # Waits for entries that are being made, and keeps off more: see `indexing`.
        s.run(
            select(Conversation.id)
            .where(Conversation.id.in_(of_these))
            .order_by(Conversation.id)
            .with_for_update()
        )
        entries = select(SearchEntry.number).where(SearchEntry.conversation_id.in_(of_these))
        for part in _batched(list(s.run(entries).scalars())):
            s.run(delete(_terms).where(key.in_(part)))
            s.run(delete(SearchEntry).where(SearchEntry.number.in_(part)))


def forget_messages(s: Session, conversation_id: str, message_ids: Collection[str]) -> None:
    """Takes messages out of the search, which are being deleted in this transaction."""
    s.run(select(Conversation.id).where(Conversation.id == conversation_id).with_for_update())
    for of_these in _batched(sorted(message_ids)):
        entries = select(SearchEntry.number).where(SearchEntry.message_id.in_(of_these))
        numbers = list(s.run(entries).scalars())
        s.run(delete(_terms).where(_number(s).in_(numbers)))
        s.run(delete(SearchEntry).where(SearchEntry.number.in_(numbers)))


def _batched(values: Collection[V]) -> Iterator[list[V]]:
    """Some values at a time: no database takes a statement with any number of them."""
    given = list(values)
    for start in range(0, len(given), _VALUES):
        yield given[start : start + _VALUES]


_EXISTS = select(Conversation.id).where(Conversation.id == bindparam("wanted"))


def find(
    s: Session,
    account_id: str,
    wanted: list[list[str]],
    conversation_id: str,
    *,
    limit: int,
    max_bytes: int,
    shape: Callable[[MessageRow], tuple[Shaped, int]],
    after: str,
) -> tuple[list[Shaped], bool]:
    """Messages that hold all `wanted` phrases, newest first, behind the message `after` if there is
    one, and whether more follow. Each comes as what `shape` makes of it, which also says how many
    bytes that takes. The page ends before `max_bytes`, but holds at least one message.

    Raises NotFound when there is no such conversation.
    """
    if conversation_id and not s.run(_EXISTS, {"wanted": conversation_id}).one_or_none():
        raise NotFound("CONVERSATION")
    owners = _owners(s, account_id, conversation_id)
    kind = "sqlite" if s.is_sqlite else "postgres"
    values: dict[str, object] = {}
    if len(owners) > 1 and not s.is_sqlite:
        kind = "postgres, few"
        values = {"owners": " ".join(owners)}
    values["query"] = _query(s, wanted, [] if "owners" in values else owners)
    before = _number_of(s, after) if after else None
    hits: list[Shaped] = []
    room = max_bytes
    while wanted and owners:
        statement = _FIND[kind, before is not None]
        rows = s.run(statement, {**values, "before": before}).all()
        found = attachments.load(s, [message(row[1:]) for row in rows])
        for said in found:
            shaped, size = shape(said)
            room -= size
            if hits and (room < 0 or len(hits) == limit):
                return hits, True
            hits.append(shaped)
        if len(rows) < _READ_AT_ONCE:
            break
        before = rows[-1][0]
    return hits, False


_NUMBER = select(SearchEntry.number).where(SearchEntry.message_id == bindparam("wanted"))
_NEXT_NUMBER = select(func.min(SearchEntry.number)).where(
    SearchEntry.message_id > bindparam("wanted")
)


def _number_of(s: Session, message_id: str) -> int | None:
    """The number of a message's entry: callers are not told it, as it counts what everybody says.
    Of one that was deleted meanwhile that of the next one, None when it was the newest."""
    values = {"wanted": message_id}
    found = s.run(_NUMBER, values).scalar_one_or_none()
    return found or s.run(_NEXT_NUMBER, values).scalar_one()  # type: ignore[no-any-return]


def _owners(s: Session, account_id: str, conversation_id: str) -> list[str]:
    """The terms of which an entry has one in which is searched. Where a member sees few
    conversations, those: hits in all others of the account would be read in vain."""
    if conversation_id:
        return [owner_term(conversation_id)]
    few = seen.few(s, _FEW) if s.viewer_id else None
    return [owner_term(each) for each in ([account_id] if few is None else few)]


def _query(s: Session, wanted: list[list[str]], owners: list[str]) -> str:
    """What is searched for, as the database has it, in entries of one of the owners if there are
    any. Terms are letters and digits, so nothing needs escaping."""
    if s.is_sqlite:
        asked = " ".join(f'"{" ".join(phrase)}"' for phrase in wanted)
        owned = " OR ".join(f'"{owner}"' for owner in owners)
        return f"owner : ({owned}) AND words : ({asked})"
    phrases = [" <-> ".join(f"'{term}'" for term in phrase) for phrase in wanted]
    if owners:
        phrases.append(" | ".join(f"'{owner}'" for owner in owners))
    return " & ".join(f"({part})" for part in phrases)


_CONDITIONS = {
    "sqlite": "search_words MATCH :query",
    "postgres": "search_words.words @@ CAST(:query AS tsquery)",
    # Each owner's entries by the index, then all hits among them: of one query with many owners
    # Postgres expects so many that it would look through all entries of all accounts.
    "postgres, few": "search_words.number = ANY (ARRAY(SELECT hits.number FROM"
    " (SELECT own.number, own.words"
    " FROM unnest(CAST(string_to_array(:owners, ' ') AS tsquery[])) AS asked(owner)"
    " JOIN search_words AS own ON own.words @@ asked.owner OFFSET 0) AS hits"
    " WHERE hits.words @@ CAST(:query AS tsquery)))",
}


def _find(kind: str, *, is_later: bool) -> Select[*tuple[Any, ...]]:
    number = _terms.c.rowid if kind == "sqlite" else _terms.c.number
    statement = (
        select(SearchEntry.number, *MESSAGE, *USER)
        .join(_terms, number == SearchEntry.number)
        .join(Message, Message.id == SearchEntry.message_id)
        .outerjoin(User, author_of_message)
        .where(text(_CONDITIONS[kind]))
        .order_by(number.desc())  # the terms' own order: by the entries' all hits would be sorted
        .limit(_READ_AT_ONCE)
    )
    if is_later:
        statement = statement.where(number < bindparam("before", type_=BigInteger))
    return statement


_FIND = {
    (kind, is_later): _find(kind, is_later=is_later)
    for kind in _CONDITIONS
    for is_later in (False, True)
}
"""By the kind of condition, and whether it is for a later page."""

"""Full-text search in what was said: SQLite's FTS5, or a tsvector on Postgres.

`database.tokenizer` makes the terms for both, so that both find the same and no query has a syntax.
Each entry also has its account and its conversation as terms, so that a search reads only its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, bindparam, column, delete, select, table, text

from colloquy_server.database.models import Conversation, Message, SearchEntry, User
from colloquy_server.database.repository import attachments
from colloquy_server.database.rows import MESSAGE, USER, MessageRow, author_of_message, message
from colloquy_server.database.transactions import Session
from colloquy_server.errors import NotFound

_terms = table("search_words", column("rowid"), column("number"), column("words"))

Shaped = TypeVar("Shaped")
V = TypeVar("V")

_VALUES = 500
"""Values in a statement; SQLite may take no more than 999."""

_READ_AT_ONCE = 16
"""Messages that are read at a time, because each may have 1 MiB."""


@dataclass(frozen=True, slots=True)
class Hit(Generic[Shaped]):
    """A message that was found, as it was shaped; `number` is its place, as `indexing` gave it:
    newer ones have larger numbers."""

    number: int
    message: Shaped


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
    before: int | None,
) -> tuple[list[Hit[Shaped]], bool]:
    """Messages that hold all `wanted` phrases, newest first, before the place `before`, and
    whether more follow. Each comes as what `shape` makes of it, which also says how many bytes that
    takes. The page ends before `max_bytes`, but holds at least one message.

    Raises NotFound when there is no such conversation.
    """
    if conversation_id and not s.run(_EXISTS, {"wanted": conversation_id}).one_or_none():
        raise NotFound("CONVERSATION")
    statement = _statement(s, wanted, owner_term(conversation_id or account_id))
    hits: list[Hit[Shaped]] = []
    room = max_bytes
    while wanted:
        page = statement if before is None else statement.where(_number(s) < before)
        rows = s.run(page).all()
        found = attachments.load(s, [message(row[1:]) for row in rows])
        for row, said in zip(rows, found, strict=True):
            shaped, size = shape(said)
            room -= size
            if hits and (room < 0 or len(hits) == limit):
                return hits, True
            hits.append(Hit(row[0], shaped))
        if len(rows) < _READ_AT_ONCE:
            break
        before = rows[-1][0]
    return hits, False


def _statement(s: Session, wanted: list[list[str]], owner: str) -> Select[*tuple[Any, ...]]:
    if s.is_sqlite:
        asked = " ".join(f'"{" ".join(phrase)}"' for phrase in wanted)
        condition, query = "search_words MATCH :query", f'owner : "{owner}" AND words : ({asked})'
    else:
        parts = (" <-> ".join(f"'{term}'" for term in phrase) for phrase in wanted)
        condition = "search_words.words @@ CAST(:query AS tsquery)"
        query = " & ".join([f"'{owner}'", *(f"({part})" for part in parts)])
    number = _number(s)
    return (
        select(SearchEntry.number, *MESSAGE, *USER)
        .join(_terms, number == SearchEntry.number)
        .join(Message, Message.id == SearchEntry.message_id)
        .outerjoin(User, author_of_message)
        .where(text(condition).bindparams(query=query))
        .order_by(number.desc())  # the terms' own order: by the entries' all hits would be sorted
        .limit(_READ_AT_ONCE)
    )

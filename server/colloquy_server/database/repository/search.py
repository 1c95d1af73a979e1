"""Full-text search in what was said: SQLite's FTS5, or a tsvector on Postgres.

`database.tokenizer` makes the terms for both, so that both find the same and no query has a syntax.
Each entry also has its account and its conversation as terms, so that a search reads only its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, column, delete, insert, select, table, text

from colloquy_server.database.models import Conversation, Message, SearchEntry, User
from colloquy_server.database.repository import attachments
from colloquy_server.database.repository.changes import NO_SYNC
from colloquy_server.database.rows import MESSAGE, USER, MessageRow, author_of_message, message
from colloquy_server.database.tokenizer import searchable
from colloquy_server.database.transactions import Session
from colloquy_server.errors import NotFound

_terms = table("search_words", column("rowid"), column("number"), column("words"))

# Every message needs these: they are built once, and without what the ORM adds.
_ENTRY = insert(SearchEntry.__table__).returning(SearchEntry.number)  # type: ignore[arg-type]
_SQLITE_TERMS = text("INSERT INTO search_words (rowid, words, owner) VALUES (:n, :w, :o)")
_POSTGRES_TERMS = text("INSERT INTO search_words (number, words) VALUES (:n, CAST(:w AS tsvector))")

V = TypeVar("V")

_VALUES = 500
"""Values in a statement; SQLite may take no more than 999."""

_READ_AT_ONCE = 16
"""Messages that are read at a time, because each may have 1 MiB."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A message that was found; `number` is its place: newer ones have larger numbers."""

    number: int
    message: MessageRow


def _is_sqlite(s: Session) -> bool:
    return s.get_bind().dialect.name == "sqlite"


def _number(s: Session) -> ColumnElement[int]:
    """The terms' column with their entry's number."""
    return _terms.c.rowid if _is_sqlite(s) else _terms.c.number


def _owner(identifier: str) -> str:
    """An id as one term that no text holds: terms end at 64 characters, and this is longer."""
    return identifier.replace("-", "") + "0" * 64


def enter(s: Session, account_id: str, conversation_id: str, message_id: str, content: str) -> None:
    """Makes a finished message findable; one without terms is not."""
    found = [term.text for term in searchable(content)]
    if not found:
        return
    values = {
        "account_id": account_id,
        "conversation_id": conversation_id,
        "message_id": message_id,
    }
    connection = s.connection()
    number = connection.execute(_ENTRY, values).scalar_one()
    owners = [_owner(account_id), _owner(conversation_id)]
    if _is_sqlite(s):
        given = {"n": number, "w": " ".join(found), "o": " ".join(owners)}
        connection.execute(_SQLITE_TERMS, given)
    else:
        connection.execute(_POSTGRES_TERMS, {"n": number, "w": _vector(found, owners)})


def enter_all(s: Session, messages: Iterable[MessageRow]) -> None:
    """Makes finished messages findable."""
    for row in messages:
        enter(s, row.account_id, row.conversation_id, row.id, row.content)


def _vector(found: list[str], owners: list[str]) -> str:
    """The text form of a tsvector. Terms are letters and digits, so nothing needs escaping."""
    places: dict[str, list[str]] = {}
    for place, term in enumerate(found, 1):
        places.setdefault(term, []).append(str(place))
    lexemes = [f"'{term}':{','.join(where[:255])}" for term, where in places.items()]
    return " ".join([*lexemes, *(f"'{owner}'" for owner in owners)])


def forget(s: Session, conversation_ids: Collection[str]) -> None:
    """Takes conversations out of the search."""
    key = _number(s)
    for of_these in _batched(conversation_ids):
        entries = select(SearchEntry.number).where(SearchEntry.conversation_id.in_(of_these))
        for part in _batched(list(s.scalars(entries))):
            s.connection().execute(delete(_terms).where(key.in_(part)))
            s.execute(
                delete(SearchEntry).where(SearchEntry.number.in_(part)), execution_options=NO_SYNC
            )


def _batched(values: Collection[V]) -> Iterator[list[V]]:
    """Some values at a time: no database takes a statement with any number of them."""
    given = list(values)
    for start in range(0, len(given), _VALUES):
        yield given[start : start + _VALUES]


def find(
    s: Session,
    account_id: str,
    wanted: list[list[str]],
    conversation_id: str,
    *,
    limit: int,
    max_bytes: int,
    size: Callable[[MessageRow], int],
    before: int | None,
) -> tuple[list[Hit], bool]:
    """Messages that hold all `wanted` phrases, newest first, before the place `before`, and
    whether more follow. The page ends before `max_bytes`, of which each message takes its `size`,
    but holds at least one message.

    Raises NotFound when there is no such conversation.
    """
    if conversation_id and not s.scalar(
        select(Conversation.id).where(Conversation.id == conversation_id)
    ):
        raise NotFound("CONVERSATION")
    statement = _statement(s, wanted, _owner(conversation_id or account_id))
    hits: list[Hit] = []
    room = max_bytes
    while wanted:
        page = statement if before is None else statement.where(_number(s) < before)
        rows = s.run(page).all()
        found = attachments.load(s, [message(row[1:]) for row in rows])
        for row, said in zip(rows, found, strict=True):
            room -= size(said)
            if hits and (room < 0 or len(hits) == limit):
                return hits, True
            hits.append(Hit(row[0], said))
        if len(rows) < _READ_AT_ONCE:
            break
        before = rows[-1][0]
    return hits, False


def _statement(s: Session, wanted: list[list[str]], owner: str) -> Select[*tuple[Any, ...]]:
    if _is_sqlite(s):
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

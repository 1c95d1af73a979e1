"""Making finished messages findable: their entries and terms for search, after the fact.

Whoever changes a conversation only moves its `version`. What is due is read off that later: the
finished messages behind `searchable_version` that have no entry yet. Three steps, so that nobody
waits for the tokenizer: `due` reads, `Batch.entries` computes, `index` writes.

`index` may be run twice, by two processes at once, and again after a crash: an entry is made once,
and `searchable_version` never passes what was read. On Postgres sends and entries do not wait for
each other: entries take a lock that only a deletion minds (`search.forget`), and a mark is left out
when somebody is changing the conversation, which then stays due.

Entries are numbered in the order in which they are made, and within a batch in that of what was
said. So newer messages have larger numbers, but for a message that another process enters a moment
before an older one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Integer, Table, bindparam, func, select, text
from sqlalchemy.dialects import postgresql, sqlite

from colloquy_server.database.models import Conversation, Message, SearchEntry, State
from colloquy_server.database.repository.search import owner_term
from colloquy_server.database.tokenizer import searchable
from colloquy_server.database.transactions import Session

_CONVERSATIONS: Final = 200
_MESSAGES: Final = 100
_CHARACTERS: Final = 1 << 18
"""Conversations that are looked through at a time, and messages and characters that are entered in
one transaction: on SQLite every other write waits for it. One message is always taken, whatever its
length."""


def _table(model: type[Conversation | Message | SearchEntry]) -> Table:
    table = model.__table__
    assert isinstance(table, Table)
    return table


_conversations = _table(Conversation).c
_messages = _table(Message).c
_entries = _table(SearchEntry).c

_DUE = (
    select(_conversations.id, _conversations.version)
    .where(_conversations.version > _conversations.searchable_version)
    .order_by(_conversations.activity_time)
    .limit(bindparam("count", type_=Integer))
)
_UNENTERED = (
    select(
        _messages.id,
        _messages.account_id,
        _messages.conversation_id,
        _messages.version,
        _messages.create_time,
        _messages.position,
        func.length(_messages.content).label("length"),
    )
    .join(_table(Conversation), _conversations.id == _messages.conversation_id)
    .where(
        _conversations.id.in_(bindparam("conversations", expanding=True)),
        _messages.version > _conversations.searchable_version,
        _messages.state > State.GENERATING,
        _messages.content != "",
        ~select(_entries.number).where(_entries.message_id == _messages.id).exists(),
    )
    .order_by(_messages.conversation_id, _messages.version, _messages.position)
    .limit(_MESSAGES + 1)
)
_TEXTS = select(_messages.id, _messages.content).where(
    _messages.id.in_(bindparam("messages", expanding=True))
)

_KEPT = select(_messages.id).where(
    _messages.id.in_(bindparam("messages", expanding=True)), _messages.deleted.is_(False)
)

_HELD = (
    select(_conversations.id)
    .where(_conversations.id.in_(bindparam("conversations", expanding=True)))
    .order_by(_conversations.id)
)
_HOLD = _HELD.with_for_update(read=True, key_share=True)
_HOLD_TO_MARK = _HELD.with_for_update(key_share=True, skip_locked=True)
_SQLITE_MARK = (
    _table(Conversation)
    .update()
    .where(
        _conversations.id == bindparam("conversation"),
        _conversations.searchable_version < bindparam("reached"),
    )
    .values(searchable_version=bindparam("reached"))
)
_SQLITE_ENTRY = sqlite.insert(_table(SearchEntry)).on_conflict_do_nothing()
_POSTGRES_ENTRY = postgresql.insert(_table(SearchEntry)).on_conflict_do_nothing()
_SQLITE_TERMS = text("INSERT INTO search_words (rowid, words, owner) VALUES (:n, :w, :o)")
# On Postgres many rows in one statement: the driver takes as long for each as for a statement.
_POSTGRES_TERMS = text(
    "INSERT INTO search_words (number, words) SELECT number, CAST(words AS tsvector)"
    " FROM unnest(CAST(:numbers AS bigint[]), CAST(:words AS text[])) AS entered (number, words)"
)
_POSTGRES_MARK = text(
    "UPDATE conversations SET searchable_version = marks.reached"
    " FROM unnest(CAST(:ids AS text[]), CAST(:reached AS bigint[])) AS marks (id, reached)"
    " WHERE conversations.id = marks.id AND conversations.searchable_version < marks.reached"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """What makes a message findable: `terms` in the form in which its database keeps them, empty
    when the message has none."""

    message_id: str
    account_id: str
    conversation_id: str
    terms: str


@dataclass(frozen=True, slots=True)
class Text:
    """A finished message that has no entry."""

    message_id: str
    account_id: str
    conversation_id: str
    content: str


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be entered now, in the order of what was said, and the version up to which each
    conversation is then searchable. `is_cut` when there is more."""

    texts: tuple[Text, ...]
    reached: Mapping[str, int]
    is_cut: bool
    for_sqlite: bool

    def entries(self) -> list[Entry]:
        """The entries of the texts. This computes for some milliseconds a text."""
        return [
            Entry(text.message_id, text.account_id, text.conversation_id, self._terms(text))
            for text in self.texts
        ]

    def _terms(self, text: Text) -> str:
        found = [term.text for term in searchable(text.content)]
        if self.for_sqlite or not found:
            return " ".join(found)
        return _vector(found, [owner_term(text.account_id), owner_term(text.conversation_id)])

    def of(self, conversation_id: str) -> Batch:
        """The part of one conversation."""
        texts = (text for text in self.texts if text.conversation_id == conversation_id)
        reached = {conversation_id: self.reached[conversation_id]}
        return Batch(tuple(texts), reached, self.is_cut, self.for_sqlite)


def due(s: Session, left_out: Collection[str] = ()) -> Batch:
    """What is to be entered now, in conversations of all accounts but those `left_out`."""
    most = _CONVERSATIONS + len(left_out)
    found = s.connection().execute(_DUE, {"count": most}).all()
    versions = {row.id: row.version for row in found if row.id not in left_out}
    if not versions:
        return Batch((), {}, False, s.is_sqlite)
    rows = s.connection().execute(_UNENTERED, {"conversations": list(versions)}).all()
    taken, room = 0, _CHARACTERS
    for row in rows[:_MESSAGES]:
        room -= row.length
        if taken and room < 0:
            break
        taken += 1
    reached = versions
    if taken < len(rows):
        next_one = rows[taken]
        reached = {row.conversation_id: versions[row.conversation_id] for row in rows[:taken]}
        if next_one.conversation_id in reached:
            reached[next_one.conversation_id] = next_one.version - 1
    rows = sorted(rows[:taken], key=lambda row: (row.create_time, row.position, row.id))
    contents = _contents(s, [row.id for row in rows])
    texts = (Text(row.id, row.account_id, row.conversation_id, contents[row.id]) for row in rows)
    return Batch(tuple(texts), reached, reached is not versions or len(found) == most, s.is_sqlite)


def _contents(s: Session, message_ids: list[str]) -> dict[str, str]:
    if not message_ids:
        return {}
    rows = s.connection().execute(_TEXTS, {"messages": message_ids})
    return {row.id: row.content for row in rows}


def index(s: Session, entries: Sequence[Entry], reached: Mapping[str, int]) -> bool:
    """Makes messages findable and notes how far their conversations are searchable; says whether
    there was anything to do. What was deleted, or has an entry by now, is left out."""
    held = hold(s, {entry.conversation_id for entry in entries})
    # Asked for while they are held: a message may be deleted whose conversation stays.
    kept = _kept(s, [entry.message_id for entry in entries if entry.conversation_id in held])
    entered = enter(s, [entry for entry in entries if entry.message_id in kept])
    return entered + mark(s, reached) > 0


def hold(s: Session, conversation_ids: Collection[str]) -> set[str]:
    """Keeps conversations from being deleted before this transaction ends, and waits for what is
    deleting them; returns those that are there."""
    if not conversation_ids:
        return set()
    rows = s.connection().execute(_HOLD, {"conversations": list(conversation_ids)})
    return set(rows.scalars())


def _kept(s: Session, message_ids: list[str]) -> set[str]:
    """Those of the messages that are not deleted."""
    if not message_ids:
        return set()
    return set(s.connection().execute(_KEPT, {"messages": message_ids}).scalars())


def enter(s: Session, entries: Sequence[Entry]) -> int:
    """Makes entries of messages whose conversations this transaction holds; returns how many
    there were not yet."""
    if not entries:
        return 0
    for_sqlite = s.is_sqlite
    insert = _SQLITE_ENTRY if for_sqlite else _POSTGRES_ENTRY
    # All in one order, so that two processes that enter the same cannot deadlock.
    made = s.connection().execute(
        insert.returning(_entries.message_id, _entries.number),
        [
            {
                "message_id": entry.message_id,
                "account_id": entry.account_id,
                "conversation_id": entry.conversation_id,
            }
            for entry in entries
        ],
    )
    numbers = {row.message_id: row.number for row in made}
    terms = [
        (numbers[entry.message_id], entry)
        for entry in entries
        if entry.terms and entry.message_id in numbers
    ]
    if terms and for_sqlite:
        rows = [{"n": number, "w": entry.terms, "o": _owners(entry)} for number, entry in terms]
        s.connection().execute(_SQLITE_TERMS, rows)
    elif terms:
        words = [entry.terms for _, entry in terms]
        values = {"numbers": [number for number, _ in terms], "words": words}
        s.connection().execute(_POSTGRES_TERMS, values)
    return len(numbers)


def mark(s: Session, reached: Mapping[str, int]) -> int:
    """Notes up to which version conversations are searchable, but for those that somebody is
    changing right now; returns how many. Never takes anything back."""
    rows = s.connection().execute(_HOLD_TO_MARK, {"conversations": list(reached)})
    marks = list(rows.scalars())
    if marks and s.is_sqlite:
        values = [{"conversation": each, "reached": reached[each]} for each in marks]
        s.connection().execute(_SQLITE_MARK, values)
    elif marks:
        versions = [reached[each] for each in marks]
        s.connection().execute(_POSTGRES_MARK, {"ids": marks, "reached": versions})
    return len(marks)


def _owners(entry: Entry) -> str:
    return f"{owner_term(entry.account_id)} {owner_term(entry.conversation_id)}"


def _vector(found: list[str], owners: list[str]) -> str:
    """The text form of a tsvector. Terms are letters and digits, so nothing needs escaping."""
    places: dict[str, list[str]] = {}
    for place, term in enumerate(found, 1):
        places.setdefault(term, []).append(str(place))
    lexemes = [f"'{term}':{','.join(where[:255])}" for term, where in places.items()]
    return " ".join([*lexemes, *(f"'{owner}'" for owner in owners)])

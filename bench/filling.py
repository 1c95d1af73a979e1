"""Fills a server's and a floor's tables with conversations that were held already.

What the server's tables need beside this is what their columns have as defaults.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from colloquy_server.database.engine import sync_engine
from colloquy_server.database.models import (
    Conversation,
    Message,
    Role,
    SearchEntry,
    State,
    User,
    new_id,
)
from sqlalchemy import Connection, Table, func, insert, select, text

from bench import instant
from bench.replies import PROMPT

_ROWS = 5_000
"""In a transaction, so that the server, which runs already, gets its turn in between."""

_SQLITE_TERMS = text("INSERT INTO search_words (rowid, words, owner) VALUES (:n, :w, :o)")
_POSTGRES_TERMS = text("INSERT INTO search_words (number, words) VALUES (:n, CAST(:w AS tsvector))")
_TIME = 1_800_000_000_000_000
"""At which all was said, in microseconds since 1970."""


def fill_server(database_url: str, conversations: int, exchanges: int) -> list[str]:
    """Makes conversations of the database's one account; returns their ids."""
    engine = sync_engine(database_url)
    ids = [new_id() for _ in range(conversations)]
    with engine.begin() as connection:
        user = connection.execute(select(User.id, User.account_id)).one()
        made = [_conversation(user.account_id, each, 2 * exchanges) for each in ids]
        connection.execute(insert(_table(Conversation)), made)
    rows = _messages(ids, exchanges, user.account_id, user.id)
    while some := list(islice(rows, _ROWS)):
        with engine.begin() as connection:
            connection.execute(insert(_table(Message)), some)
            _enter(connection, some)
    engine.dispose()
    return ids


def _table(model: Any) -> Table:
    table: Table = model.__table__
    return table


def _conversation(account_id: str, conversation_id: str, messages: int) -> dict[str, Any]:
    return {
        "id": conversation_id,
        "account_id": account_id,
        "title": "Bench",
        "title_by_user": True,
        "model": "bench",
        "version": messages,
        "searchable_version": messages,
        "message_count": messages,
        "last_position": messages,
        "create_time": _TIME,
        "update_time": _TIME,
        "last_message_time": _TIME,
        "activity_time": _TIME,
    }


def _messages(
    conversation_ids: list[str], exchanges: int, account_id: str, user_id: str
) -> Iterator[dict[str, Any]]:
    for conversation_id in conversation_ids:
        for position in range(1, 2 * exchanges, 2):
            prompt = {
                "id": new_id(),
                "account_id": account_id,
                "conversation_id": conversation_id,
                "position": position,
                "role": Role.USER,
                "author_id": user_id,
                "content": PROMPT,
                "state": State.COMPLETED,
                "version": position,
                "create_time": _TIME,
                "update_time": _TIME,
                "reply_to": None,
                "model": "",
                "attempt": 0,
                "finish_reason": "",
                "input_tokens": None,
                "output_tokens": None,
            }
            yield prompt
            yield {
                **prompt,
                "id": new_id(),
                "position": position + 1,
                "role": Role.ASSISTANT,
                "author_id": None,
                "content": instant.TEXT,
                "version": position + 1,
                "reply_to": prompt["id"],
                "model": "bench",
                "attempt": 1,
                "finish_reason": "stop",
                "input_tokens": 9,
                "output_tokens": 5,
            }


def _enter(connection: Connection, messages: list[dict[str, Any]]) -> None:
    """Makes the messages findable, as the server does with each that is finished."""
    first = (connection.scalar(select(func.max(SearchEntry.number))) or 0) + 1
    entries, terms = [], []
    is_sqlite = connection.dialect.name == "sqlite"
    for number, message in enumerate(messages, first):
        owners = [message["account_id"], message["conversation_id"]]
        owner = " ".join(each.replace("-", "") + "0" * 64 for each in owners)
        words = message["content"].lower().replace(".", "").replace("?", "")
        entries.append(
            {
                "number": number,
                "account_id": message["account_id"],
                "message_id": message["id"],
                "conversation_id": message["conversation_id"],
            }
        )
        vector = " ".join(f"'{word}'" for word in f"{words} {owner}".split())
        terms.append({"n": number, "w": words if is_sqlite else vector, "o": owner})
    connection.execute(insert(_table(SearchEntry)), entries)
    if is_sqlite:
        connection.execute(_SQLITE_TERMS, terms)
        return
    connection.execute(_POSTGRES_TERMS, terms)
    connection.execute(
        text(
            "SELECT setval(pg_get_serial_sequence('search_entries', 'number'),"
            " (SELECT max(number) FROM search_entries))"
        )
    )


def fill_floor(database_url: str, conversations: int, exchanges: int) -> list[str]:
    """Makes conversations of the floor of replies; returns their ids."""
    engine = sync_engine(database_url)
    ids = [new_id() for _ in range(conversations)]
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO conversations VALUES (:id, :count, :count)"),
            [{"id": each, "count": 2 * exchanges} for each in ids],
        )
        connection.execute(
            text("INSERT INTO messages VALUES (:id, :of, :position, :role, :content, 3, 1, 5)"),
            [
                {
                    "id": new_id(),
                    "of": each,
                    "position": position,
                    "role": 1 if position % 2 else 2,
                    "content": PROMPT if position % 2 else instant.TEXT,
                }
                for each in ids
                for position in range(1, 2 * exchanges + 1)
            ],
        )
    engine.dispose()
    return ids

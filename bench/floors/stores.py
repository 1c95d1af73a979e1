"""What the floor of a reply keeps, as durably as the server: two transactions a reply.

The first one locks the conversation and counts its version up, stores prompt and reply, and reads
the history; the second one counts up again and stores the answer. No SQLAlchemy, and no index or
column that those two do without.
"""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol
from uuid import uuid4

import psycopg

CONNECTIONS = 10
"""To Postgres, as many as the server has."""

_TABLES = (
    "CREATE TABLE conversations (id TEXT PRIMARY KEY, version BIGINT, messages BIGINT)",
    (
        "CREATE TABLE messages (id TEXT PRIMARY KEY, conversation_id TEXT, position BIGINT,"
        " role INTEGER, content TEXT, state INTEGER, version BIGINT, output_tokens BIGINT)"
    ),
    "CREATE UNIQUE INDEX messages_position ON messages (conversation_id, position)",
)
_CLAIM = (
    "INSERT INTO conversations (id, version, messages) VALUES (?, 1, 0)"
    " ON CONFLICT (id) DO UPDATE SET version = conversations.version + 1"
    " RETURNING version, messages"
)
_INSERT = "INSERT INTO messages VALUES (?, ?, ?, 1, ?, 3, ?, 0), (?, ?, ?, 2, '', 2, ?, 0)"
_COUNT = "UPDATE conversations SET messages = messages + 2 WHERE id = ?"
_HISTORY = (
    "SELECT role, content FROM messages WHERE conversation_id = ? AND position <= ?"
    " ORDER BY position"
)
_VERSION = "UPDATE conversations SET version = version + 1 WHERE id = ? RETURNING version"
_ANSWER = (
    "UPDATE messages SET content = ?, state = 3, version = ?, output_tokens = ?"
    " WHERE id = ? AND state = 2"
)

History = list[tuple[int, str]]
"""Roles (1 is the user) and contents, oldest first."""


class Store(Protocol):
    """Where the floor's replies are kept."""

    async def begin(self, conversation_id: str, prompt: str) -> tuple[str, History]:
        """Stores a prompt and its reply; returns the reply's id and what the model is told."""

    async def finish(self, conversation_id: str, reply_id: str, text: str, tokens: int) -> None:
        """Stores the answer."""


class SqliteStore:
    """A file in WAL mode with full synchronisation; one thread runs all transactions."""

    def __init__(self, path: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-writer")
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", *_TABLES):
            self._connection.execute(statement)

    async def begin(self, conversation_id: str, prompt: str) -> tuple[str, History]:
        """In the thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._begin, conversation_id, prompt)

    async def finish(self, conversation_id: str, reply_id: str, text: str, tokens: int) -> None:
        """In the thread."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(
            self._thread, self._finish, conversation_id, reply_id, text, tokens
        )

    def _begin(self, conversation_id: str, prompt: str) -> tuple[str, History]:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        version, count = execute(_CLAIM, (conversation_id,)).fetchone()
        values, reply_id = _rows(conversation_id, prompt, version, count)
        execute(_INSERT, values)
        execute(_COUNT, (conversation_id,))
        history = execute(_HISTORY, (conversation_id, count + 1)).fetchall()
        execute("COMMIT")
        return reply_id, history

    def _finish(self, conversation_id: str, reply_id: str, text: str, tokens: int) -> None:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        (version,) = execute(_VERSION, (conversation_id,)).fetchone()
        execute(_ANSWER, (text, version, tokens, reply_id))
        execute("COMMIT")


class PostgresStore:
    """psycopg's own connections, a few of them."""

    def __init__(self) -> None:
        self._free: asyncio.LifoQueue[psycopg.AsyncConnection[Any]] = asyncio.LifoQueue()

    @classmethod
    async def open(cls, url: str) -> PostgresStore:
        """Makes the tables, and connects."""
        store = cls()
        for number in range(CONNECTIONS):
            connection = await psycopg.AsyncConnection.connect(url, options="-c jit=off")
            if not number:
                for statement in _TABLES:
                    await connection.execute(statement.encode())
                await connection.commit()
            store._free.put_nowait(connection)
        return store

    async def begin(self, conversation_id: str, prompt: str) -> tuple[str, History]:
        """On a free connection."""
        connection = await self._free.get()
        try:
            execute = connection.execute
            version, count = await _one(connection, _PG_CLAIM, (conversation_id,))
            values, reply_id = _rows(conversation_id, prompt, version, count)
            await execute(_PG_INSERT, values)
            await execute(_PG_COUNT, (conversation_id,))
            rows = await execute(_PG_HISTORY, (conversation_id, count + 1))
            history = await rows.fetchall()
            await connection.commit()
        finally:
            self._free.put_nowait(connection)
        return reply_id, history

    async def finish(self, conversation_id: str, reply_id: str, text: str, tokens: int) -> None:
        """On a free connection."""
        connection = await self._free.get()
        try:
            (version,) = await _one(connection, _PG_VERSION, (conversation_id,))
            await connection.execute(_PG_ANSWER, (text, version, tokens, reply_id))
            await connection.commit()
        finally:
            self._free.put_nowait(connection)


async def _one(
    connection: psycopg.AsyncConnection[Any], statement: bytes, values: tuple[Any, ...]
) -> Any:
    return await (await connection.execute(statement, values)).fetchone()


def _rows(
    conversation_id: str, prompt: str, version: int, count: int
) -> tuple[tuple[Any, ...], str]:
    """The values of `_INSERT` and the reply's id."""
    prompt_id, reply_id = str(uuid4()), str(uuid4())
    of_prompt = (prompt_id, conversation_id, count + 1, prompt, version)
    return (*of_prompt, reply_id, conversation_id, count + 2, version), reply_id


def _psycopg(statement: str) -> bytes:
    return statement.replace("?", "%s").encode()


_PG_CLAIM, _PG_INSERT, _PG_COUNT, _PG_HISTORY, _PG_VERSION, _PG_ANSWER = map(
    _psycopg, (_CLAIM, _INSERT, _COUNT, _HISTORY, _VERSION, _ANSWER)
)


async def open_store(url: str) -> Store:
    """The store that a database URL names, as DATABASE_URL would; it has to be empty."""
    path = url.removeprefix("sqlite:///")
    return await PostgresStore.open(url) if path == url else SqliteStore(path)

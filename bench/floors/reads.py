"""The floor of the calls that answer once: the server's statements by the bare driver, on its own
database, and the rows as JSON.

`python -m bench.floors.reads BASE_URL DATABASE_URL DATABASE_URL_OF_THE_SERVER`
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import grpc
import orjson
import psycopg
import uvloop

from bench.floors import serving

_MEMBERS = (
    "SELECT * FROM memberships JOIN users ON users.id = user_id"
    " WHERE memberships.account_id = :account"
)
_NEWEST = (
    "FROM conversations WHERE account_id = :account ORDER BY activity_time DESC, id DESC LIMIT 51"
)
_UNFINISHED = (
    "SELECT * FROM messages WHERE account_id = :account AND conversation_id = :conversation"
    " AND state < 3 ORDER BY position"
)
_MESSAGES = (
    "SELECT * FROM messages LEFT JOIN users ON users.id = author_id"
    " WHERE messages.account_id = :account AND conversation_id = :conversation"
    " ORDER BY position LIMIT 51"
)
_CREATE = (
    "INSERT INTO conversations (account_id, id, title, title_by_user, title_owed,"
    " title_lease_until, model, system_prompt, version, info_version, message_count, create_time,"
    " update_time, activity_time) VALUES (:account, :new, 'Bench', TRUE, 0, 0, 'bench', '', 1, 1,"
    " 0, 1, 1, 1) RETURNING *"
)
_GET = (
    "SELECT * FROM conversations WHERE account_id = :account AND id = :conversation",
    f"{_MEMBERS} AND conversation_id = :conversation ORDER BY position",
    _UNFINISHED,
)

STATEMENTS: Mapping[str, Sequence[str]] = {
    "GetConversation": _GET,
    "ListConversations": (
        f"SELECT * {_NEWEST}",
        f"{_MEMBERS} AND conversation_id IN (SELECT id {_NEWEST}) ORDER BY position",
    ),
    "ListMessages": (*_GET, _MESSAGES),
    "ListModels": (),
    "CreateConversation": (_CREATE,),
}
"""What each call asks the database, in one transaction. Lists have pages of 50; one row more says
whether another follows."""

_Values = Mapping[str, str]
_Transaction = Callable[[Sequence[str], _Values], Awaitable[list[Any]]]


def _sqlite(path: str) -> _Transaction:
    """One connection in one thread."""
    thread = ThreadPoolExecutor(1)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    connection.execute("PRAGMA synchronous = FULL")

    def run(statements: Sequence[str], values: _Values) -> list[Any]:
        connection.execute("BEGIN" if statements[0].startswith("SELECT") else "BEGIN IMMEDIATE")
        rows = [connection.execute(each, values).fetchall() for each in statements]
        connection.execute("COMMIT")
        return rows

    async def transaction(statements: Sequence[str], values: _Values) -> list[Any]:
        return await asyncio.get_running_loop().run_in_executor(thread, run, statements, values)

    return transaction


async def _postgres(url: str) -> _Transaction:
    """One connection, whose transactions queue up."""
    connection = await psycopg.AsyncConnection.connect(url, options="-c jit=off")
    turn = asyncio.Lock()

    async def transaction(statements: Sequence[str], values: _Values) -> list[Any]:
        async with turn:
            rows = [
                await (await connection.execute(each.encode(), values)).fetchall()
                for each in statements
            ]
            await connection.commit()
        return rows

    return transaction


class _Floor:
    """Opens the server's database at the first call: before, there is none."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._is_postgres = database_url.startswith("postgres")
        self._transaction: _Transaction | None = None

    def method(self, statements: Sequence[str]) -> serving.Answer:
        """A call whose request is the ids of an account and a conversation."""
        if self._is_postgres:
            statements = [re.sub(r":(\w+)", r"%(\1)s", each) for each in statements]

        async def answer(request: bytes, _: grpc.aio.ServicerContext[Any, Any]) -> bytes:
            account, conversation = request.decode().split()
            if not statements:
                return b"bench"
            if self._transaction is None:
                self._transaction = await self._open()
            values = {"account": account, "conversation": conversation, "new": str(uuid4())}
            return orjson.dumps(await self._transaction(statements, values))

        return answer

    async def _open(self) -> _Transaction:
        if self._is_postgres:
            return await _postgres(self._url)
        return _sqlite(self._url.removeprefix("sqlite:///"))


async def _serve(database_url: str) -> None:
    floor = _Floor(database_url)
    await serving.serve(
        answers={name: floor.method(statements) for name, statements in STATEMENTS.items()}
    )


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[3]))

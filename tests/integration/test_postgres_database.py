"""Transactions on Postgres: when their callers go away, and when they meet."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

import pytest
from colloquy_server.database import postgres
from colloquy_server.database.engine import sync_engine
from colloquy_server.database.models import KeyRole
from colloquy_server.database.postgres import PostgresDatabase
from colloquy_server.database.repository import access, attachments, conversations
from colloquy_server.database.repository.users import Author
from colloquy_server.database.transactions import EVERY_ACCOUNT, DatabaseUnavailable, Session
from colloquy_server.errors import NotFound
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError


async def test_a_read_whose_caller_goes_away_leaves_a_connection_that_can_write(
    postgres_url: str,
) -> None:

    def read(s: Session) -> None:
        s.execute(text("SELECT 1"))

    def write(s: Session) -> None:
        s.execute(text("UPDATE conversations SET version = version + 1"))

    database = _opened(postgres_url)
    try:
        await database.read(EVERY_ACCOUNT, read)
        for steps in range(40):
            reading = asyncio.create_task(database.read(EVERY_ACCOUNT, read))
            for _ in range(steps):
                await asyncio.sleep(0)
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
            await database.write(EVERY_ACCOUNT, write)
    finally:
        await database.close()


async def test_what_still_runs_ends_before_the_connections_are_closed(postgres_url: str) -> None:
    database = _opened(postgres_url)
    runs = threading.Event()
    has_ended = False

    def write(s: Session) -> None:
        nonlocal has_ended
        runs.set()
        s.execute(text("SELECT pg_sleep(0.2)"))
        has_ended = True

    writing = asyncio.create_task(database.write(EVERY_ACCOUNT, write))
    await asyncio.to_thread(runs.wait)
    await database.close()
    assert has_ended
    await writing


async def test_the_loop_goes_on_while_a_transaction_waits(postgres_url: str) -> None:
    database = _opened(postgres_url)

    def lock(s: Session) -> None:
        s.execute(text("SELECT pg_advisory_xact_lock(1)"))

    holder = sync_engine(postgres_url).connect()
    holder.execute(text("SELECT pg_advisory_lock(1)"))
    waiting = asyncio.create_task(database.write(EVERY_ACCOUNT, lock))
    await asyncio.to_thread(_until_somebody_waits_for_a_lock, holder)
    assert not waiting.done()
    holder.execute(text("SELECT pg_advisory_unlock(1)"))
    await waiting
    await database.close()
    holder.close()
    holder.engine.dispose()


async def test_a_transaction_does_well_at_once_when_all_connections_that_are_kept_are_lost(
    postgres_url: str,
) -> None:
    database = _opened(postgres_url, pool_size=5)
    backends: list[int] = []

    def note_backend(s: Session) -> None:
        backends.append(s.execute(text("SELECT pg_backend_pid()")).scalar_one())
        s.execute(text("SELECT pg_advisory_xact_lock_shared(1)"))

    operator = sync_engine(postgres_url).connect()
    operator.execute(text("SELECT pg_advisory_lock(1)"))
    held = [asyncio.create_task(database.write(EVERY_ACCOUNT, note_backend)) for _ in range(5)]
    await asyncio.to_thread(_until_somebody_waits_for_a_lock, operator, 5)
    operator.execute(text("SELECT pg_advisory_unlock(1)"))
    await asyncio.gather(*held)
    assert len(set(backends)) == 5
    for backend in backends:
        operator.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": backend})
    await database.write(EVERY_ACCOUNT, lambda s: s.execute(text("SELECT 1")))
    await database.close()
    operator.close()
    operator.engine.dispose()


async def test_the_loop_goes_on_while_a_server_that_is_silent_is_connected_to() -> None:
    accepted, ends = asyncio.Event(), asyncio.Event()

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        await ends.wait()
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    database = _opened(f"postgresql://colloquy@127.0.0.1:{port}/colloquy")
    reading = asyncio.create_task(database.read(EVERY_ACCOUNT, lambda s: s.execute(text("x"))))
    await accepted.wait()
    assert not reading.done()
    silent.close()
    ends.set()
    with pytest.raises(DatabaseUnavailable):
        await reading
    await database.close()


async def test_a_transaction_that_postgres_does_not_answer_ends_with_the_database(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_CLOSE_TIMEOUT", 0.05)
    database = _opened(postgres_url)
    runs = asyncio.Event()

    def wait(s: Session) -> None:
        runs.set()
        s.execute(text("SELECT pg_sleep(3600)"))

    waiting = asyncio.create_task(database.write(EVERY_ACCOUNT, wait))
    in_line = asyncio.create_task(database.write(EVERY_ACCOUNT, wait))
    await runs.wait()
    await database.close()
    for write in (waiting, in_line):
        with pytest.raises(DatabaseUnavailable):
            await write


def _until_somebody_waits_for_a_lock(connection: Connection, count: int = 1) -> None:
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    while connection.execute(waiting).scalar_one() < count:
        pass


def _opened(url: str, pool_size: int = 1) -> PostgresDatabase:
    postgres_url = make_url(url).set(drivername="postgresql+psycopg")
    return PostgresDatabase(postgres_url, pool_size=pool_size)


def _new_key(s: Session, account_id: str) -> None:
    access.create_key(
        s,
        account_id,
        name="k",
        role=KeyRole.SERVICE,
        user=Author(external_id="somebody new"),
        secret_hash="h",
        expire_time=None,
    )


def _new_conversation(s: Session, account_id: str) -> None:
    new = conversations.NewConversation("T", "", None, None, "h")
    conversations.create(s, account_id, new, lambda: "model")


def _new_file(s: Session, account_id: str) -> None:
    file = attachments.NewFile("0" * 64, 1, "x", "text/plain", 1)
    attachments.begin(s, account_id, file, attachments.new_key(account_id, file))


@pytest.mark.parametrize("make", [_new_key, _new_conversation, _new_file])
def test_what_is_made_in_an_account_waits_for_its_end_and_its_end_for_that(
    postgres_url: str, make: Callable[[Session, str], None]
) -> None:
    engine = sync_engine(postgres_url)

    def begin() -> Session:
        session = Session(engine.connect(), EVERY_ACCOUNT)
        session.execute(text("SET LOCAL lock_timeout = '50ms'"))
        return session

    first, second = begin(), begin()
    account_id = access.create_account(first, "A", None).id
    first.connection().commit()

    make(first, account_id)
    with pytest.raises(OperationalError, match="lock timeout"):
        access.delete_account(second, account_id)
    second.connection().rollback()
    first.connection().rollback()

    access.delete_account(first, account_id)
    second.execute(text("SET LOCAL lock_timeout = '50ms'"))
    with pytest.raises(OperationalError, match="lock timeout"):
        make(second, account_id)
    second.connection().rollback()
    first.connection().commit()
    with pytest.raises(NotFound, match="account"):
        make(second, account_id)
    for session in (first, second):
        session.close()
        session.get_bind().close()  # type: ignore[union-attr]
    engine.dispose()

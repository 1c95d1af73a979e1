"""Transactions that SQLite commits together: each is whole, and none knows of the others."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import pytest
from colloquy_server.database import sqlite
from colloquy_server.database.engine import open_database
from colloquy_server.database.models import Account, User
from colloquy_server.database.repository import access, conversations
from colloquy_server.database.repository.conversations import NewConversation
from colloquy_server.database.sqlite import SqliteDatabase
from colloquy_server.database.transactions import EVERY_ACCOUNT, DatabaseUnavailable, Session
from sqlalchemy import Engine, event, insert, make_url, select, text

from tests.killed_writer import BATCH, REFUSED, Killed, Work, prompts
from tests.migrated import make_database

Job = Callable[[Session], object]


class Failed(Exception):
    """What a job raises."""


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """What the database works with."""
    url = f"sqlite:///{tmp_path}/colloquy.db"
    make_database(url)
    return sqlite.sqlite_engine(make_url(url))


@pytest.fixture
async def db(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqliteDatabase]:
    """A database whose batches end only when nothing waits, however slow the machine is."""
    monkeypatch.setattr(sqlite, "_BATCH_SECONDS", 3_600.0)
    monkeypatch.setattr(sqlite, "sqlite_engine", lambda _url: engine)
    db = SqliteDatabase(engine.url)
    yield db
    await db.close()


async def begin(db: SqliteDatabase, jobs: Sequence[Job]) -> list[asyncio.Task[object]]:
    """Begins jobs as one batch."""
    goes_on = threading.Event()

    def hold(_: Session) -> None:
        goes_on.wait()

    tasks = [asyncio.create_task(db.write(EVERY_ACCOUNT, job)) for job in (hold, *jobs)]
    tasks[0].add_done_callback(asyncio.Task.exception)  # nobody else asks for it
    await asyncio.sleep(0)
    goes_on.set()
    return tasks[1:]


async def together(db: SqliteDatabase, *jobs: Job) -> list[object]:
    """What became of the jobs of one batch."""
    return await asyncio.gather(*await begin(db, jobs), return_exceptions=True)


def adding(name: str) -> Job:
    """A job that adds an account and its user."""

    def add(s: Session) -> str:
        return access.create_account(s, name, None).name

    return add


async def names(db: SqliteDatabase) -> list[str]:
    """The accounts' names, each of which has its user."""

    def read(s: Session) -> list[str]:
        accounts = list(s.run(select(Account.name).order_by(Account.name)).scalars())
        users = list(s.run(select(User.display_name).order_by(User.display_name)).scalars())
        assert users == accounts
        return accounts

    return await db.read(EVERY_ACCOUNT, read)


def raising(s: Session) -> None:
    adding("fails")(s)
    raise Failed


def breaking_a_constraint(s: Session) -> None:
    account = access.create_account(s, "fails", None)
    row = {"id": account.id, "name": "", "default_user_id": "", "create_time": 0}
    s.run(insert(Account), row)


def breaking_a_constraint_by_a_flush(s: Session) -> None:
    account = access.create_account(s, "fails", None)
    user = account.default_user_id
    s.expunge_all()
    s.add(User(id=user, account_id=account.id, display_name="", create_time=0))
    s.flush()


def breaking_a_constraint_at_its_end(s: Session) -> None:
    account = access.create_account(s, "fails", None)
    user = account.default_user_id
    s.expunge_all()
    s.add(User(id=user, account_id=account.id, display_name="", create_time=0))


def undoing(s: Session) -> None:
    adding("fails")(s)
    s.undo()


FAILING = (
    raising,
    breaking_a_constraint,
    breaking_a_constraint_by_a_flush,
    breaking_a_constraint_at_its_end,
)


async def test_what_waits_is_committed_together(db: SqliteDatabase, engine: Engine) -> None:
    commits: list[object] = []
    event.listen(engine, "commit", commits.append)
    assert await together(db, adding("a"), adding("b"), adding("c")) == ["a", "b", "c"]
    assert len(commits) == 1


@pytest.mark.parametrize("failing", FAILING)
async def test_what_fails_takes_nothing_and_leaves_nothing(
    db: SqliteDatabase, failing: Job
) -> None:
    before, failed, after = await together(db, adding("before"), failing, adding("later"))
    assert (before, after) == ("before", "later")
    assert isinstance(failed, Exception)
    assert await names(db) == ["before", "later"]


async def test_what_is_undone_leaves_nothing(db: SqliteDatabase) -> None:
    assert await together(db, adding("before"), undoing, adding("later")) == [
        "before",
        None,
        "later",
    ]
    assert await names(db) == ["before", "later"]


async def test_what_fails_first_takes_nothing(db: SqliteDatabase) -> None:
    failed, later = await together(db, raising, adding("later"))
    assert isinstance(failed, Failed)
    assert later == "later"
    assert await names(db) == ["later"]


async def test_nobody_hears_of_an_end_before_the_commit(db: SqliteDatabase, engine: Engine) -> None:
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[object]] = []
    heard: list[bool] = []

    async def look() -> None:
        for _ in range(5):  # what has been told by now has its turn first
            await asyncio.sleep(0)
        heard.extend(task.done() for task in tasks)

    def at_commit(_: object) -> None:
        asyncio.run_coroutine_threadsafe(look(), loop).result()

    event.listen(engine, "commit", at_commit)
    tasks += await begin(db, [adding("a"), raising, undoing, adding("b")])
    await asyncio.wait(tasks)
    assert heard == [False] * 4


async def test_a_commit_that_fails_is_told_to_all(db: SqliteDatabase, engine: Engine) -> None:
    def fail(_: object) -> None:
        event.remove(engine, "commit", fail)
        raise Failed

    event.listen(engine, "commit", fail)
    results = await together(db, adding("a"), undoing, adding("b"))
    assert [type(result) for result in results] == [Failed] * 3
    assert await names(db) == []
    assert await together(db, adding("c")) == ["c"]


async def test_what_sqlite_takes_back_is_told_to_all(db: SqliteDatabase) -> None:
    """As when the disk is full: all of the transaction goes, whoever began it."""

    def lose_all(s: Session) -> None:
        s.run(text("ROLLBACK"))
        raise Failed

    results = await together(db, adding("a"), lose_all)
    assert [type(result) for result in results] == [Failed] * 2
    assert await names(db) == []
    assert await together(db, adding("b")) == ["b"]


async def test_a_file_that_somebody_else_writes_for_too_long_is_away(
    db: SqliteDatabase, engine: Engine
) -> None:
    @event.listens_for(engine, "connect")
    def be_impatient(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA busy_timeout = 0")

    with closing(sqlite3.connect(engine.url.database or "")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseUnavailable):
            await db.write(EVERY_ACCOUNT, adding("a"))
    assert await together(db, adding("c")) == ["c"]


async def test_who_has_gone_keeps_nobody_from_hearing(db: SqliteDatabase) -> None:
    """What ran is kept; what had not begun does not begin."""
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[object]] = []

    async def cancel() -> None:
        for task in tasks[:2]:
            task.cancel()

    def run_and_go(s: Session) -> None:
        adding("first")(s)
        asyncio.run_coroutine_threadsafe(cancel(), loop).result()

    tasks += await begin(db, [run_and_go, adding("never"), adding("last")])
    first, never, last = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(first, asyncio.CancelledError)
    assert isinstance(never, asyncio.CancelledError)
    assert last == "last"
    assert await names(db) == ["first", "last"]


# --- processes that are killed --------------------------------------------------------------------


async def make_work(path: Path) -> Work:
    """A database with an account and two conversations."""
    url = f"sqlite:///{path}"
    make_database(url)
    db = open_database(url, 1)
    account = (await db.write(EVERY_ACCOUNT, access.create_account, "A", None)).id
    new = NewConversation("A title", "", None, None, "")
    first, second = [
        (await db.write(account, conversations.create, account, new, lambda: "model")).id
        for _ in range(2)
    ]
    await db.close()
    return Work(str(path), account, (first, second))


def check(killed: Killed) -> set[str]:
    """That what was told is there, and what was not is there whole or not at all; returns the
    texts that are there."""
    with closing(sqlite3.connect(killed.database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        pairs = {
            text: [prompt, reply]
            for text, prompt, reply in connection.execute(
                "SELECT prompt.content, prompt.id, reply.id FROM messages AS prompt "
                "LEFT JOIN messages AS reply ON reply.reply_to = prompt.id WHERE prompt.role = 1"
            )
        }
        assert REFUSED not in pairs
        assert all(reply for _, reply in pairs.values())
        assert {text: ids for text, ids in killed.told.items() if ids}.items() <= pairs.items()
        for counted, stored, version, newest, joined in connection.execute(
            "SELECT message_count, count(messages.id), conversations.version,"
            " coalesce(max(messages.version), 0), (SELECT count(*) FROM memberships"
            " WHERE memberships.conversation_id = conversations.id)"
            " FROM conversations LEFT JOIN messages ON conversation_id = conversations.id"
            " GROUP BY conversations.id"
        ):
            assert counted == stored
            assert version == 1 + stored / 2  # each send made one, and what came to nothing none
            assert newest in (0, version)
            assert joined == (stored > 0)
        (authors,) = connection.execute(
            "SELECT count(*) FROM users WHERE external_id IS NOT NULL"
        ).fetchone()
        assert authors == bool(pairs)
        return set(pairs)


async def test_what_was_told_outlives_a_kill_at_any_step(tmp_path: Path) -> None:
    work = await make_work(tmp_path / "colloquy.db")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.killed_writer",
        json.dumps(asdict(work)),
        stdout=subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    runs = [Killed(**json.loads(line)) for line in output.splitlines()]
    first, second = (
        {prompt.content for prompt in batch} - {REFUSED}
        for batch in (prompts(work)[: BATCH - 1], prompts(work)[BATCH - 1 :])
    )
    committed: set[str] = set()
    for run in runs:
        if run.step == "DELIVER":  # the batch is committed: the second one, if some were told
            committed = first | second if run.told else first
        assert check(run) == committed
    steps = [run.step for run in runs]
    assert steps.count("COMMIT") == 2
    assert {"BEGIN IMMEDIATE", "SAVEPOINT job", "ROLLBACK TO job", "RELEASE job"} <= set(steps)

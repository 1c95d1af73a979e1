"""What search does not know yet is entered once, whoever does it and whatever comes in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from colloquy_server.database import migrate
from colloquy_server.database.engine import open_database, sync_engine
from colloquy_server.database.models import MICROS, State
from colloquy_server.database.repository import (
    access,
    conversations,
    deletion,
    indexing,
    leases,
    search,
    sending,
)
from colloquy_server.database.repository.changes import Lease, lock
from colloquy_server.database.repository.conversations import NewConversation
from colloquy_server.database.repository.leases import Outcome
from colloquy_server.database.repository.sending import OnBusy, Prompt
from colloquy_server.database.repository.users import Author
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database, Session
from sqlalchemy import text

from tests.fakes.choices import own_model
from tests.harness import eventually

LEASE = Lease(3_600 * MICROS, 100)


@dataclass
class Talk:
    """A conversation of an account, by the repository alone."""

    url: str
    db: Database
    account_id: str
    id: str = ""

    @classmethod
    async def begin(cls, url: str) -> Talk:
        db = open_database(url, 4)
        account = await db.write(EVERY_ACCOUNT, access.create_account, "a", None)
        talk = cls(url, db, account.id)
        talk.id = await talk.create()
        return talk

    async def create(self) -> str:
        new = NewConversation("", "", None, None, "")
        return (
            await self.db.write(
                self.account_id, conversations.create, self.account_id, new, lambda: "model"
            )
        ).id

    async def say(self, content: str, conversation_id: str = "", answer: str = "") -> None:
        """Sends, and has the reply end with the answer, if there is one."""
        conversation_id = conversation_id or self.id
        prompt = Prompt(conversation_id, content, Author(), None, OnBusy.ENQUEUE)
        lease = LEASE if answer else None
        sent = await self.db.write(
            self.account_id, sending.send, self.account_id, prompt, own_model, lease, 1 << 10
        )
        if answer:
            outcome = Outcome(State.COMPLETED, answer)
            await self.db.write(
                self.account_id,
                leases.finish,
                conversation_id,
                sent.reply.id,
                sent.reply.epoch,
                outcome,
                None,
            )

    async def due(self) -> indexing.Batch:
        return await self.db.read(EVERY_ACCOUNT, indexing.due)

    async def index(self, batch: indexing.Batch) -> bool:
        return await self.db.write(EVERY_ACCOUNT, indexing.index, batch.entries(), batch.reached)

    async def index_all(self) -> int:
        """Indexes until nothing is due; returns in how many batches."""
        batches = 0
        while (batch := await self.due()).reached:
            assert await self.index(batch)
            batches += 1
        return batches

    async def found(self, word: str) -> list[str]:
        hits, _ = await self.db.read(
            self.account_id,
            search.find,
            self.account_id,
            [[word]],
            "",
            limit=1 << 10,
            max_bytes=1 << 30,
            shape=lambda message: (message.content, 1),
            after="",
        )
        return hits

    async def stored(self) -> tuple[int, int]:
        """How many entries there are, and how many terms."""
        return await self.db.read(EVERY_ACCOUNT, counts)


def counts(s: Session) -> tuple[int, int]:
    entries = s.execute(text("SELECT count(*) FROM search_entries")).scalar_one()
    return entries, s.execute(text("SELECT count(*) FROM search_words")).scalar_one()


@pytest.fixture
async def talk(database_url: str) -> AsyncIterator[Talk]:
    talk = await Talk.begin(database_url)
    yield talk
    await talk.db.close()


@pytest.fixture
async def on_postgres(postgres_url: str) -> AsyncIterator[Talk]:
    talk = await Talk.begin(postgres_url)
    yield talk
    await talk.db.close()


@contextmanager
def another_process(talk: Talk) -> Iterator[Session]:
    """A transaction that stays open."""
    engine = sync_engine(talk.url)
    try:
        with engine.connect() as connection, Session(connection, EVERY_ACCOUNT) as session:
            yield session
    finally:
        engine.dispose()


async def test_what_is_due_is_entered_once_however_often_it_is_done(talk: Talk) -> None:
    await talk.say("a question", answer="an answer")
    batch = await talk.due()
    assert [text.content for text in batch.texts] == ["a question", "an answer"]
    assert await talk.found("question") == []
    await talk.index(batch)
    await talk.index(batch)  # as by a second process, which read the same
    assert await talk.stored() == (2, 2)
    assert await talk.found("question") == ["a question"]
    assert await talk.found("answer") == ["an answer"]
    assert (await talk.due()).reached == {}


async def test_a_crash_before_the_commit_leaves_it_due_and_nothing_behind(talk: Talk) -> None:
    await talk.say("said")
    batch = await talk.due()

    def crash(s: Session) -> None:
        indexing.index(s, batch.entries(), batch.reached)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await talk.db.write(EVERY_ACCOUNT, crash)
    assert await talk.stored() == (0, 0)
    assert await talk.index_all() == 1
    assert await talk.found("said") == ["said"]


async def test_entries_without_their_mark_are_not_made_again(talk: Talk) -> None:
    await talk.say("said")
    entries = (await talk.due()).entries()
    await talk.db.write(EVERY_ACCOUNT, indexing.enter, entries)
    batch = await talk.due()
    assert batch.texts == ()
    assert list(batch.reached) == [talk.id]
    await talk.index_all()
    assert await talk.stored() == (1, 1)


async def test_what_is_said_after_the_look_stays_due(talk: Talk) -> None:
    await talk.say("first")
    batch = await talk.due()
    await talk.say("second")
    await talk.index(batch)
    assert [text.content for text in (await talk.due()).texts] == ["second"]
    await talk.index_all()
    late = (await talk.due()).reached
    await talk.index(batch)  # by a process that was stopped since then
    assert (await talk.due()).reached == late == {}


async def test_only_what_is_finished_and_says_something_is_found(talk: Talk) -> None:
    await talk.say("...", answer="!")  # no terms
    await talk.say("", answer="an answer")
    assert await talk.index_all() == 1
    # Messages without terms are noted too, so that they are not looked at again and again.
    assert await talk.stored() == (3, 1)
    assert await talk.found("answer") == ["an answer"]


async def test_a_long_backlog_is_entered_in_batches_newest_first(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "_MESSAGES", 4)
    monkeypatch.setattr(indexing, "_CHARACTERS", 40)
    other = await talk.create()
    for number in range(6):
        await talk.say(f"said {number}")
        await talk.say(f"said {number} " + "x" * 50, other)
    assert await talk.index_all() > 6
    assert await talk.stored() == (12, 12)
    texts = await talk.found("said")
    for length in (6, 57):
        numbers = [int(text.split()[1]) for text in texts if len(text) == length]
        assert numbers == [5, 4, 3, 2, 1, 0]


async def test_more_conversations_than_a_look_takes_are_all_entered(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "_CONVERSATIONS", 2)
    for number in range(5):
        await talk.say(f"said {number}", await talk.create())
    assert (await talk.due()).is_cut
    await talk.index_all()
    assert await talk.found("said") == [f"said {number}" for number in reversed(range(5))]


async def test_within_a_batch_newer_messages_have_larger_numbers(talk: Talk) -> None:
    other = await talk.create()
    for number in range(4):
        await talk.say(f"said {number}", other if number % 2 else "")
    assert await talk.index_all() == 1
    assert await talk.found("said") == ["said 3", "said 2", "said 1", "said 0"]


@pytest.mark.parametrize("what", ["message", "conversation", "account"])
async def test_what_is_deleted_before_it_is_entered_leaves_nothing(talk: Talk, what: str) -> None:
    await talk.say("secret")
    batch = await talk.due()
    await delete(talk, what)
    await talk.index(batch)
    assert await talk.stored() == (0, 0)


_FIRST = text("SELECT id FROM messages WHERE role = 1 ORDER BY position LIMIT 1")


async def delete(talk: Talk, what: str) -> None:
    if what == "message":
        prompt = await talk.db.read(talk.account_id, lambda s: s.scalars(_FIRST).one())
        await talk.db.write(talk.account_id, deletion.delete_message, prompt)
    elif what == "conversation":
        await talk.db.write(talk.account_id, conversations.delete, talk.id)
    else:
        await talk.db.write(EVERY_ACCOUNT, access.delete_account, talk.account_id)


@pytest.mark.parametrize("what", ["message", "conversation", "account"])
async def test_a_deletion_waits_for_entries_that_are_being_made(
    on_postgres: Talk, what: str
) -> None:
    talk = on_postgres
    await talk.say("secret")
    batch = await talk.due()
    with another_process(talk) as session:
        indexing.hold(session, batch.reached)
        indexing.enter(session, batch.entries())
        deleting = asyncio.create_task(delete(talk, what))
        await eventually(lambda: waiting_for_locks(talk), 1)
        session.connection().commit()
    await deleting
    assert await talk.stored() == (0, 0)


async def waiting_for_locks(talk: Talk) -> int:
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    return await talk.db.read(EVERY_ACCOUNT, lambda s: int(s.execute(waiting).scalar_one()))


async def test_a_deletion_that_is_undone_leaves_the_messages_findable(on_postgres: Talk) -> None:
    talk = on_postgres
    await talk.say("kept")
    batch = await talk.due()
    with another_process(talk) as session:
        conversations.delete(session, talk.id)
        indexing_it = asyncio.create_task(talk.index(batch))
        await eventually(lambda: waiting_for_locks(talk), 1)
        session.connection().rollback()
    await indexing_it
    await talk.index_all()
    assert await talk.found("kept") == ["kept"]


async def test_entries_of_what_is_being_deleted_are_not_made(on_postgres: Talk) -> None:
    talk = on_postgres
    await talk.say("secret")
    batch = await talk.due()
    with another_process(talk) as session:
        conversations.delete(session, talk.id)
        indexing_it = asyncio.create_task(talk.index(batch))
        await eventually(lambda: waiting_for_locks(talk), 1)
        session.connection().commit()
    await indexing_it
    assert await talk.stored() == (0, 0)


async def test_a_send_does_not_wait_for_entries(on_postgres: Talk) -> None:
    talk = on_postgres
    await talk.say("first", answer="an answer")
    batch = await talk.due()
    with another_process(talk) as session:
        indexing.hold(session, batch.reached)
        indexing.enter(session, batch.entries())
        async with asyncio.timeout(60):
            await talk.say("second", answer="an answer")
        session.connection().commit()
    await talk.index_all()
    assert await talk.stored() == (4, 4)


async def test_entries_do_not_wait_for_a_send(on_postgres: Talk) -> None:
    talk = on_postgres
    await talk.say("first")
    batch = await talk.due()
    with another_process(talk) as session:
        lock(session, talk.id)
        async with asyncio.timeout(60):
            await talk.index(batch)
        assert await talk.found("first") == ["first"]
        session.connection().commit()
    await talk.index_all()
    assert await talk.stored() == (1, 1)


async def test_processes_that_enter_the_same_at_once_make_one_entry_each(talk: Talk) -> None:
    others = [await talk.create() for _ in range(3)]
    processes = [open_database(talk.url, 2) for _ in range(3)]
    for number in range(10):
        for conversation_id in others:
            await talk.say(f"said {number}", conversation_id, answer=f"said {number}")
        batches = await asyncio.gather(*(db.read(EVERY_ACCOUNT, indexing.due) for db in processes))
        assert [len(batch.texts) for batch in batches] == [6] * 3
        await asyncio.gather(
            *(
                db.write(EVERY_ACCOUNT, indexing.index, batch.entries(), batch.reached)
                for db, batch in zip(processes, batches, strict=True)
            )
        )
    for db in processes:
        await db.close()
    await talk.index_all()
    assert await talk.stored() == (60, 60)
    assert len(await talk.found("said")) == 60


async def test_a_look_reads_no_conversation_that_is_searchable(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/conversations.db"
    migrate.upgrade(url)
    engine = sync_engine(url)
    with engine.connect() as connection:
        asked = indexing._DUE.compile(engine, compile_kwargs={"render_postcompile": True})
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {asked}", (1, 0)).all()
    engine.dispose()
    assert "ix_conversations_unsearchable" in str(plan)

"""Messages become findable after the transactions that people wait for, and none is lost, whatever
dies in between."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy_server.database.engine import sync_engine
from colloquy_server.database.repository import indexing
from colloquy_server.replies import search_indexing
from colloquy_server.replies.search_indexing import SearchIndexing
from sqlalchemy import Connection, Engine, event, text

from tests import fleets
from tests.e2e.talk import hold
from tests.fakes.provider import Answer
from tests.harness import Caller, Colloquy, ServerProcess, eventually


async def contents(caller: Caller, query: str) -> list[str]:
    request = api.SearchMessagesRequest(query=query)
    hits = (await caller.call("SearchMessages", request)).hits
    return [hit.message.content for hit in hits]


async def is_found(caller: Caller, query: str, *texts: str) -> bool:
    """Waits until exactly these texts are found."""
    wanted = list(texts)
    return await eventually(lambda: contents(caller, query), wanted) == wanted


async def test_what_is_said_here_is_entered_without_waiting_for_the_next_look(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_indexing, "_INTERVAL", 3_600)
    await colloquy.restart()
    alice = alice.at(colloquy)
    colloquy.provider.script(Answer(pieces=["an answer"]))
    conversation = await alice.create(title="Soon")
    await alice.send(conversation.id, "a question").rest()
    assert await is_found(alice, "an", "an answer")
    assert await is_found(alice, "question", "a question")


@contextmanager
def transactions() -> Iterator[list[list[str]]]:
    """The statements of every transaction that begins meanwhile, in any database."""
    seen: list[list[str]] = []
    current: dict[Connection, list[str]] = {}

    def begin(connection: Connection) -> None:
        current[connection] = []
        seen.append(current[connection])

    def execute(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        current.get(connection, []).append(statement)

    event.listen(Engine, "begin", begin)
    event.listen(Engine, "before_cursor_execute", execute)
    try:
        yield seen
    finally:
        event.remove(Engine, "begin", begin)
        event.remove(Engine, "before_cursor_execute", execute)


@fleets.ALONE
async def test_no_transaction_that_people_wait_for_writes_to_search(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_said, enter = asyncio.Event(), SearchIndexing._enter

    async def enter_later(self: SearchIndexing, batch: indexing.Batch) -> bool:
        await is_said.wait()  # SQLite commits with others what waits at the same time
        return await enter(self, batch)

    monkeypatch.setattr(SearchIndexing, "_enter", enter_later)
    conversation = await alice.create(title="Lean")
    with transactions() as seen:
        first = await alice.send(conversation.id, "one").reply()
        await alice.regenerate(first.id).reply()
        held = await hold(colloquy, alice, conversation.id, "two")
        queued = await alice.send(conversation.id, "three").accepted()
        await alice.cancel(queued.reply.id)
        # As when the owner has no processor for longer than a cancel waits for it.
        monkeypatch.setattr(colloquy.app.replies.ownership, "stop", lambda _reply: None)
        cancelled = await alice.cancel(held.id)
        assert cancelled.state == resources.Message.STATE_CANCELLED
        is_said.set()
        for word in ("one", "two", "three"):
            assert await is_found(alice, word, word)
    held.gate.set()
    waited_for = [said for said in seen if any("version=(conv" in line for line in said)]
    assert len(waited_for) >= 7
    assert not [line for said in waited_for for line in said if "search" in lean(line)]
    assert [line for said in seen for line in said if "INSERT INTO search_words" in line]


def lean(statement: str) -> str:
    """A statement without the column that every whole row of a conversation has."""
    return statement.replace("searchable_version", "")


async def test_what_a_killed_process_did_not_enter_its_successor_does(
    postgres_url: str, tmp_path: Any
) -> None:
    async with Colloquy(tmp_path, postgres_url) as colloquy:
        alice = await colloquy.account("alice")
        await colloquy.stop()
        process = ServerProcess(colloquy)
        near = alice.on(await process.start())
        engine = sync_engine(postgres_url)
        with engine.connect() as another:
            # No entry can be made, and yet people are answered.
            another.execute(text("LOCK TABLE search_entries IN EXCLUSIVE MODE"))
            colloquy.provider.script(Answer(pieces=["an answer"]))
            conversation = await near.create(title="Lost")
            reply = await near.send(conversation.id, "a question").reply()
            assert reply.state == resources.Message.STATE_COMPLETED
            await process.end(signal.SIGKILL)
            assert not another.execute(text("SELECT count(*) FROM search_entries")).scalar_one()
        engine.dispose()
        await colloquy.start()
        alice = alice.at(colloquy)
        assert await is_found(alice, "answer", "an answer")
        assert await is_found(alice, "question", "a question")


@fleets.ALONE
async def test_what_others_left_is_entered_without_being_told(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_indexing, "_INTERVAL", 0.1)
    monkeypatch.setattr(colloquy.app.feeds.has_changed, "set", lambda: None)
    conversation = await alice.create(title="Left")
    await alice.send(conversation.id, "a question").rest()
    assert await is_found(alice, "question", "a question")


@fleets.ALONE
async def test_what_was_not_entered_at_a_shutdown_is_after_a_restart(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_self: SearchIndexing) -> None:
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(SearchIndexing, "run_once", never)
        await colloquy.restart()
        alice = alice.at(colloquy)
        conversation = await alice.create(title="Later")
        await alice.send(conversation.id, "a question").rest()
        assert await contents(alice, "question") == []
    monkeypatch.setattr(search_indexing, "_INTERVAL", 3_600)
    await colloquy.restart()
    assert await is_found(alice.at(colloquy), "question", "a question")


@fleets.ALONE
async def test_one_message_that_cannot_be_entered_does_not_keep_others_waiting(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter = indexing.enter

    def enter_but_one(s: Any, entries: Any) -> int:
        if any(entry.conversation_id == bad.id for entry in entries):
            raise ValueError("a text that nobody thought of")
        return enter(s, entries)

    monkeypatch.setattr(indexing, "enter", enter_but_one)
    bad, good = await alice.create(title="Bad"), await alice.create(title="Good")
    for conversation in (bad, good):
        await alice.send(conversation.id, "a question").rest()
    await alice.send(good.id, "a second").rest()
    assert await is_found(alice, "second", "a second")
    assert await is_found(alice, "question", "a question")
    monkeypatch.setattr(indexing, "enter", enter)
    await colloquy.restart()
    assert await is_found(alice.at(colloquy), "question", "a question", "a question")

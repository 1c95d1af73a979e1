"""What is kept of threads, and how far each was given: once, whoever comes first."""

from __future__ import annotations

from typing import Any

import pytest
from colloquy_slack.database import inbox, listening, thread_messages, thread_reads
from colloquy_slack.database.engine import Database, migrate
from colloquy_slack.database.inbox import NewRequest
from colloquy_slack.database.models import Request
from colloquy_slack.database.thread_reads import Progress, Thread

PLACE = ("T1", "C1", "1.0")


@pytest.fixture
async def db(slack_url: str) -> Database:
    migrate(slack_url)
    return Database(slack_url)


def said(ts: str, text: str = "hi") -> dict[str, Any]:
    return {"channel_id": "C1", "ts": ts, "thread_ts": "1.0", "user_id": "U1", "text": text}


async def keep(db: Database, *ts: str, now: float = 100.0, is_engaged: bool = True) -> None:
    for one in ts:
        await db.run(thread_messages.store, "T1", said(one), now, is_engaged=is_engaged)


async def waiting(db: Database, before: str = "9.9") -> list[str]:
    kept = await db.run(thread_messages.before, *PLACE, before)
    return [one["ts"] for one in kept]


async def request(db: Database, ts: str) -> Request:
    new = NewRequest("T1", "C1", ts, "1.0", "slack:T1:C1:1.0", "U1", 1.0, text="?")
    row_id = await db.run(inbox.store, new)
    assert row_id is not None
    row = await db.run(inbox.get, "T1", row_id)
    assert row is not None
    return row


async def test_what_is_given_is_not_kept_again(db: Database) -> None:
    await keep(db, "2.0", "3.0", "5.0")
    row = await request(db, "4.0")
    progress = Progress(["2.0", "3.0"], given_until="4.0")
    await db.run(thread_reads.fix_content, row, progress, {"content": "a"})
    await keep(db, "2.0", "3.0", "5.0")
    assert await waiting(db) == ["5.0"]
    # One that Slack delivers late is given with the next.
    await keep(db, "3.5")
    assert await waiting(db) == ["3.5", "5.0"]
    await db.close()


async def test_what_was_read_in_slack_is_not_kept_when_it_comes_late(db: Database) -> None:
    row = await request(db, "4.0")
    progress = Progress([], given_until="4.0", read_until="4.0")
    await db.run(thread_reads.fix_content, row, progress, {"content": "a"})
    await keep(db, "3.0", "5.0")
    assert await waiting(db) == ["5.0"]
    await db.close()


async def test_the_first_process_fixes_what_the_server_gets(db: Database) -> None:
    await keep(db, "2.0")
    row = await request(db, "4.0")
    values = {"content": "first", "notes": ["a"]}
    assert await db.run(thread_reads.fix_content, row, Progress(["2.0"], "4.0"), values) == values
    late = Progress([], given_until="1.0", is_complete=False)
    again = await db.run(
        thread_reads.fix_content, row, late, {"content": "second", "notes": list[str]()}
    )
    assert again == values
    assert await db.run(thread_reads.load, row, "5.0") == Thread("4.0", False, [])
    await db.close()


async def test_files_that_come_while_a_request_is_prepared_are_not_left_out(db: Database) -> None:
    row = await request(db, "4.0")
    file = {"id": "F1"}
    await db.run(inbox.add_files, NewRequest("T1", "C1", "4.0", "", "", "U1", 1.0, files=[file]))
    values = {"content": "without"}
    assert await db.run(thread_reads.fix_content, row, None, values) == {"files": [file]}
    row.files = [file]
    assert await db.run(thread_reads.fix_content, row, None, {"content": "with"}) == {
        "content": "with"
    }
    # Once it is fixed, it is.
    other = NewRequest("T1", "C1", "4.0", "", "", "U1", 1.0, files=[{"id": "F2"}])
    await db.run(inbox.add_files, other)
    stored = await db.run(inbox.get, "T1", row.id)
    assert stored is not None
    assert stored.files == [file]
    await db.close()


async def test_what_is_withheld_is_never_given(db: Database) -> None:
    await keep(db, "2.0", "3.0")
    for ts in ("2.0", "2.5"):
        await db.run(thread_messages.withhold, "T1", said(ts), 100.0)
    assert await waiting(db) == ["3.0"]
    known = await db.run(thread_messages.given_among, "T1", "C1", ["2.0", "2.5", "3.0"])
    assert known == {"2.0", "2.5"}
    await db.close()


async def test_a_thread_is_read_once_and_again_after_a_gap_or_a_part(db: Database) -> None:
    first = await request(db, "4.0")
    assert (await db.run(thread_reads.load, first, "4.0")).is_to_be_read
    part = Progress([], given_until="3.0", read_until="3.0", is_complete=False)
    await db.run(thread_reads.fix_content, first, part, {"content": "a"})
    assert await db.run(thread_reads.load, first, "5.0") == Thread("3.0", True, [])
    second = await request(db, "5.0")
    whole = Progress([], given_until="5.0", read_until="5.0")
    await db.run(thread_reads.fix_content, second, whole, {"content": "b"})
    assert await db.run(thread_reads.load, first, "6.0") == Thread("5.0", False, [])
    await db.run(listening.begin, 6.0)
    assert await db.run(thread_reads.load, first, "7.0") == Thread("5.0", True, [])
    await db.close()


async def test_a_restart_is_no_gap(db: Database) -> None:
    await db.run(listening.begin, 1_000.0)
    await db.run(listening.go_on, 2_000.0)
    await db.run(listening.begin, 2_000.0 + listening.MAX_PAUSE)
    assert await db.run(listening.since) == 1_000.0
    await db.run(listening.begin, 9_000.0)
    assert await db.run(listening.since) == 9_000.0
    await db.close()


async def test_messages_are_kept_longer_where_the_bot_is(db: Database) -> None:
    await keep(db, "2.0", is_engaged=False)
    await keep(db, "3.0")
    await db.run(thread_messages.delete_expired, 100.0 + thread_messages.CALL_TTL + 1)
    assert await waiting(db) == ["3.0"]
    await db.run(thread_messages.delete_expired, 100.0 + thread_messages.THREAD_TTL + 1)
    assert await waiting(db) == []
    await db.close()


async def test_what_a_conversation_has_is_known(db: Database) -> None:
    row = await request(db, "4.0")
    assert await db.run(thread_reads.known_among, row, ["3.0", "4.0"]) == {"4.0"}
    row.external_id = "slack:T1:C1:channel:0"
    assert await db.run(thread_reads.known_among, row, ["3.0", "4.0"]) == set()
    await db.close()

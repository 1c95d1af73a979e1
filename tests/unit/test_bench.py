"""What the bench compares is comparable, and what it says is what it measured."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import aiohttp
import pytest
from colloquy_server.database import migrate
from colloquy_server.database.engine import sync_engine
from colloquy_server.database.repository import access
from colloquy_server.database.transactions import EVERY_ACCOUNT, Session
from colloquy_server.providers.chunks import AnswerReader
from colloquy_server.replies import publishing
from sqlalchemy import text

from bench import documents, instant, paced
from bench.filling import fill_floor, fill_server
from bench.floors import tokens as floor
from bench.floors.stores import SqliteStore
from bench.report import Limit, Row, compared, table
from bench.svg import Bar, Group, picture


@pytest.mark.parametrize("name", ["_WINDOW", "_WINDOW_PER_REPLY", "_WINDOW_MAX"])
def test_the_floor_collects_text_in_the_window_of_the_server(name: str) -> None:
    assert getattr(floor, name) == getattr(publishing, name)


def test_a_ratio_is_the_median_of_the_rounds_and_what_is_limited() -> None:
    row = compared("part", "sqlite", "what", "ms", [2, 30, 9], [1, 10, 9], Limit(2))
    assert (row.server, row.floor, row.ratio) == (9, 9, 2)
    assert not row.is_over
    assert compared("part", "sqlite", "what", "ms", [3], [1], Limit(2)).is_over


@pytest.mark.parametrize(
    ("value", "limit", "is_over"),
    [
        (60, Limit(60), False),
        (61, Limit(60), True),
        (0.6, Limit(0.6, at_least=True), False),
        (0.5, Limit(0.6, at_least=True), True),
    ],
)
def test_a_value_without_a_floor_is_limited_itself(
    value: float, limit: Limit, is_over: bool
) -> None:
    assert Row("part", "sqlite", "what", "µs", value, limit=limit).is_over == is_over


def test_the_table_names_what_is_over_its_limit() -> None:
    rows = [
        Row("replies", "sqlite", "many", "ms", 3, 1, 3, Limit(2)),
        Row("replies", "sqlite", "one", "ms", 1, 1, 1, Limit(2)),
    ]
    _, over, within = table(rows)
    assert over.endswith("≤ 2 OVER")
    assert within.endswith("≤ 2")


@pytest.mark.parametrize("size", [10, 1_000_000])
async def test_the_instant_provider_answers_each_request_of_a_connection_once(size: int) -> None:
    connector = aiohttp.TCPConnector(limit=1)
    async with instant.serving() as base_url, aiohttp.ClientSession(connector=connector) as session:
        for _ in range(3):
            reader = AnswerReader()
            async with session.post(f"{base_url}/chat/completions", data=b"x" * size) as answer:
                pieces = reader.feed(await answer.read())
            assert "".join(pieces) == instant.TEXT


def test_a_paced_text_that_lacks_a_token_is_found() -> None:
    clocks = "1".zfill(paced.CLOCK_DIGITS) + "2".zfill(paced.CLOCK_DIGITS)
    whole = clocks + paced.token(7, 1) + paced.token(7, 2)
    assert paced.check(7, 3, whole) == (1, 2)
    with pytest.raises(paced.WrongText):
        paced.check(7, 3, clocks + paced.token(7, 2))


async def test_the_floor_stores_what_was_said_and_gives_it_back(tmp_path: Path) -> None:
    store = SqliteStore(f"{tmp_path}/floor.db")
    for number in range(2):
        reply_id, history = await store.begin("one", f"Prompt {number}")
        await store.finish("one", reply_id, f"Reply {number}", 2)
    await store.begin("other", "Prompt")
    _, history = await store.begin("one", "Prompt 2")
    assert history == [
        *[(1, "Prompt 0"), (2, "Reply 0"), (1, "Prompt 1"), (2, "Reply 1"), (1, "Prompt 2")]
    ]


async def test_a_floor_that_was_filled_goes_on_where_the_filling_ended(tmp_path: Path) -> None:
    store = SqliteStore(f"{tmp_path}/floor.db")
    (conversation_id,) = fill_floor(f"sqlite:///{tmp_path}/floor.db", 1, 3)
    _, history = await store.begin(conversation_id, "Next")
    assert [role for role, _ in history] == [1, 2, 1, 2, 1, 2, 1]


def test_a_server_that_was_filled_has_whole_conversations_that_can_be_found(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path}/server.db"
    migrate.upgrade(url)
    engine = sync_engine(url)
    with engine.begin() as connection, Session(connection, EVERY_ACCOUNT) as session:
        access.create_account(session, "bench", None)
    fill_server(url, 2, 3)
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
        rows = connection.execute(
            text("SELECT max(position), count(*) FROM messages GROUP BY conversation_id")
        ).all()
        assert [tuple(row) for row in rows] == [(6, 6)] * 2
        found = text("SELECT count(*) FROM search_words WHERE search_words MATCH 'tokens'")
        assert connection.scalar(found) == 12
    engine.dispose()


def test_the_picture_marks_what_is_over_its_limit() -> None:
    drawn = picture("Title", "Note", [Group("SQLite", [Bar("a & b", 3.5, 2), Bar("c", 1.5, 2)])])
    tree = ET.fromstring(drawn)
    rects = tree.findall("{http://www.w3.org/2000/svg}rect")
    assert [rect.get("class") for rect in rects] == ["over", "bar"]
    assert "prefers-color-scheme: dark" in drawn


def test_a_full_run_writes_a_page_and_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "_DOCS", tmp_path)
    (tmp_path / "performance.md").write_text("# Old\n\n## Endurance\n\nBy hand.\n")
    documents.write([Row("replies", "postgres", "many", "ms CPU a reply", 3, 2, 1.5, Limit(2))])
    page = (tmp_path / "performance.md").read_text()
    assert "| replies | postgres | many | 3.00 | 2.00 | ms CPU a reply | 1.50 x | ≤ 2 |" in page
    assert "# Old" not in page
    assert page.endswith("\n## Endurance\n\nBy hand.\n")
    assert "replies: many" in (tmp_path / "bench.svg").read_text()

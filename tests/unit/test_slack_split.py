"""A long text as several messages: the pieces join to it, render alone, and stay where they are."""

from __future__ import annotations

import time

import pytest
from colloquy_slack.outgoing.split import LIMIT, STRUCTURES, Part, split
from hypothesis import given
from hypothesis import strategies as st

LINES = st.sampled_from(
    [
        "",
        "A line of words that goes on for a while and then a little more.",
        "```python",
        "```",
        "````markdown",
        "````",
        "~~~",
        "> ```js",
        "> quoted",
        "- item",
        "  ```sh",
        "# Heading",
        "---",
        "| a | b |",
        "|---|---|",
        "| 1 | 2 |",
        "שלום עולם, זה טקסט מימין לשמאל",
        "👩‍👩‍👧‍👦👍🏽🇩🇪 e\u0301" * 5,
        "x" * 700,
        "word " * 200,
    ]
)
TEXTS = st.lists(LINES, max_size=120).map("\n".join)


def joined(text: str, parts: list[Part]) -> str:
    shown = [part.of(text) for part in parts]
    pieces = [
        piece[len(part.prefix) : len(piece) - len(part.suffix)]
        for part, piece in zip(parts, shown, strict=True)
    ]
    return "".join(pieces)


@given(TEXTS, st.sampled_from([600, 1_000, 3_000]))
def test_the_pieces_join_to_the_text_and_none_is_too_long(text: str, limit: int) -> None:
    parts = split(text, limit=limit)
    assert joined(text, parts) == text
    for part in parts:
        length = len(text[part.start : part.end].encode("utf-16-le")) // 2
        assert length + len(part.prefix) <= limit
        assert part.end > part.start or text == ""


@given(st.text(max_size=3_000))
def test_any_text_is_split_without_loss(text: str) -> None:
    assert joined(text, split(text, limit=600)) == text


@given(TEXTS, st.integers(0, 100))
def test_growing_text_moves_no_cut(text: str, percent: int) -> None:
    earlier = split(text[: len(text) * percent // 100], is_final=False, limit=800)
    later = split(text, limit=800)
    assert later[: len(earlier) - 1] == earlier[:-1]


def test_a_short_text_is_one_piece_as_it_is() -> None:
    assert split("Hello") == [Part(0, 5)]
    assert split("") == [Part(0, 0)]


def test_a_cut_fence_is_closed_and_opened_again() -> None:
    code = "\n".join(f"line {number}" for number in range(400))
    text = f"Look:\n\n```python\n{code}\n```\n\nDone."
    first, *rest = parts = split(text, limit=1_000)
    assert first.of(text).endswith("\n```")
    assert rest[0].of(text).startswith("```python\nline ")
    for part in parts:
        assert part.of(text).count("```") == 2
    assert parts[-1].of(text).endswith("```\n\nDone.")


def test_a_fence_within_a_longer_fence_is_text() -> None:
    inner = "```python\nprint()\n```\n" * 100
    text = f"````markdown\n{inner}````\n"
    for part in split(text, limit=1_000):
        lines = part.of(text).strip("\n").split("\n")
        assert lines[0] == "````markdown"
        assert lines[-1] == "````"


def test_a_fence_in_a_list_or_quote_keeps_its_indentation() -> None:
    body = "\n".join(f"  line {number}" for number in range(200))
    first, second, *_ = split(f"- ```sh\n{body}\n  ```\n", limit=1_000)
    assert first.suffix == "  ```"
    assert second.prefix == "  ```sh\n"
    quoted = "\n".join(f"> line {number}" for number in range(200))
    first, second, *_ = split(f"> ```\n{quoted}\n> ```\n", limit=1_000)
    assert first.suffix == "> ```"
    assert second.prefix == "> ```\n"


def test_a_quote_that_ends_closes_its_fence() -> None:
    text = "> ```\n> code\n" + "A paragraph of plain words.\n\n" * 60
    assert not any(part.suffix for part in split(text, limit=1_000))


def test_a_cut_table_gets_its_head_again() -> None:
    rows = "".join(f"| {number} | value |\n" for number in range(100))
    text = f"| n | v |\n|---|---|\n{rows}"
    first, *rest = split(text, limit=1_000)
    assert not first.suffix
    for part in rest:
        assert part.of(text).startswith("| n | v |\n|---|---|\n| ")


def test_paragraphs_are_cut_between() -> None:
    text = "One two three four five.\nSix seven.\n\n" * 100
    first = split(text, limit=1_000)[0]
    assert text[: first.end].endswith("\n\n")


def test_a_line_without_end_is_cut_at_a_space() -> None:
    text = "wordy " * 1_000
    assert all(text[part.end - 1] == " " for part in split(text, limit=1_000))


@pytest.mark.parametrize("cluster", ["👩‍👩‍👧‍👦", "👍🏽", "🇩🇪", "e\u0301"])
def test_an_emoji_is_not_cut(cluster: str) -> None:
    text = cluster * 500
    for part in split(text, limit=601):
        piece = text[part.start : part.end]
        if cluster != "🇩🇪":
            assert piece == cluster * (len(piece) // len(cluster))


def test_structures_are_counted() -> None:
    text = "## Heading\n\ntext\n\n" * 60
    parts = split(text)
    assert len(parts) >= 3
    assert all(part.of(text).count("## ") <= STRUCTURES for part in parts)


def test_hashes_in_code_are_no_structures() -> None:
    text = "```\n" + "# comment\n" * 200 + "```\n"
    assert len(split(text)) == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("```py\nprint(", "```py\nprint(\n```"),
        ("```py\nprint()\n```", "```py\nprint()\n```"),
        ("```py\nprint()\n```\n", "```py\nprint()\n```\n"),
        ("plain", "plain"),
    ],
)
def test_a_text_that_grows_is_closed_meanwhile(text: str, shown: str) -> None:
    assert split(text, is_final=False)[-1].of(text) == shown
    assert split(text)[-1].of(text) == text


def test_the_limit_leaves_room_in_a_block() -> None:
    assert LIMIT * 5 / 4 + 200 < 12_000


@pytest.mark.parametrize("line", ["word ", "word", " ", ">", "> ", "- ", "-", "`", "|-", "# "])
def test_a_line_without_end_takes_no_time_to_speak_of(line: str) -> None:
    text = line * (200_000 // len(line))
    began = time.process_time()
    split(text)
    assert time.process_time() - began < 1

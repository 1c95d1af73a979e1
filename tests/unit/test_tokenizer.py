"""Terms as search sees them."""

from __future__ import annotations

import pytest
from colloquy_server.database.tokenizer import MAX_SNIPPET_BYTES, MAX_TERMS, phrases, snippet, terms


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Hello, World!", ["hello", "world"]),
        ("Crème cre\u0300me", ["creme", "creme"]),
        ("snake_case x-y", ["snake", "case", "x", "y"]),
        ("苹果 apple", ["苹", "果", "apple"]),
        ("🎉🎉ok", ["u1f389", "u1f389", "ok"]),
        ("½ ﷺ ﬁne", ["12", "صلىاللهعليهوسلم", "fine"]),
        ("", []),
        ("'\"*():-", []),
        ("x" * 100, ["x" * 64]),
    ],
)
def test_terms(text: str, found: list[str]) -> None:
    assert [term.text for term in terms(text)] == found


def test_a_query_is_phrases() -> None:
    assert phrases('"me@example.com" c++ ***') == [["me", "example", "com"], ["c"]]


def test_a_snippet_marks_whole_phrases_and_every_hit() -> None:
    assert (
        snippet("a new York, New York; york", [["new", "york"]]) == "a «new York», «New York»; york"
    )


def test_a_snippet_of_a_long_text_is_short_and_made_fast() -> None:
    text = "word " * 200_000
    assert len(snippet(f"{text}needle", [["needle"]])) < 100  # beyond what is searched
    found = snippet(f"{'word ' * (MAX_TERMS - 10)}needle {text}", [["needle"]])
    assert "«needle»" in found
    assert len(found) < 200


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"a needle {'-' * 900_000} end", "a «needle» ---"),
        (f"a {'-' * 900_000} needle end", "--- «needle» end"),
        (f"a needle {'x' * 900_000} end", "a «needle» xxx"),
        (f"{'x' * 900_000} needle end", "xxx «needle» end"),
        (f"a {'needle' * 100_000}", "a «needleneedle"),
        ("\N{ROLLING ON THE FLOOR LAUGHING} needle " * 1_000, "«needle»"),
    ],
)
def test_a_snippet_of_long_words_is_short_too(text: str, shown: str) -> None:
    query = "needle" if " needle " in text or text.startswith("needle ") else "needle" * 20
    found = snippet(text, phrases(query))
    assert shown in found
    assert len(found.encode()) < MAX_SNIPPET_BYTES

"""Names that tell people apart, and estimates that learn."""

from __future__ import annotations

import json

import pytest
from colloquy_server.context import authors
from colloquy_server.context.token_estimates import TokenEstimates, estimate_tokens
from colloquy_server.database.models import Message, User


def said(*names: str) -> list[Message]:
    messages = []
    for number, name in enumerate(names):
        message = Message(author_id=str(number))
        message.__dict__["author"] = User(id=str(number), display_name=name)
        messages.append(message)
    return messages


@pytest.mark.parametrize(
    "names",
    [
        ("Ann", "Ann", "Ann_2", "Ann"),
        ("", "", "user_1", "User 1"),
        ("Ann", "ann", "ANN", "Ann "),
        ("Äpfel", "Öpfel", "x" * 100, "x" * 99),
    ],
)
def test_no_two_people_have_one_name(names: tuple[str, ...]) -> None:
    for told in (authors.distinct(said(*names)), authors.field_names(said(*names))):
        assert len({name.casefold() for name in told.values()}) == len(names)
    assert all(
        name.isascii()
        and 0 < len(name) <= 64
        and name.replace("-", "_").replace("_", "a").isalnum()
        for name in authors.field_names(said(*names)).values()
    )


def test_one_person_needs_no_name() -> None:
    assert authors.distinct(said("Ann")) == authors.field_names(said("Ann")) == {}


def test_an_envelope_holds_whatever_it_is_given() -> None:
    text = '"}, {"author": "Ann", "text": "\n'
    assert json.loads(authors.envelope("Bob", text)) == {"author": "Bob", "text": text}
    told = json.loads(authors.file_envelope(text, "text/csv", "cut", text))
    assert told == {"file": text, "type": "text/csv", "note": "cut", "text": text}
    assert "note" not in json.loads(authors.file_envelope("a.csv", "text/csv", "", text))


def test_estimates_learn_slowly_within_reason_and_from_ones_own_texts_alone() -> None:
    estimates = TokenEstimates()
    assert estimates.factor("a", "m") == 1
    estimates.learn("a", "m", 1_000, 2_000)
    assert estimates.factor("a", "m") == pytest.approx(1.3)
    for _ in range(50):
        estimates.learn("a", "m", 1_000, 100_000)
    assert estimates.factor("a", "m") == 3
    assert estimates.factor("b", "m") == estimates.factor("a", "other") == 1
    for _ in range(50):
        estimates.learn("a", "m", 100_000, 1_000)
    assert estimates.factor("a", "m") == 0.75
    estimates.learn("a", "other", 10, 1_000)
    assert estimates.factor("a", "other") == 1
    estimates.too_low("a", "other")
    assert estimates.factor("a", "other") == 1.25


def test_an_estimate_counts_bytes() -> None:
    assert estimate_tokens("word" * 100) == 108
    assert estimate_tokens("苹果") == 9

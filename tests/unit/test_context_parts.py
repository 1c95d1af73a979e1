"""Names that tell people apart, estimates that learn, and large files that hold nobody up."""

from __future__ import annotations

import base64
import json
import threading
from typing import Any, Literal, cast

import pytest
from colloquy_server.context import authors, content_parts
from colloquy_server.context.chat_messages import ChatMessage
from colloquy_server.context.content_parts import ContentParts, Room
from colloquy_server.context.extraction_cache import ExtractionCache
from colloquy_server.context.token_estimates import TokenEstimates, estimate_tokens
from colloquy_server.database.models import Attachment, Role, State
from colloquy_server.database.repository.history import Said, Turn
from colloquy_server.database.rows import UserRow
from colloquy_server.files.extraction import Pages
from colloquy_server.files.filetypes import PDF, Kind
from colloquy_server.providers.catalog import Model, Provider

NAMES: tuple[Literal["field", "envelope"], ...] = ("field", "envelope")


def said(*names: str) -> list[UserRow]:
    return [UserRow(str(number), None, name) for number, name in enumerate(names)]


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
    turns = [Turn(Said("m", 1, Role.USER, "Hi", "0", 0, None, State.COMPLETED, False))] * 2
    for names in NAMES:
        provider = Provider("p", author_names=names, alternate_roles=True)
        told = authors.authors_of(said("Зоя", "Bob"), provider, turns)
        assert told == authors.Authors({}, is_enveloped=False, note="")


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


class OneFile:
    """Extractions of a file with these bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def data(self, file: Attachment) -> bytes:
        return self._data

    async def pages(self, file: Attachment) -> Pages:
        return Pages(1)


async def test_a_large_file_becomes_json_in_a_thread_piece_by_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoded: list[tuple[int, bool]] = []
    encode = base64.b64encode

    def recorded(data: bytes, *options: Any) -> bytes:
        encoded.append((len(data), threading.current_thread() is threading.main_thread()))
        return encode(data, *options)

    monkeypatch.setattr(base64, "b64encode", recorded)
    data = bytes(range(256)) * 4_000 + b"!"  # no multiple of three
    parts = ContentParts(cast(ExtractionCache, OneFile(data)))
    file = Attachment(
        kind=Kind.DOCUMENT, content_type=PDF, byte_size=len(data), filename='a "b" ü.pdf'
    )
    model = Model("m", Provider("p"), frozenset({"document"}), 100_000, 1_000, 0, 0)
    content = await parts.of(file, model, Room(10_000), is_new=True, as_text=False)
    (encoded_part,) = content.parts
    part = json.loads(encoded_part)["file"]
    assert part["filename"] == file.filename
    assert part["file_data"] == f"data:{PDF};base64,{encode(data).decode()}"
    assert max(size for size, _ in encoded) == content_parts.ENCODED_AT_ONCE
    assert not any(is_main for _, is_main in encoded)


def test_parts_stand_between_texts_and_alone() -> None:
    part = b'{"type":"image_url","image_url":{"url":"data:"}}'
    shown = {"type": "image_url", "image_url": {"url": "data:"}}
    alone = ChatMessage("user", [part])
    assert json.loads(b"".join(alone.pieces())) == {"role": "user", "content": [shown]}
    several = ChatMessage("user", ["a", part, "b", part], name="Ann")
    a, b = ({"type": "text", "text": text} for text in "ab")
    assert json.loads(b"".join(several.pieces())) == {
        "role": "user",
        "name": "Ann",
        "content": [a, shown, b, shown],
    }

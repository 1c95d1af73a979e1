"""Terms of a text for search, the same on every database: words without case and accents, each
character of scripts that are written without spaces a term of its own, each emoji too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

_SINGLE = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Thai, Japanese and Chinese: scripts without spaces between words."""

_EMOJI = "\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff"

_TERM = re.compile(rf"[{_SINGLE}]|[{_EMOJI}]|(?:(?![{_SINGLE}{_EMOJI}])[^\W_][\u0300-\u036f]*)+")

_MAX_TERM = 64
"""Characters of a term that count: a lexeme of Postgres ends at 2 KiB."""

MAX_TERMS = 20_000
"""Terms of a message that can be found: a tsvector of Postgres knows no place beyond the 16,383rd,
and one term more costs little."""

_MAX_BYTES = 900_000
_BYTES_OF_A_PLACE = 6
"""Of the terms that can be found, with what each place takes: a tsvector ends at 1 MiB."""

_MAX_PHRASES = 32
_MAX_PHRASE = 32
"""Phrases of a query that count, and terms of a phrase."""

_AROUND = 12
_AROUND_CHARACTERS = 200
"""Terms of a snippet on each side of the first hit, and characters of it, if words are long."""

MAX_SNIPPET_BYTES = 2_048
"""Of UTF-8: the characters with their marks."""

_TOUCHING = re.compile(r"»(\s?)«")
"""Between two terms that were found: they are marked together."""


@dataclass(frozen=True, slots=True)
class Term:
    """A term, and where it stands in the text."""

    text: str
    start: int
    end: int


def terms(text: str) -> Iterator[Term]:
    """The terms of a text, as they are compared: letters and digits only."""
    for match in _TERM.finditer(text):
        found = match[0]
        if found.isascii():
            normal = found.lower()
        elif not found[0].isalnum():
            normal = f"u{ord(found[0]):x}"
        else:
            decomposed = unicodedata.normalize("NFKD", found[:_MAX_TERM]).casefold()
            normal = "".join(character for character in decomposed if character.isalnum())
        if normal:
            yield Term(normal[:_MAX_TERM], match.start(), match.end())


_MAX_WORDS = 500
"""Characters of somebody's words that are kept: what an index of Postgres takes ends at 2.7 kB."""


def joined_words(*texts: str) -> str:
    """The terms of names, each with a space before it: what begins with a letter is found by that
    letter with a space before it."""
    return "".join(f" {term.text}" for text in texts for term in terms(text))[:_MAX_WORDS]


def searchable(text: str) -> Iterator[Term]:
    """The terms by which a text can be found: the first ones, of a very long text."""
    room = _MAX_BYTES
    for term in islice(terms(text), MAX_TERMS):
        room -= len(term.text.encode()) + _BYTES_OF_A_PLACE
        if room < 0:
            return
        yield term


def phrases(query: str) -> list[list[str]]:
    """What a query asks for: every one of these phrases, whose terms stand next to each other."""
    found = ([term.text for term in islice(terms(part), _MAX_PHRASE)] for part in query.split())
    return [phrase for phrase in found if phrase][:_MAX_PHRASES]


def snippet(text: str, wanted: list[list[str]]) -> str:
    """The part of a text around the first hit, each hit between « and »."""
    by_first: dict[str, list[list[str]]] = {}
    for phrase in wanted:
        by_first.setdefault(phrase[0], []).append(phrase)
    known: list[Term] = []
    more = searchable(text)
    first = _first_hit(known, more, by_first) or 0
    known += islice(more, _AROUND + _MAX_PHRASE)
    shown = range(max(0, first - _AROUND), min(len(known), first + _AROUND + 1))
    if not shown:
        return ""
    hits: set[int] = set()
    for index in range(max(0, shown[0] - _MAX_PHRASE), shown[-1] + 1):
        hits.update(_hits_at(known, index, by_first))
    hit = known[first].start
    start = max(known[shown[0]].start, hit - _AROUND_CHARACTERS)
    end = min(known[shown[-1]].end, hit + _AROUND_CHARACTERS)
    pieces = ["…" if start > known[0].start else ""]
    at = start
    for index in sorted(hits.intersection(shown)):
        term = known[index]
        if start <= term.start < end:
            pieces += [text[at : term.start], "«", text[term.start : min(term.end, end)], "»"]
            at = min(term.end, end)
    is_last = end == known[-1].end
    pieces += [text[at:end], text[end : end + _AROUND] if is_last else "…"]
    return _TOUCHING.sub(r"\1", "".join(pieces))


def _first_hit(
    known: list[Term], more: Iterator[Term], by_first: dict[str, list[list[str]]]
) -> int | None:
    """Reads terms until the first hit is known whole; returns where it begins."""
    for index in count():
        known += islice(more, max(0, index + _MAX_PHRASE - len(known)))
        if index >= len(known):
            return None
        if _hits_at(known, index, by_first):
            return index
    return None


def _hits_at(known: list[Term], index: int, by_first: dict[str, list[list[str]]]) -> range:
    """The terms of the longest phrase that begins here."""
    longest = 0
    for phrase in by_first.get(known[index].text, ()):
        if len(phrase) > longest and phrase == [
            term.text for term in known[index : index + len(phrase)]
        ]:
            longest = len(phrase)
    return range(index, index + longest)

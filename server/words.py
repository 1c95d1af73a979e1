"""Words of a text as search sees them, the same on every database: without case and accents, each
character of scripts that are written without spaces a word of its own, each emoji too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

_SINGLE = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Thai, Japanese and Chinese: scripts without spaces between words."""

_EMOJI = "\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff"

_WORD = re.compile(rf"[{_SINGLE}]|[{_EMOJI}]|(?:(?![{_SINGLE}{_EMOJI}])[^\W_][\u0300-\u036f]*)+")

_MAX_WORD = 64
"""Characters of a word that count: a lexeme of Postgres ends at 2 KiB."""

MAX_WORDS = 20_000
"""Words of a message that can be found: a tsvector of Postgres ends at 1 MiB, and knows no place
beyond the 16,383rd."""

_AROUND = 12
"""Words of a snippet on each side of the first hit."""


_TOUCHING = re.compile(r"»(\s?)«")
"""Between two words that were found: they are marked together."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word, and where it stands in the text."""

    text: str
    start: int
    end: int


def words(text: str) -> Iterator[Word]:
    """The words of a text, as they are compared: letters and digits only."""
    for match in _WORD.finditer(text):
        found = match[0]
        if found.isascii():
            normal = found.lower()
        elif not found[0].isalnum():
            normal = f"u{ord(found[0]):x}"
        else:
            decomposed = unicodedata.normalize("NFKD", found).casefold()
            normal = "".join(character for character in decomposed if character.isalnum())
        if normal:
            yield Word(normal[:_MAX_WORD], match.start(), match.end())


def phrases(query: str) -> list[list[str]]:
    """What a query asks for: every one of these phrases, whose words stand next to each other."""
    found = ([word.text for word in words(part)] for part in query.split())
    return [phrase for phrase in found if phrase]


def snippet(text: str, wanted: list[list[str]]) -> str:
    """The part of a text around the first hit, each hit between « and »."""
    all_words = list(islice(words(text), MAX_WORDS))
    hits: set[int] = set()
    for phrase in wanted:
        for index in range(len(all_words) - len(phrase) + 1):
            if all(all_words[index + n].text == wanted for n, wanted in enumerate(phrase)):
                hits.update(range(index, index + len(phrase)))
    first = min(hits, default=0)
    shown = range(max(0, first - _AROUND), min(len(all_words), first + _AROUND + 1))
    if not shown:
        return ""
    at = all_words[shown[0]].start
    pieces = ["…" if shown[0] else ""]
    for index in sorted(hits.intersection(shown)):
        word = all_words[index]
        pieces += [text[at : word.start], "«", text[word.start : word.end], "»"]
        at = word.end
    end = all_words[shown[-1]].end
    is_last = shown[-1] == len(all_words) - 1
    pieces += [text[at:end], text[end : end + _AROUND] if is_last else "…"]
    return _TOUCHING.sub(r"\1", "".join(pieces))

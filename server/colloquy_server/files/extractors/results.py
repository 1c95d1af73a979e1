"""What comes out of a file: its text, of a long one the beginning and the end, and in words what is
missing of it."""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self, cast

BEGINNING = 300_000
"""Characters of a long text's beginning that are kept: a book of 150 pages."""

END = 100_000
"""Characters of a long text's end that are kept: totals, signatures and answers stand there."""

MAX_TEXT = BEGINNING + END
"""Characters of text that are read out of a file: what is longer loses its middle."""

READING_SECONDS = 8.0
"""Seconds of work after which what was read so far is given, with a note; the process may work for
more than twice as long."""


_NOTES = 20
"""Notes of one file that are given one by one."""

_NOTE_LENGTH = 300
"""Characters of a note: it may hold names that strangers chose."""


class Problem(Exception):
    """Why a file cannot be read, for the person who sent it."""


class _Kept:
    """What can be kept as JSON: a dataclass whose `notes` are a tuple."""

    __slots__ = ()

    def dump(self) -> str:
        """As JSON."""
        return json.dumps(asdict(cast("Any", self)), ensure_ascii=False)

    @classmethod
    def load(cls, dumped: str | bytes) -> Self:
        """What `dump` made."""
        fields = json.loads(dumped)
        return cls(**{**fields, "notes": tuple(fields["notes"])})


@dataclass(frozen=True, slots=True)
class ExtractedText(_Kept):
    """The text of a file. Of more than MAX_TEXT characters there are `beginning` and `end`, and
    `length` says how many the whole has; `notes` say in words what else is missing."""

    beginning: str
    end: str = ""
    length: int = 0
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str, notes: Sequence[str] = ()) -> Self:
        """A text that is whole, shortened where it has to be."""
        if len(text) <= MAX_TEXT:
            return cls(text, "", len(text), tuple(notes))
        return cls(text[:BEGINNING], text[-END:], len(text), tuple(notes))


@dataclass(frozen=True, slots=True)
class Pages(_Kept):
    """How many pages or pictures a file has that is given as it is; `text` is what a model does not
    see on them, as the answers in a form, and `notes` say what is missing."""

    count: int
    text: str = ""
    notes: tuple[str, ...] = ()


class Notes:
    """Collects what is to be said of a file beside its text."""

    def __init__(self) -> None:
        self._said: dict[str, None] = {}
        self._left_out: Counter[str] = Counter()

    def say(self, note: str) -> None:
        """Adds a note, once, on one line."""
        line = " ".join("".join(c if c.isprintable() else " " for c in note).split())
        self._said[line if len(line) <= _NOTE_LENGTH else f"{line[: _NOTE_LENGTH - 1]}…"] = None

    def left_out(self, thing: str, count: int = 1) -> None:
        """Counts things that are not given; `thing` is one of them, as "chart"."""
        if count > 0:
            self._left_out[thing] += count

    def all(self) -> tuple[str, ...]:
        """All notes."""
        things = [
            f"{count:,} {_several(thing) if count > 1 else thing}"
            for thing, count in self._left_out.items()
        ]
        said = [*self._said]
        if len(said) > _NOTES:
            said[_NOTES:] = [f"and {len(said) - _NOTES:,} more such notes"]
        return (*said, *([f"left out: {', '.join(things)}"] if things else []))


def _several(thing: str) -> str:
    """The plural of a thing, as "files in base64"."""
    noun, space, rest = thing.partition(" in ")
    return f"{noun}s{space}{rest}"


def gather(pieces: Iterable[str], notes: Notes) -> ExtractedText:
    """The text whose pieces these are. Raises Problem when there is none."""
    kept: list[str] = []  # the first MAX_TEXT characters
    last: deque[str] = deque()  # of what follows, at least the last END
    length = kept_size = last_size = 0
    for piece in pieces:
        piece = piece.replace("\x00", "").encode(errors="replace").decode()
        length += len(piece)
        room = MAX_TEXT - kept_size
        kept.append(piece[:room])
        kept_size += len(kept[-1])
        last.append(piece[room:])
        last_size += len(last[-1])
        while last_size - len(last[0]) > END:
            last_size -= len(last.popleft())
        if time.process_time() > READING_SECONDS:
            notes.say(f"what follows the first {length:,} characters was not read: it takes long")
            break
    text = "".join(kept)
    if length <= MAX_TEXT:
        text = text.strip()
        if not text:
            raise Problem("; ".join(["there is no text in it", *notes.all()]))
        return ExtractedText(text, "", len(text), notes.all())
    end = (text[BEGINNING:] + "".join(last))[-END:]
    return ExtractedText(text[:BEGINNING], end, length, notes.all())

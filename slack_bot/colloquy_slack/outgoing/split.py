"""A long text as several messages: where to cut, and what each piece needs to render by itself.

The pieces always join to the text. Where a cut falls depends only on the text before it, so that a
text which grows never moves a cut once there is text behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

LIMIT = 9_400
"""UTF-16 units of the text in one message. A `markdown` block takes 12,000; what is added to the
text (fences, heads of tables, a break in every mention: five for four) fits between the two."""

STRUCTURES = 17
"""Headings, rules and tables in one message. Slack makes blocks of them, up to two each and one
more, and takes 50 blocks; 15 may be added to the text."""

_MAX_ADDITION = 400
"""A head of a table or a fence's info string that is longer is not repeated."""

_FENCE = re.compile(
    r"^(?P<lead>[ \t]*(?:>[ \t]?)*[ \t]*)(?P<bullet>(?:[-*+]|\d{1,9}[.)])[ \t]+)?"
    r"(?P<mark>`{3,}|~{3,})(?P<info>.*)$"
)
_HEADING = re.compile(r"^ {0,3}#{1,6}(?:[ \t]|$)")
_RULE = re.compile(r"^ {0,3}(?:(?:-[ \t]*){3,}|(?:\*[ \t]*){3,}|(?:_[ \t]*){3,})$")
_UNDERLINE = re.compile(r"^ {0,3}(?:=+|--?)[ \t]*$")
_ROW = re.compile(r"^ {0,3}(?! ).*\|")
_DELIMITER = re.compile(r"^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")
_STRUCTURES = (_HEADING, _UNDERLINE, _RULE)
# What belongs to the character before it: joiners, variation selectors, skin tones, accents, the
# second half of a flag.
_ATTACHED = re.compile(
    "[\u200d\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u20d0-\u20ff\ufe00-\ufe0f"
    "\U0001f1e6-\U0001f1ff\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]"
)


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a text, from `start` to `end` (code points); `prefix` and `suffix` are added."""

    start: int
    end: int
    prefix: str = ""
    suffix: str = ""

    def of(self, text: str) -> str:
        """Return the piece as it is shown."""
        return f"{self.prefix}{text[self.start : self.end]}{self.suffix}"


@dataclass(frozen=True, slots=True)
class _Fence:
    lead: str
    mark: str
    info: str

    @property
    def opening(self) -> str:
        info = self.info if len(self.info) <= _MAX_ADDITION else ""
        return f"{self.lead}{self.mark}{info}\n"

    def closing(self, text: str) -> str:
        newline = "" if text.endswith("\n") else "\n"
        return f"{newline}{self.lead}{self.mark}"

    def is_closed_by(self, line: str) -> bool:
        bare = line.strip(" \t>")
        is_mark = len(bare) >= len(self.mark) and not bare.strip(self.mark[0])
        return is_mark or self.is_left_by(line)

    def is_left_by(self, line: str) -> bool:
        """Whether the line ends the quote that the fence is in."""
        return ">" in self.lead and not line.lstrip().startswith(">")


@dataclass(frozen=True, slots=True)
class _State:
    """What is open at the beginning of a line."""

    fence: _Fence | None = None
    # The first two lines of the table that goes on here, and whether the second is there already.
    head: str = ""
    is_table: bool = False

    def after(self, line: str) -> _State:
        """Return what is open behind a line, given without its end."""
        if self.fence is not None:
            if not self.fence.is_closed_by(line):
                return self
            if not self.fence.is_left_by(line):
                return _State()
        fence = _opened(line)
        if fence is not None:
            return _State(fence=fence)
        if self.is_table and _ROW.match(line):
            return self
        if self.head and _DELIMITER.match(line) and "-" in line and "|" in line:
            return _State(head=f"{self.head}{line}\n", is_table=True)
        return _State(head=f"{line}\n") if _ROW.match(line) else _State()

    @property
    def prefix(self) -> str:
        """What makes the text that follows render as it would here."""
        if self.fence is not None:
            return self.fence.opening
        return self.head if self.is_table and len(self.head) <= _MAX_ADDITION else ""


class _Cut(NamedTuple):
    rank: int
    position: int
    state: _State


def split(text: str, *, is_final: bool = True, limit: int = LIMIT) -> list[Part]:
    """Return the pieces of a text, at least one.

    A fence that is cut is closed and opened again. While the text still grows (not `is_final`) the
    last piece is closed too.
    """
    parts: list[Part] = []
    start, state = 0, _State()
    while True:
        prefix = state.prefix
        window = _window(text, start, max(limit - len(prefix), limit // 2), state)
        end = start + len(window)
        if end >= len(text):
            suffix = "" if is_final else _closing_fence(window, state)
            parts.append(Part(start, len(text), prefix, suffix))
            return parts
        cut = _choose(_cuts(window, state), window, text[end])
        fence = cut.state.fence
        suffix = fence.closing(window[: cut.position]) if fence else ""
        parts.append(Part(start, start + cut.position, prefix, suffix))
        start, state = start + cut.position, cut.state


def _opened(line: str) -> _Fence | None:
    match = _FENCE.match(line)
    if match is None or (match["mark"][0] == "`" and "`" in match["info"]):
        return None
    lead = match["lead"] + " " * len(match["bullet"] or "")
    return _Fence(lead, match["mark"], match["info"]) if len(lead + match["mark"]) < 100 else None


def _closing_fence(piece: str, state: _State) -> str:
    """Return what closes the fence that is open at the end of a piece."""
    for line in piece.split("\n"):
        state = state.after(line)
    return state.fence.closing(piece) if state.fence else ""


def _window(text: str, start: int, limit: int, state: _State) -> str:
    """Return as much of the text from `start` on as one message takes, at least a character."""
    window = text[start : start + limit]
    while (excess := len(window.encode("utf-16-le", "surrogatepass")) // 2 - limit) > 0:
        # Every character that goes takes one or two units along.
        window = window[: len(window) - max(1, excess // 2)]
    structures = 0
    for line, line_start, _ in _lines(window):
        after = state.after(line)
        is_table = after.is_table and not state.is_table
        is_text = state.fence is None and after.fence is None
        if is_text and (is_table or any(one.match(line) for one in _STRUCTURES)):
            structures += 1
            if structures > STRUCTURES and line_start:
                return window[:line_start]
        state = after
    return window


def _lines(window: str) -> Iterator[tuple[str, int, int]]:
    """Yield each whole line without its end, where it starts, and where the next one does."""
    start = 0
    while end := window.find("\n", start) + 1:
        yield window[start : end - 1], start, end
        start = end


def _cuts(window: str, state: _State) -> list[_Cut]:
    """Return every beginning of a line, and the window's end, with how good a cut there would be.

    Ranks: 3 between paragraphs, 2 between lines of text, 1 in a table or code, 0 within a line.
    """
    cuts: list[_Cut] = []
    end = 0
    for line, _, end in _lines(window):
        state, is_blank = state.after(line), not line.strip()
        is_open = state.fence is not None or bool(state.head)
        cuts.append(_Cut(1 if is_open else 3 if is_blank else 2, end, state))
    if end < len(window):
        cuts.append(_Cut(0, len(window), _State(fence=state.fence)))
    return cuts


def _choose(cuts: list[_Cut], window: str, following: str) -> _Cut:
    """Return the best cut in the second half of the window, of equals the last."""
    half = len(window) // 2
    best = max((cut for cut in cuts if cut.position > half), key=lambda cut: cut[:2])
    if best.rank:
        return best
    position = window.rfind(" ", half) + 1
    if not position:
        known = window + following
        position = len(window)
        while position > half + 1 and _is_within_character(known, position):
            position -= 1
    return best._replace(position=position)


def _is_within_character(text: str, position: int) -> bool:
    return bool(_ATTACHED.match(text, position)) or text[position - 1] == "\u200d"

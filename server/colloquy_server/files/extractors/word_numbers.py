"""The numbers of paragraphs in Word documents, which are kept nowhere: Word counts them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from colloquy_server.files.extractors.ooxml import Package
from colloquy_server.files.extractors.results import Notes

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"

_LEVELS = 9
_MAX_NUMBER = 10_000
"""Up to it numbers are written in letters and in Roman; it bounds what a hostile one takes."""

_ROMAN = ((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"),
          (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Level:
    """How the paragraphs of a level are numbered; `text` has %1 for the number of the first."""

    start: int
    kind: str
    text: str


@dataclass(slots=True)
class _List:
    """A list, whose numbers go on wherever its paragraphs are."""

    levels: dict[int, _Level]
    styles: dict[str, int]
    counts: dict[int, int] = field(default_factory=dict)


class Numbering:
    """Gives paragraphs their numbers; it has to see all of them, in their order."""

    def __init__(self, package: Package, main: str, notes: Notes) -> None:
        self._lists: dict[str, _List] = {}
        self._of: dict[str, str] = {}
        self._restarts: dict[str, dict[int, int]] = {}
        self._styles: dict[str, Any] = {}
        for root in package.beside(main, "numbering", notes):
            self._read(root)
        for root in package.beside(main, "styles", notes):
            self._styles |= {
                each.get(f"{_WORD}styleId", ""): each for each in root.iter(f"{_WORD}style")
            }

    def _read(self, root: Any) -> None:
        for each in root.iter(f"{_WORD}abstractNum"):
            levels, styles = {}, {}
            for level in each.iter(f"{_WORD}lvl"):
                place = _number(level.get(f"{_WORD}ilvl"), 0)
                levels[place] = _Level(
                    _number(_value(level, "start"), 1),
                    _value(level, "numFmt") or "decimal",
                    _value(level, "lvlText") or "",
                )
                if style := _value(level, "pStyle"):
                    styles[style] = place
            self._lists[each.get(f"{_WORD}abstractNumId", "")] = _List(levels, styles)
        for each in root.iter(f"{_WORD}num"):
            name = each.get(f"{_WORD}numId", "")
            self._of[name] = _value(each, "abstractNumId") or ""
            self._restarts[name] = {
                _number(over.get(f"{_WORD}ilvl"), 0): _number(_value(over, "startOverride"), 1)
                for over in each.iter(f"{_WORD}lvlOverride")
                if over.find(f"{_WORD}startOverride") is not None
            }

    def next(self, paragraph: Any) -> str:
        """The number that stands before this paragraph, as it is shown; empty when none does,
        or the bullet of a list of bullets."""
        name, place = self._place(paragraph)
        found = self._lists.get(self._of.get(name, ""))
        if found is None or place not in found.levels:
            return ""
        level = found.levels[place]
        if place in self._restarts.get(name, {}):  # once: from here on it goes on
            found.counts[place] = self._restarts[name].pop(place)
        else:
            found.counts[place] = found.counts.get(place, level.start - 1) + 1
        found.counts = {at: count for at, count in found.counts.items() if at <= place}
        if level.kind == "bullet":  # below numbers, which are text by now, it is no list
            top = found.levels.get(0, level)
            return "" if top.kind == "bullet" else "-"
        return re.sub("%([1-9])", lambda match: _shown(found, int(match[1]) - 1), level.text)

    def _place(self, paragraph: Any) -> tuple[str, int]:
        """The list of a paragraph and its level in it, by itself or by its style."""
        properties = paragraph.find(f"{_WORD}pPr")
        if properties is None:
            return "", 0
        style = _value(properties, "pStyle") or ""
        name, level = _list_of(properties)
        first = style
        for _ in range(_LEVELS):  # of styles upon styles
            if name or style not in self._styles:
                break
            found = self._styles[style]
            own = found.find(f"{_WORD}pPr")
            name, in_style = _list_of(own) if own is not None else ("", None)
            level = in_style if level is None else level
            style = _value(found, "basedOn") or ""
        if level is None and (of := self._lists.get(self._of.get(name, ""))) is not None:
            level = of.styles.get(first, 0)
        return name, level or 0


def _list_of(properties: Any) -> tuple[str, int | None]:
    numbers = properties.find(f"{_WORD}numPr")
    if numbers is None:
        return "", None
    level = _value(numbers, "ilvl")
    return _value(numbers, "numId") or "", None if level is None else _number(level, 0)


def _value(element: Any, name: str) -> str | None:
    found = element.find(f"{_WORD}{name}")
    value: str | None = None if found is None else found.get(f"{_WORD}val")
    return value


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 7 else default


def _shown(found: _List, place: int) -> str:
    """The number of a level, in the way that it is written."""
    level = found.levels.get(place)
    if level is None:
        return ""
    count = found.counts.get(place, level.start)
    if level.kind == "none":
        return ""
    if level.kind == "decimalZero":
        return f"{count:02}"
    if 0 < count < _MAX_NUMBER and level.kind.endswith(("Letter", "Roman")):
        text = _letters(count) if level.kind.endswith("Letter") else _roman(count)
        return text.lower() if level.kind.startswith("lower") else text
    return str(count)


def _letters(count: int) -> str:
    """A to Z, then AA to ZZ, as Word counts."""
    return chr(ord("A") + (count - 1) % 26) * ((count - 1) // 26 + 1)


def _roman(count: int) -> str:
    text = ""
    for value, sign in _ROMAN:
        text += sign * (count // value)
        count %= value
    return text

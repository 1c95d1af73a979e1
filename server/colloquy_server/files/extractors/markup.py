"""HTML as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from colloquy_server.files.extractors import plain_text, tables
from colloquy_server.files.extractors.results import Notes

_DATA = re.compile(r"\s*data:", re.I)
"""An address that is the file itself."""

_MAX_HTML = 8 << 20
"""Bytes of a page that are read: it may carry megabytes of scripts before its text."""


def read(file: BinaryIO, notes: Notes) -> Iterator[str]:
    """The text of a page."""
    from bs4 import BeautifulSoup
    from bs4.dammit import EncodingDetector

    data = file.read(_MAX_HTML + 1)
    if len(data) > _MAX_HTML:
        notes.say(f"only the first {_MAX_HTML >> 20} MiB of the page were read")
    data = data[:_MAX_HTML]
    # The library tells no guess from what a page says of itself.
    says = EncodingDetector.find_declared_encoding(data, is_html=True, search_entire_document=False)
    source = data if says else plain_text.decode(data, notes)
    yield markdown(shown(BeautifulSoup(source, "html.parser")))


def shown(page: Any) -> Any:
    """A parsed page without what people do not see of it as text."""
    for hidden in page(["script", "style", "template", "svg"]):
        hidden.decompose()
    if page.title is not None:
        page.title.name = "p"  # a line of its own
    return page


def markdown(page: Any) -> str:
    """A parsed page as Markdown; of pictures there is what is said to stand for them, of fields
    what they hold. A cell of a table stays in its column and on its line."""
    from markdownify import MarkdownConverter

    class Converter(MarkdownConverter):
        def convert_td(self, el: Any, text: str, parent_tags: set[str]) -> str:
            return f" {tables.cell(text)} |" + " |" * (_number(el, "colspan") - 1)

        convert_th = convert_td

        def convert_p(self, el: Any, text: str, parent_tags: set[str]) -> str:
            if parent_tags & {"td", "th"}:
                return f"{text}\n"
            return str(super().convert_p(el, text, parent_tags))  # type: ignore[misc]

        def convert_br(self, el: Any, text: str, parent_tags: set[str]) -> str:
            if parent_tags & {"td", "th"}:
                return "\n"
            return str(super().convert_br(el, text, parent_tags))  # type: ignore[misc]

    _put_in_words(page)
    _fill_spans(page)
    converted: str = Converter(heading_style="ATX", strip=["img"]).convert_soup(page)
    return converted


def _put_in_words(page: Any) -> None:
    """Puts pictures and fields as people see them, in words."""
    for picture in page.find_all("img"):
        said = " ".join(str(picture.get("alt", "")).split())
        picture.replace_with(f"[picture: {said}]" if said else "")
    for link in page.find_all("a", href=_DATA):
        link.unwrap()
    for field in page.find_all("input"):
        kind = str(field.get("type", "text")).lower()
        if kind in ("checkbox", "radio"):
            is_apart = str(field.next_sibling or " ")[0].isspace()
            box = _box(field.has_attr("checked"))
            field.replace_with(box if is_apart else f"{box} ")
        else:
            is_seen = kind not in ("hidden", "password", "image")
            field.replace_with(f" {field.get('value', '')} " if is_seen else "")
    for option in page.find_all("option"):
        option.insert(0, f" {_box(option.has_attr('selected'))} ")
        option.append(" ")


def _box(is_chosen: bool) -> str:
    return "[x]" if is_chosen else "[ ]"


def _fill_spans(page: Any) -> None:
    """Puts empty cells where one from above reaches down: Markdown has none that do."""
    for table in page.find_all("table"):
        below: dict[int, int] = {}  # how far down a column is taken
        for row in table.find_all("tr"):
            if row.find_parent("table") is not table:
                continue
            column = 0
            for cell in row.find_all(["td", "th"], recursive=False):
                while below.get(column, 0):
                    cell.insert_before(_empty_cell())
                    below[column] -= 1
                    column += 1
                down = _number(cell, "rowspan") - 1
                for _ in range(_number(cell, "colspan")):
                    below[column] = down
                    column += 1
            while below.get(column, 0):
                row.append(_empty_cell())
                below[column] -= 1
                column += 1


def _empty_cell() -> Any:
    from bs4 import BeautifulSoup

    return BeautifulSoup("<td></td>", "html.parser").td


def _number(cell: Any, name: str) -> int:
    """A span of a cell, up to the thousand that browsers take."""
    said = cell.get(name, "")
    return min(max(int(said), 1), 1_000) if said.isascii() and said.isdecimal() else 1

"""HTML as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from colloquy_server.files.extractors import plain_text
from colloquy_server.files.extractors.results import Notes

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
    for hidden in page(["script", "style", "template", "img", "svg"]):
        hidden.decompose()
    return page


def markdown(page: Any) -> str:
    """A parsed page as Markdown, without pictures."""
    from markdownify import MarkdownConverter

    converted: str = MarkdownConverter(heading_style="ATX", strip=["img"]).convert_soup(page)
    return converted

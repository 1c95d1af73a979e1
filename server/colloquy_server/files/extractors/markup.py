"""HTML as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from colloquy_server.files.extractors.results import Notes

_MAX_HTML = 8 << 20
"""Bytes of a page that are read: it may carry megabytes of scripts before its text."""


def read(file: BinaryIO, notes: Notes) -> Iterator[str]:
    """The text of a page."""
    from bs4 import BeautifulSoup

    data = file.read(_MAX_HTML + 1)
    if len(data) > _MAX_HTML:
        notes.say(f"only the first {_MAX_HTML >> 20} MiB of the page were read")
    page = BeautifulSoup(data[:_MAX_HTML], "html.parser")
    for hidden in page(["script", "style", "template", "img", "svg"]):
        hidden.decompose()
    yield markdown(page)


def markdown(page: Any) -> str:
    """A parsed page as Markdown, without pictures."""
    from markdownify import MarkdownConverter

    converted: str = MarkdownConverter(heading_style="ATX", strip=["img"]).convert_soup(page)
    return converted
